package netrunner

import (
	"sync/atomic"
	"time"

	"github.com/netrunner-go/netrunner/internal/shepherd"
)

// TotalStats are figures of all commands that this process has started, or has
// tried to start, since it began. Numbers only grow, but for Running. As JSON
// times are nanoseconds.
type TotalStats struct {
	Running    int64 `json:"running"`     // started, and its end is not known yet
	Started    int64 `json:"started"`     // Running and Ended together
	NotStarted int64 `json:"not_started"` // a StartError was returned

	Ended   int64 `json:"ended"`
	Failed  int64 `json:"failed"`  // of those that ended: Wait returns an error
	Stopped int64 `json:"stopped"` // of those that ended: told to, by Stop, Kill, context, timeout or limit
	Dropped int64 `json:"dropped"` // of those that ended: with ErrDropped
	Lost    int64 `json:"lost"`    // of those that ended: with ErrShepherdLost

	// These grow while commands run. Only what passes through the owner is
	// counted, as in Stats.
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
	BytesErr int64 `json:"bytes_err"`
	Writes   int64 `json:"writes"`
	Reads    int64 `json:"reads"`

	// These are of the commands that have ended.
	Duration   time.Duration `json:"duration_ns"` // the sum, also of those that ran side by side
	UserTime   time.Duration `json:"user_time_ns"`
	SystemTime time.Duration `json:"system_time_ns"`
	MaxRSS     int64         `json:"max_rss_bytes"`    // of the largest process of all
	Killed     int64         `json:"killed_processes"` // other than the commands, to clear their trees
	Left       int64         `json:"left_processes"`
}

// totals are what Totals reads.
var totals struct {
	started, notStarted, ended, failed, stopped, dropped, lost atomic.Int64

	counters
	duration, userTime, systemTime, maxRSS, killed, left atomic.Int64
}

// Totals returns the figures of all commands of this process. It allocates
// nothing, waits for nothing, and is safe for concurrent use. Each figure is
// exact, but one that changes meanwhile may be newer than another, so that
// Running is at times too large, and never too small.
//
// It has the shape of a metric: expvar.Func(func() any { return netrunner.Totals() })
// publishes it.
func Totals() TotalStats {
	t := &totals
	// The end first: a command that starts and ends meanwhile must not be less than none.
	s := TotalStats{Ended: t.ended.Load()}
	s.Started = t.started.Load()
	s.Running = s.Started - s.Ended
	s.NotStarted = t.notStarted.Load()
	s.Failed, s.Stopped, s.Dropped, s.Lost = t.failed.Load(), t.stopped.Load(), t.dropped.Load(), t.lost.Load()
	s.BytesIn, s.BytesOut, s.BytesErr = t.bytesIn.Load(), t.bytesOut.Load(), t.bytesErr.Load()
	s.Writes, s.Reads = t.writes.Load(), t.reads.Load()
	s.Duration, s.UserTime, s.SystemTime = time.Duration(t.duration.Load()), time.Duration(t.userTime.Load()), time.Duration(t.systemTime.Load())
	s.MaxRSS, s.Killed, s.Left = t.maxRSS.Load(), t.killed.Load(), t.left.Load()
	return s
}

// countEnd adds a command whose result is known.
func (r *run) countEnd(ended *shepherd.Ended) {
	t := &totals
	count := func(to *atomic.Int64, yes bool) {
		if yes {
			to.Add(1)
		}
	}
	count(&t.failed, r.err != nil)
	count(&t.stopped, r.stopped.Load())
	count(&t.dropped, r.state == nil && r.dropped.Load())
	count(&t.lost, r.state == nil && !r.dropped.Load())
	t.duration.Add(int64(r.duration))
	t.userTime.Add(int64(ended.Usage.UserTime))
	t.systemTime.Add(int64(ended.Usage.SystemTime))
	for rss := ended.Usage.MaxRSS; ; {
		most := t.maxRSS.Load()
		if rss <= most || t.maxRSS.CompareAndSwap(most, rss) {
			break
		}
	}
	t.killed.Add(int64(ended.Killed))
	t.left.Add(int64(ended.Left))
	t.ended.Add(1) // the last: who sees it sees what it has added
}
