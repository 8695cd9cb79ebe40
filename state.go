package netrunner

import (
	"log/slog"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// State is how a command ended.
type State struct {
	pid      int
	status   syscall.WaitStatus
	stats    Stats
	counters *counters
}

// PID returns the process id that the command had.
func (s *State) PID() int { return s.pid }

// ExitCode returns the exit status, or -1 when a signal ended the command, or
// when it could not be killed and still runs.
func (s *State) ExitCode() int { return s.status.ExitStatus() }

// Signal returns the signal that ended the command, or zero.
func (s *State) Signal() syscall.Signal {
	if s.status.Signaled() {
		return s.status.Signal()
	}
	return 0
}

// WaitStatus returns the status as wait gives it (man 2 wait), with whether a core
// was dumped.
func (s *State) WaitStatus() syscall.WaitStatus { return s.status }

// Success reports whether the command exited with status zero.
func (s *State) Success() bool { return s.status == 0 }

// Stats returns the figures. They are final, but for what is still read from a
// [PipeReader] after the end.
func (s *State) Stats() Stats {
	stats := s.stats
	s.counters.load(&stats)
	return stats
}

// String reads like: exit status 2; or: signal: killed.
func (s *State) String() string {
	switch {
	case s.status.Exited():
		return "exit status " + strconv.Itoa(s.status.ExitStatus())
	case s.status.Continued():
		return "still running"
	case s.status.CoreDump():
		return "signal: " + s.status.Signal().String() + " (core dumped)"
	}
	return "signal: " + s.status.Signal().String()
}

// LogValue is a group of what one looks for first: pid, exit_code or signal, and
// the most telling figures. What was killed or left is there when it is not
// zero. [State.Stats] logs all figures. A nil State logs as nil.
func (s *State) LogValue() slog.Value {
	if s == nil {
		return slog.AnyValue(nil)
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.Int("pid", s.pid))
	if signal := s.Signal(); signal != 0 {
		attrs = append(attrs, slog.String("signal", signalName(signal)))
	} else {
		attrs = append(attrs, slog.Int("exit_code", s.ExitCode()))
	}
	attrs = append(attrs,
		slog.Duration("duration", s.stats.Duration),
		slog.Duration("user_time", s.stats.UserTime),
		slog.Duration("system_time", s.stats.SystemTime),
		slog.Int64("max_rss_bytes", s.stats.MaxRSS))
	if s.stats.Killed > 0 {
		attrs = append(attrs, slog.Int("killed_processes", s.stats.Killed))
	}
	if s.stats.Left > 0 {
		attrs = append(attrs, slog.Int("left_processes", s.stats.Left))
	}
	return slog.GroupValue(attrs...)
}

// signalName is SIGKILL rather than "killed", and a number for those that have no name.
func signalName(signal syscall.Signal) string {
	if name := unix.SignalName(signal); name != "" {
		return name
	}
	return strconv.Itoa(int(signal))
}

// Stats are figures of one command. The first group counts all the time, the
// second is known when the command has ended.
//
// Only what passes through the owner is counted: a command that was given an
// *os.File writes to it by itself.
type Stats struct {
	BytesIn  int64 // written to standard input
	BytesOut int64 // read from standard output
	BytesErr int64 // read from standard error
	Writes   int64 // calls that wrote standard input
	Reads    int64 // calls that read standard output or error, the last, empty one included
	Start    time.Time
	Duration time.Duration // until now, or until the tree was gone

	ExitCode int // -1 as long as the command runs, and when a signal ended it

	// The whole tree: the command and every descendant that it or its shepherd
	// has waited for (man 2 getrusage).
	UserTime            time.Duration
	SystemTime          time.Duration
	MaxRSS              int64 // bytes, of the largest process
	MinorFaults         int64 // without I/O
	MajorFaults         int64 // with I/O
	VoluntarySwitches   int64 // context switches by waiting
	InvoluntarySwitches int64 // context switches by the scheduler

	Killed int // processes other than the command that were killed to clear its tree
	Left   int // processes that were left
}

// LogValue is a group of all figures, with their units in the keys; times are durations.
func (s Stats) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Int64("bytes_in", s.BytesIn),
		slog.Int64("bytes_out", s.BytesOut),
		slog.Int64("bytes_err", s.BytesErr),
		slog.Int64("writes", s.Writes),
		slog.Int64("reads", s.Reads),
		slog.Time("start", s.Start),
		slog.Duration("duration", s.Duration),
		slog.Int("exit_code", s.ExitCode),
		slog.Duration("user_time", s.UserTime),
		slog.Duration("system_time", s.SystemTime),
		slog.Int64("max_rss_bytes", s.MaxRSS),
		slog.Int64("minor_faults", s.MinorFaults),
		slog.Int64("major_faults", s.MajorFaults),
		slog.Int64("voluntary_switches", s.VoluntarySwitches),
		slog.Int64("involuntary_switches", s.InvoluntarySwitches),
		slog.Int("killed_processes", s.Killed),
		slog.Int("left_processes", s.Left),
	)
}

// add adds the figures of another command: sums, but for Start, which is the
// earlier one, for MaxRSS, which is the larger, and for ExitCode, which stays.
func (s *Stats) add(other *Stats) {
	if s.Start.IsZero() || other.Start.Before(s.Start) {
		s.Start = other.Start
	}
	s.BytesIn += other.BytesIn
	s.BytesOut += other.BytesOut
	s.BytesErr += other.BytesErr
	s.Writes += other.Writes
	s.Reads += other.Reads
	s.Duration += other.Duration
	s.UserTime += other.UserTime
	s.SystemTime += other.SystemTime
	s.MaxRSS = max(s.MaxRSS, other.MaxRSS)
	s.MinorFaults += other.MinorFaults
	s.MajorFaults += other.MajorFaults
	s.VoluntarySwitches += other.VoluntarySwitches
	s.InvoluntarySwitches += other.InvoluntarySwitches
	s.Killed += other.Killed
	s.Left += other.Left
}

// counters are the figures that change while a command runs.
type counters struct {
	bytesIn, bytesOut, bytesErr, writes, reads atomic.Int64
}

// read counts one call that has read n bytes of bytesOut or bytesErr.
func (c *counters) read(bytes *atomic.Int64, n int) {
	c.reads.Add(1)
	bytes.Add(int64(n))
	totals.reads.Add(1)
	if bytes == &c.bytesErr {
		totals.bytesErr.Add(int64(n))
	} else {
		totals.bytesOut.Add(int64(n))
	}
}

// wrote counts one call that has written n bytes of standard input.
func (c *counters) wrote(n int) {
	c.writes.Add(1)
	c.bytesIn.Add(int64(n))
	totals.writes.Add(1)
	totals.bytesIn.Add(int64(n))
}

func (c *counters) load(s *Stats) {
	s.BytesIn, s.BytesOut, s.BytesErr = c.bytesIn.Load(), c.bytesOut.Load(), c.bytesErr.Load()
	s.Writes, s.Reads = c.writes.Load(), c.reads.Load()
}
