// Package shepherd starts commands under shepherds: small processes that kill
// everything their command has started as soon as the owner is gone. It knows
// processes and frames; what is read from and written to a command passes it by.
package shepherd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Spec says what to start. The descriptors stay the caller's.
type Spec struct {
	Path        string
	Args        []string // the first is the command's own name
	Env         []string
	Descriptors []int // become 0, 1, 2, …; NullDevice stands for /dev/null
	Directory   int   // descriptor of the directory in which the command begins; NullDevice when Attributes.Directory needs none
	StopSignal  syscall.Signal
	Grace       time.Duration
	Leave       bool // what the command leaves behind stays
	Attributes  Attributes
	Unawaited   bool // the caller has nothing to do before the end: Start may return some milliseconds late
}

// NullDevice as a descriptor of a Spec is /dev/null, open for reading and writing.
const NullDevice = -1

// descriptors are all that go with the request: the command's, then those that
// are gone when the program runs, the directory last.
func (spec *Spec) descriptors(null int) []int {
	all := make([]int, 0, len(spec.Descriptors)+2)
	for _, fd := range spec.Descriptors {
		if fd == NullDevice {
			fd = null
		}
		all = append(all, fd)
	}
	if spec.Attributes.Foreground {
		all = append(all, spec.Attributes.Foremost)
	}
	if spec.Directory == NullDevice {
		return append(all, null)
	}
	return append(all, spec.Directory)
}

// setup is that of the command; it has to know where the descriptors will be.
func (spec *Spec) setup() (s *setup, descriptors int) {
	descriptors = len(spec.Descriptors) + 1
	if spec.Attributes.Foreground {
		descriptors++
	}
	directory := descriptors - 1
	if spec.Directory == NullDevice {
		directory = -1
	}
	return setupOf(&spec.Attributes, directory, len(spec.Descriptors)), descriptors
}

// MaxDescriptors is how many descriptors a command can be given: what one
// message can carry (SCM_MAX_FD, man 7 unix), less its directory; one less with
// Attributes.Foreground.
const MaxDescriptors = 252

// maxStrings is more than any kernel takes for arguments and environment: three
// quarters of an 8 MiB stack (man 2 execve).
const maxStrings = 64 << 20

// startPatience is how long a start goes on when its context has ended: a
// command that is about to run is better stopped like any other, since then its
// end is waited for. One that hangs, say on a dead file system, is given up.
const startPatience = time.Second

// Bits of startRequest.Flags.
const (
	flagLeave     = 1 << 0
	flagAlone     = 1 << 1
	flagUnawaited = 1 << 2
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

// StartError is a step of starting that failed.
type StartError struct {
	Step Step
	Err  error // the step's errno
}

func (e *StartError) Error() string { return e.Step.String() + ": " + e.Err.Error() }

// Unwrap returns the errno.
func (e *StartError) Unwrap() error { return e.Err }

func (s Step) String() string {
	if name, ok := stepNames[s]; ok {
		return name
	}
	return fmt.Sprintf("step %d", uint32(s))
}

// LostError says that a shepherd died under its command. What the command had
// started is killed by the watcher.
type LostError struct {
	Left int   // processes that the watcher could not kill
	Err  error // why it is not known whether all are gone, or nil
}

func (e *LostError) Error() string {
	switch {
	case e.Err != nil:
		return "the shepherd was killed: " + e.Err.Error()
	case e.Left > 0:
		return fmt.Sprintf("the shepherd was killed: %d processes could not be killed after it", e.Left)
	}
	return "the shepherd was killed, and the command with it"
}

// Unwrap returns what kept the clean-up from being confirmed.
func (e *LostError) Unwrap() error { return e.Err }

// errStillborn says that a shepherd hung up before its first word, so that it
// can't have started anything.
var errStillborn = errors.New("the shepherd did not come to life")

// errUntaken says that a shepherd is gone and has not taken a request.
var errUntaken = errors.New("the shepherd took no request")

// Shepherd is a connection with one shepherd, which runs one command after the other.
type Shepherd struct {
	sock    *socket
	watcher *watcher
	fresh   bool // it has not said yet that it is there
	pid     int
}

// start sends the request and waits until the command runs. When it returns an
// error, the shepherd has been given back or dropped.
func (s *Shepherd) start(ctx context.Context, request []byte, descriptors []int) (*Running, error) {
	r, err := s.converse(ctx, request, descriptors)
	var refused *refusedError
	switch {
	case err == nil:
		return r, nil
	case errors.Is(err, io.EOF) && !s.fresh:
		err = s.lost(err)
	case errors.Is(err, io.EOF):
		err = errStillborn
	case errors.As(err, &refused):
		if err = refused.StartError; refused.reusable {
			idle.put(s)
			return nil, err
		}
	}
	idle.drop(s)
	return nil, err
}

func (s *Shepherd) converse(ctx context.Context, request []byte, descriptors []int) (*Running, error) {
	if ctx.Done() != nil {
		interrupted := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			s.sock.interrupt(startPatience)
			close(interrupted)
		})
		defer func() {
			if !stop() {
				<-interrupted
				s.sock.resume()
			}
		}()
	}
	written, err := s.sock.send(request, descriptors)
	if err != nil && written == 0 && !s.fresh && !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errUntaken
	}
	// Even when not all was taken, the reason may be there to be read.
	for {
		ev, err := s.sock.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, context.Cause(ctx)
		}
		// The strings are the last of a request: as long as they were not read, no
		// program has run. An idle shepherd may have exited at this very moment.
		if errors.Is(err, errUnread) && !s.fresh {
			return nil, errUntaken
		}
		if err != nil {
			return nil, err
		}
		if r, err := s.starting(ev); r != nil || err != nil {
			return r, err
		}
	}
}

