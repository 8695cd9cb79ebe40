package shepherd

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ended is how a command ended.
type Ended struct {
	Status   syscall.WaitStatus
	Usage    Usage
	Killed   int   // processes other than the command that were killed to clear its tree
	Left     int   // processes that are still there
	LeftPIDs []int // the first of them
}

// Usage is what the whole tree has used, as far as it has been waited for (man 2 getrusage).
type Usage struct {
	UserTime, SystemTime                   time.Duration
	MaxRSS                                 int64 // bytes, the largest process
	MinorFaults, MajorFaults               int64
	VoluntarySwitches, InvoluntarySwitches int64
}

// Running is a command under its shepherd. Its methods may be called from
// several goroutines; Wait by one.
type Running struct {
	pid      int
	shepherd *Shepherd
	grace    time.Duration // from the stop signal to SIGKILL

	mu      sync.Mutex // held for no longer than a send that does not wait
	phase   phase
	unsent  []byte      // a stop or a kill for which there was no room yet
	resend  *time.Timer // tries it again
	overdue *overdue    // since it was told to end
	parted  func()      // to be called when an abandoned one is dropped; else nil

	handle sync.Mutex // held for no longer than the next three are looked at
	pidfd  int        // -1 when the kernel has none
	users  int        // of the pidfd: the last of them closes it
	closed bool       // to new users, since the command has ended
}

// phase is how far a command is, as the owner knows it.
type phase int

const (
	goesOn    phase = iota
	abandoned       // the owner has hung up on the shepherd
	condemned       // the shepherd is being killed, since the end is overdue
	over            // the shepherd is no longer this command's
)

// PID is the command's process id.
func (r *Running) PID() int { return r.pid }

// errBusy says that a shepherd, which may be stopped, has not read what it was sent before.
var errBusy = fmt.Errorf("the shepherd reads no requests: %w", unix.EAGAIN)

// Signal sends a signal to the command's process group, or to the command if it leads none.
func (r *Running) Signal(number syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase != goesOn {
		return os.ErrProcessDone
	}
	sent := r.shepherd.sock.sendNow(signalRequest{Signal: uint32(number)}.append(nil))
	switch {
	case peerGone(sent.err): // it takes the command along; Wait says so
		return os.ErrProcessDone
	case errors.Is(sent.err, unix.EAGAIN):
		return errBusy
	}
	return sent.err
}

// Stop sends the stop signal and, when the grace is over, SIGKILL to the tree.
func (r *Running) Stop() error { return r.end(stopRequest{}.append(nil), r.grace) }

// Kill sends SIGKILL to the tree.
func (r *Running) Kill() error { return r.end(killRequest{}.append(nil), 0) }

// end makes the command end within the grace. Where there is no room for the
// request it is sent later: the caller does not wait for a shepherd that is stopped.
func (r *Running) end(request []byte, grace time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase != goesOn {
		return os.ErrProcessDone
	}
	if r.unsent == nil || grace == 0 { // a kill that waits is not replaced by a stop
		r.unsent = request
	}
	err := r.sendUnsent()
	if err == nil {
		r.expectEnd(grace)
	}
	return err
}

// retryAfter is when a request is sent again for which there was no room.
const retryAfter = 20 * time.Millisecond

// sendUnsent is called with r.mu held.
func (r *Running) sendUnsent() error {
	sent := r.shepherd.sock.sendNow(r.unsent)
	if errors.Is(sent.err, unix.EAGAIN) {
		r.unsent = r.unsent[sent.written:]
		if r.resend == nil {
			r.resend = time.AfterFunc(retryAfter, r.sendAgain)
		} else {
			r.resend.Reset(retryAfter)
		}
		return nil
	}
	r.unsent = nil
	if peerGone(sent.err) {
		return os.ErrProcessDone
	}
	return sent.err
}

func (r *Running) sendAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase == goesOn && r.unsent != nil {
		_ = r.sendUnsent() // when the shepherd has gone, Wait says so
	}
}

// Abandon hangs up, as if the owner had died: the command is stopped, then killed.
func (r *Running) Abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase == goesOn {
		r.phase = abandoned
		r.parted = idle.parting(r.shepherd)
		r.shepherd.sock.hangUp()
		r.expectEnd(0) // of the connection: a shepherd that works hangs up at once
	}
}

