package exec

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
)

// Process is a command that was started. It has the methods of [os.Process], which are safe
// for concurrent use, but for Release.
type Process struct {
	Pid int

	process *netrunner.Process
	alone   bool // what it has started is not its end's concern
}

const released = -1 // as Pid

func (p *Process) check() error {
	switch {
	case p.Pid == released:
		return errors.New("os: process already released")
	case p.process == nil:
		return errors.New("os: process not initialized")
	}
	return nil
}

// Kill ends the command and all that it has started with SIGKILL, and does not wait for
// that. If Cmd.Leftovers leaves what it has started, only the command is killed.
// [os.ErrProcessDone] says that it has ended.
func (p *Process) Kill() error {
	if err := p.check(); err != nil {
		return err
	}
	if p.alone {
		return p.Signal(os.Kill)
	}
	return done(p.process.Kill())
}

// Signal sends a signal to the command, and to nobody else. [os.ErrProcessDone] says that
// it has ended. Signal 0 only asks that.
func (p *Process) Signal(signal os.Signal) error {
	if err := p.check(); err != nil {
		return err
	}
	number, ok := signal.(syscall.Signal)
	if !ok {
		return errors.New("os: unsupported signal type")
	}
	var sent error
	err := p.process.WithHandle(func(handle uintptr) {
		sent = unix.PidfdSendSignal(int(handle), number, nil, 0)
	})
	switch {
	case errors.Is(err, os.ErrNoHandle):
		return done(p.process.Signal(number)) // by the shepherd, to the process group if the command leads one
	case err != nil:
		return err
	case sent == unix.ESRCH:
		return os.ErrProcessDone
	}
	return sent
}

// done is os.ErrProcessDone itself where an error wraps it: callers of os/exec may compare.
func done(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return os.ErrProcessDone
	}
	return err
}

// Wait is like Cmd.Wait, but that a command that fails is no error, and the Cmd's
// files stay open. It may be called more than once.
func (p *Process) Wait() (*ProcessState, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	state, err := p.process.Wait()
	if state == nil {
		return nil, err
	}
	return &ProcessState{state}, nil
}

// Release makes the Process unusable. The command runs on as long as this process does.
func (p *Process) Release() error {
	if err := p.check(); err != nil {
		return err
	}
	p.Pid = released
	return nil
}

// WithHandle calls a function with a pidfd of the command, which is valid until the
// function returns. [os.ErrNoHandle] says that there is none.
func (p *Process) WithHandle(f func(handle uintptr)) error {
	if err := p.check(); err != nil {
		return err
	}
	return p.process.WithHandle(f)
}

// ProcessState is how a command ended. It has the methods of [os.ProcessState].
type ProcessState struct{ state *netrunner.State }

// ExitCode returns the exit status, or -1 when a signal ended the command, and for a nil
// ProcessState.
func (s *ProcessState) ExitCode() int {
	if s == nil {
		return -1
	}
	return s.state.ExitCode()
}

// Exited reports whether the command has exited, rather than being ended by a signal.
func (s *ProcessState) Exited() bool { return s.state.WaitStatus().Exited() }

// Pid returns the process id that the command had.
func (s *ProcessState) Pid() int { return s.state.PID() }

// String reads like: exit status 2; or: signal: killed.
func (s *ProcessState) String() string {
	if s == nil {
		return "<nil>"
	}
	return s.state.String()
}

// Success reports whether the command exited with status zero.
func (s *ProcessState) Success() bool { return s.state.Success() }

// Sys returns a [syscall.WaitStatus].
func (s *ProcessState) Sys() any { return s.state.WaitStatus() }

// SysUsage returns a [*syscall.Rusage] of the whole tree, without the fields that
// Linux does not maintain (man 2 getrusage) and without counts of blocks.
func (s *ProcessState) SysUsage() any {
	stats := s.state.Stats()
	return &syscall.Rusage{
		Utime:  syscall.NsecToTimeval(stats.UserTime.Nanoseconds()),
		Stime:  syscall.NsecToTimeval(stats.SystemTime.Nanoseconds()),
		Maxrss: stats.MaxRSS >> 10,
		Minflt: stats.MinorFaults,
		Majflt: stats.MajorFaults,
		Nvcsw:  stats.VoluntarySwitches,
		Nivcsw: stats.InvoluntarySwitches,
	}
}

// UserTime returns the time that the whole tree has spent in user mode.
func (s *ProcessState) UserTime() time.Duration { return s.state.Stats().UserTime }

// SystemTime returns the time that the whole tree has spent in the kernel.
func (s *ProcessState) SystemTime() time.Duration { return s.state.Stats().SystemTime }