// refusedError is a StartError as the shepherd reports it.
type refusedError struct {
	*StartError
	reusable bool // the shepherd is ready for another command
}

// starting takes one event of a command that does not run yet.
func (s *Shepherd) starting(ev event) (*Running, error) {
	switch ev.kind {
	case eventReady:
		ready, err := decode[readyEvent](ev)
		s.pid, s.fresh = int(ready.Shepherd), false
		return nil, err
	case eventStarted:
		started, err := decode[startedEvent](ev)
		if err != nil {
			return nil, err
		}
		return &Running{shepherd: s, pid: int(started.Command), pidfd: s.sock.takePidfd()}, nil
	case eventFailed:
		failed, err := decode[failedEvent](ev)
		if err != nil {
			return nil, err
		}
		return nil, &refusedError{&StartError{Step(failed.Step), syscall.Errno(failed.Error)}, failed.Reusable != 0}
	}
	return nil, fmt.Errorf("%w: event %d before the command runs", errMalformed, ev.kind)
}

// appendStart appends the request and its strings.
func appendStart(b []byte, spec *Spec) ([]byte, error) {
	size := len(spec.Path) + 1
	for _, list := range [][]string{spec.Args, spec.Env} {
		for _, s := range list {
			size += len(s) + 1
		}
	}
	if size > maxStrings {
		return nil, &StartError{StepExec, syscall.E2BIG}
	}
	flags := uint32(0)
	if spec.Leave {
		flags |= flagLeave
	}
	if spec.Attributes.alone() {
		flags |= flagAlone
	}
	if spec.Unawaited {
		flags |= flagUnawaited
	}
	setup, descriptors := spec.setup()
	b = slices.Grow(b, headSize+binary.Size(startRequest{})+setup.size()+size)
	b = startRequest{
		Grace:       uint64(max(spec.Grace, 0)),
		StopSignal:  uint32(spec.StopSignal),
		Flags:       flags,
		Descriptors: uint32(descriptors),
		Arguments:   uint32(len(spec.Args)),
		Environment: uint32(len(spec.Env)),
		Calls:       uint32(len(setup.calls)),
		Setup:       uint32(setup.size()),
		Strings:     uint32(size),
	}.append(b)
	b = setup.append(b)
	b = append(append(b, spec.Path...), 0)
	for _, list := range [][]string{spec.Args, spec.Env} {
		for _, s := range list {
			b = append(append(b, s...), 0)
		}
	}
	return b, nil
}