// Wait returns when the command and its tree are gone (or left, as the Spec
// has it), and gives the shepherd back.
func (r *Running) Wait() (Ended, error) {
	ended, reusable, err := r.awaitEnd()
	before := r.finish()
	if r.parted != nil { // which Abandon can't set any more
		defer r.parted()
	}
	r.closeHandle()
	if err == nil && reusable && before == goesOn && r.shepherd.sock.clean() {
		idle.put(r.shepherd)
		return ended, nil
	}
	if err != nil {
		lost := &LostError{Err: errAbandoned}
		if before != abandoned {
			lost = r.shepherd.lost(err)
		}
		idle.drop(r.shepherd)
		return Ended{}, lost
	}
	idle.drop(r.shepherd)
	return ended, nil
}

func (r *Running) awaitEnd() (ended Ended, reusable bool, err error) {
	ev, err := r.shepherd.sock.receive()
	if err != nil {
		return Ended{}, false, err
	}
	if ev.kind != eventEnded {
		return Ended{}, false, fmt.Errorf("%w: event %d while the command runs", errMalformed, ev.kind)
	}
	fields, err := decode[endedEvent](ev)
	if err != nil {
		return Ended{}, false, err
	}
	return endedOf(&fields), fields.Reusable != 0, nil
}

// finish is when nothing more is sent for this command. It returns the phase before.
func (r *Running) finish() phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.phase
	r.phase = over
	if r.resend != nil {
		r.resend.Stop()
	}
	if r.overdue != nil {
		r.overdue.timer.Stop()
	}
	return before
}

func (r *Running) closeHandle() {
	r.handle.Lock()
	defer r.handle.Unlock()
	r.closed = true
	r.closeUnused()
}

// closeUnused is called with the lock held, and once with no user left.
func (r *Running) closeUnused() {
	if r.closed && r.users == 0 && r.pidfd >= 0 {
		_ = unix.Close(r.pidfd)
	}
}

// WithPidfd calls f with the command's pidfd, which is open until f returns. No
// lock is held: f may wait for the command's end.
func (r *Running) WithPidfd(f func(pidfd uintptr)) error {
	if err := r.usePidfd(); err != nil {
		return err
	}
	defer func() { // also when f panics
		r.handle.Lock()
		defer r.handle.Unlock()
		r.users--
		r.closeUnused()
	}()
	f(uintptr(r.pidfd))
	return nil
}

func (r *Running) usePidfd() error {
	r.handle.Lock()
	defer r.handle.Unlock()
	switch {
	case r.closed:
		return os.ErrProcessDone
	case r.pidfd < 0:
		return os.ErrNoHandle
	}
	r.users++
	return nil
}

// DuplicatePidfd returns a pidfd of the command for somebody else to close, or -1.
func (r *Running) DuplicatePidfd() int {
	duplicate := -1
	_ = r.WithPidfd(func(pidfd uintptr) { // else it stays -1
		if fd, err := unix.FcntlInt(pidfd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			duplicate = fd
		}
	})
	return duplicate
}

// endedOf reads what a shepherd has said. A command of the same user can take the
// shepherd's place and lie (SECURITY.md): a figure may be false, but not absurd.
func endedOf(e *endedEvent) Ended {
	return Ended{
		Status: syscall.WaitStatus(e.Status),
		Usage: Usage{
			UserTime:            microseconds(e.UserTime),
			SystemTime:          microseconds(e.SystemTime),
			MaxRSS:              clamp(e.MaxRss, math.MaxInt64>>10) << 10,
			MinorFaults:         clamp(e.MinorFaults, math.MaxInt64),
			MajorFaults:         clamp(e.MajorFaults, math.MaxInt64),
			VoluntarySwitches:   clamp(e.VoluntarySwitches, math.MaxInt64),
			InvoluntarySwitches: clamp(e.InvoluntarySwitches, math.MaxInt64),
		},
		Killed:   int(clamp(uint64(e.Killed), math.MaxInt32)),
		Left:     int(clamp(uint64(e.Left), math.MaxInt32)),
		LeftPIDs: leftPIDs(e),
	}
}

func clamp(figure uint64, most int64) int64 { return int64(min(figure, uint64(most))) }

func microseconds(figure uint64) time.Duration {
	return time.Duration(clamp(figure, math.MaxInt64/int64(time.Microsecond))) * time.Microsecond
}

// pidLimit is more than any process id: PID_MAX_LIMIT of a 64-bit kernel (man 5 proc).
const pidLimit = 4 << 20

func leftPIDs(e *endedEvent) (pids []int) {
	for _, pid := range e.LeftPids[:min(int(e.Left), len(e.LeftPids))] {
		if pid > 0 && pid < pidLimit {
			pids = append(pids, int(pid))
		}
	}
	return pids
}
