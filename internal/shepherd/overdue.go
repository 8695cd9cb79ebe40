package shepherd

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A shepherd that was stopped, by the very command that it guards perhaps
// (kill -STOP $PPID), ends nothing. So the owner has a deadline of its own: when
// the end is overdue by overdueMargin, the watcher is asked to continue the
// shepherd, and again each overdueMargin later. What is not over after
// overduePause is ended by killing the shepherd: then the watcher clears its
// tree. The pause is long, since a machine may be slow, and to lose a shepherd
// that works is to lose how its command ended.
const (
	overdueMargin = time.Second
	overduePause  = 30 * time.Second
)

// overdue presses for the end of a command that was told to end.
type overdue struct {
	timer *time.Timer
	from  time.Time // when the end should have been seen
}

// expectEnd begins to press when the grace is over, unless that has begun
// earlier. r.mu is held.
func (r *Running) expectEnd(grace time.Duration) {
	from := time.Now().Add(grace)
	switch {
	case r.overdue == nil:
		r.overdue = &overdue{time.AfterFunc(grace+overdueMargin, r.press), from}
	case from.Before(r.overdue.from):
		r.overdue.from = from
		r.overdue.timer.Reset(grace + overdueMargin)
	}
}

func (r *Running) press() {
	r.mu.Lock()
	var act func()
	switch {
	case r.phase == over:
	case time.Since(r.overdue.from) < overduePause:
		act = func() { r.shepherd.nudge(unix.SIGCONT) } // which does no harm if it is over by then
		r.overdue.timer.Reset(overdueMargin)
	default:
		r.phase = condemned // from here on it is not used again, whatever it says
		act = r.shepherd.kill
	}
	r.mu.Unlock()
	if act != nil {
		act()
	}
}

// nudge asks the watcher to send a signal to the shepherd: its parent alone knows
// that the number is still its.
func (s *Shepherd) nudge(signal unix.Signal) {
	pid := s.pid.Load()
	if pid == 0 {
		return
	}
	s.watcher.wake() // somebody may have stopped both
	ctx, cancel := context.WithTimeout(context.Background(), overdueMargin)
	defer cancel()
	_ = s.watcher.send(ctx, nudgeRequest{Shepherd: uint32(pid), Signal: uint32(signal)}.append(nil)) // it is asked again, or gone
}

// rouseAfter is when a start is late enough for somebody to be stopped.
const rouseAfter = 300 * time.Millisecond

// rouse continues the shepherd, and the watcher which may have to fork it first,
// again and again while a start takes its time. What it returns ends that.
func (s *Shepherd) rouse() (stop func()) {
	var mu sync.Mutex
	var stopped bool
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(rouseAfter, func() {
		s.watcher.wake() // which may have to fork it first
		s.nudge(unix.SIGCONT)
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			timer.Reset(overdueMargin)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// kill has the shepherd killed and its tree cleared by the watcher. Where the
// connection does not end by that, as somebody else holds its other end, it is given up.
func (s *Shepherd) kill() {
	s.nudge(unix.SIGKILL)
	_, _ = s.watcher.settle(int(s.pid.Load())) // whoever receives from the shepherd asks again
	s.sock.giveUp()
}

// seeOff hangs up on a shepherd and waits until it has heard that, for which it
// is continued, or killed, if need be. Whoever calls it is the only one to receive.
func (s *Shepherd) seeOff() {
	s.sock.hangUp()
	for since := time.Now(); !s.sock.drained(overdueMargin); {
		switch {
		case s.pid.Load() == 0: // unknown to everybody but the watcher, which is its guard
			return
		case time.Since(since) < overduePause:
			s.nudge(unix.SIGCONT)
		default:
			s.kill()
			return
		}
	}
}