// Running is a command under its shepherd. Its methods may be called from
// several goroutines; Wait by one.
type Running struct {
	pid int

	mu       sync.Mutex
	shepherd *Shepherd // nil once the command has ended

	handle sync.RWMutex
	pidfd  int  // -1 when the kernel has none
	closed bool // the pidfd, since the command has ended
}

// PID is the command's process id.
func (r *Running) PID() int { return r.pid }

// Signal sends a signal to the command's process group, or to the command if it leads none.
func (r *Running) Signal(number syscall.Signal) error {
	return r.request(signalRequest{Signal: uint32(number)}.append(nil))
}

// Stop sends the stop signal and, when the grace is over, SIGKILL to the tree.
func (r *Running) Stop() error { return r.request(stopRequest{}.append(nil)) }

// Kill sends SIGKILL to the tree.
func (r *Running) Kill() error { return r.request(killRequest{}.append(nil)) }

func (r *Running) request(frame []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shepherd == nil {
		return os.ErrProcessDone
	}
	_, err := r.shepherd.sock.send(frame, nil)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrClosed) {
		return os.ErrProcessDone // the shepherd is gone, and takes the command along; Wait says so
	}
	return err
}

func (r *Running) closeHandle() {
	r.handle.Lock()
	defer r.handle.Unlock()
	r.closed = true
	if r.pidfd >= 0 {
		_ = unix.Close(r.pidfd)
	}
}

// WithPidfd calls f with the command's pidfd, as long as that stands for it. f must not wait
// for the command's end.
func (r *Running) WithPidfd(f func(pidfd uintptr)) error {
	r.handle.RLock()
	defer r.handle.RUnlock()
	switch {
	case r.closed:
		return os.ErrProcessDone
	case r.pidfd < 0:
		return os.ErrNoHandle
	}
	f(uintptr(r.pidfd))
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

// Abandon hangs up, as if the owner had died: the command is stopped, then killed.
func (r *Running) Abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shepherd != nil {
		r.shepherd.sock.interrupt(0)
	}
}

// Wait returns when the command and its tree are gone (or left, as the Spec
// has it), and gives the shepherd back.
func (r *Running) Wait() (Ended, error) {
	s := r.shepherd // set until this method unsets it
	ev, err := s.sock.receive()
	var ended endedEvent
	if err == nil && ev.kind != eventEnded {
		err = fmt.Errorf("%w: event %d while the command runs", errMalformed, ev.kind)
	}
	if err == nil {
		ended, err = decode[endedEvent](ev)
	}
	r.mu.Lock()
	r.shepherd = nil
	r.mu.Unlock()
	r.closeHandle()
	if err != nil {
		err = s.lost(err)
		idle.drop(s)
		return Ended{}, err
	}
	if ended.Reusable != 0 {
		idle.put(s)
	} else {
		idle.drop(s)
	}
	return Ended{
		Status: syscall.WaitStatus(ended.Status),
		Usage: Usage{
			UserTime:            time.Duration(ended.UserTime) * time.Microsecond,
			SystemTime:          time.Duration(ended.SystemTime) * time.Microsecond,
			MaxRSS:              int64(ended.MaxRss) << 10,
			MinorFaults:         int64(ended.MinorFaults),
			MajorFaults:         int64(ended.MajorFaults),
			VoluntarySwitches:   int64(ended.VoluntarySwitches),
			InvoluntarySwitches: int64(ended.InvoluntarySwitches),
		},
		Killed:   int(ended.Killed),
		Left:     int(ended.Left),
		LeftPIDs: leftPIDs(&ended),
	}, nil
}

func leftPIDs(ended *endedEvent) (pids []int) {
	for _, pid := range ended.LeftPids[:min(int(ended.Left), len(ended.LeftPids))] {
		pids = append(pids, int(pid))
	}
	return pids
}

// lost turns the end of the connection into an error, when the watcher has
// cleared what the shepherd left.
func (s *Shepherd) lost(err error) error {
	if !errors.Is(err, io.EOF) {
		return &LostError{Err: err}
	}
	left, err := s.watcher.settle(s.pid)
	return &LostError{Left: left, Err: err}
}
