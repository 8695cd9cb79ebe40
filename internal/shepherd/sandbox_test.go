package shepherd

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// What a sandbox may refuse: every call of the helper's, in each of the ways in which it may be refused.

var refusals = []struct {
	name   string
	denial proctest.Denial
	step   Step          // of which the owner is told; none: the helper does without
	silent bool          // it can't be told of anything
	unless syscall.Errno // refused so, the helper does without all the same
}{
	{name: "close_range", denial: proctest.Denial{Call: unix.SYS_CLOSE_RANGE}},
	{name: "pidfd_open", denial: proctest.Denial{Call: unix.SYS_PIDFD_OPEN}},
	{name: "clone3", denial: proctest.Denial{Call: unix.SYS_CLONE3}},
	{name: "clone that shares memory", denial: proctest.Denial{Call: unix.SYS_CLONE, Has: unix.CLONE_VM}},
	{name: "clone with a pidfd", denial: proctest.Denial{Call: unix.SYS_CLONE, Has: unix.CLONE_PIDFD}},
	{name: "waitid with __WALL", denial: proctest.Denial{Call: unix.SYS_WAITID, Argument: 3, Has: unix.WALL}, step: StepWait, unless: unix.EINVAL},
	{name: "waitid", denial: proctest.Denial{Call: unix.SYS_WAITID}, step: StepWait},
	{name: "wait4", denial: proctest.Denial{Call: unix.SYS_WAIT4}, step: StepWait},
	{name: "ppoll", denial: proctest.Denial{Call: unix.SYS_PPOLL}, step: StepPoll},
	{name: "recvmsg", denial: proctest.Denial{Call: unix.SYS_RECVMSG}, step: StepReceive},
	{name: "sendmsg", denial: proctest.Denial{Call: unix.SYS_SENDMSG}, silent: true},
	{name: "kill", denial: proctest.Denial{Call: unix.SYS_KILL}, step: StepKill},
	{name: "any prctl", denial: proctest.Denial{Call: unix.SYS_PRCTL}, step: StepSubreaper},
	{name: "subreaper", denial: proctest.Denial{Call: unix.SYS_PRCTL, Is: unix.PR_SET_CHILD_SUBREAPER}, step: StepSubreaper},
	{name: "parent-death signal", denial: proctest.Denial{Call: unix.SYS_PRCTL, Is: unix.PR_SET_PDEATHSIG}, step: StepDeathSignal},
	{name: "dumpable", denial: proctest.Denial{Call: unix.SYS_PRCTL, Is: unix.PR_SET_DUMPABLE}},
	{name: "name", denial: proctest.Denial{Call: unix.SYS_PRCTL, Is: unix.PR_SET_NAME}},
	{name: "root directory", denial: proctest.Denial{Call: unix.SYS_CHDIR}, step: StepPath},
	{name: "rt_sigprocmask", denial: proctest.Denial{Call: unix.SYS_RT_SIGPROCMASK}, step: StepSignals},
	{name: "rt_sigaction", denial: proctest.Denial{Call: unix.SYS_RT_SIGACTION}, step: StepSignals},
	{name: "setpgid", denial: proctest.Denial{Call: unix.SYS_SETPGID}, step: StepGroup},
	{name: "fcntl", denial: proctest.Denial{Call: unix.SYS_FCNTL}, step: StepDescriptors},
	{name: "pipe2", denial: proctest.Denial{Call: unix.SYS_PIPE2}, step: StepPipe, unless: unix.ENOSYS},
	{name: "dup3", denial: proctest.Denial{Call: unix.SYS_DUP3}, step: StepDescriptors},
	{name: "fchdir", denial: proctest.Denial{Call: unix.SYS_FCHDIR}, step: StepDirectory},
	{name: "getpgid", denial: proctest.Denial{Call: unix.SYS_GETPGID}},
	{name: "getsid", denial: proctest.Denial{Call: unix.SYS_GETSID}},
}

func TestWhatASandboxRefuses(t *testing.T) {
	for _, test := range refusals {
		for _, errno := range []syscall.Errno{unix.EPERM, unix.ENOSYS, unix.EINVAL} {
			t.Run(fmt.Sprintf("%s/%v", test.name, unix.ErrnoName(errno)), func(t *testing.T) {
				denial := test.denial
				denial.Errno = errno
				eachBuild(t, func(t *testing.T, b build) {
					if b.sanitized && errno != unix.EPERM {
						t.Skip("one of the ways is enough for the sanitizers")
					}
					if b.sanitized && denial.Call == unix.SYS_RT_SIGACTION {
						t.Skip("AddressSanitizer does not start without it")
					}
					how := lacking(t, b, denial)
					how.mute = true
					o := startOwner(t, b, how)
					failed, err := o.clearsOrFails()
					step := test.step
					if errno == test.unless {
						step = 0
					}
					switch {
					case test.silent:
						o.status = 125
						if !errors.Is(err, io.EOF) {
							t.Errorf("%v, %v", failed, err)
						}
					case err != nil:
						t.Errorf("no word of it: %v", err)
					case Step(failed.Step) != step:
						t.Errorf("%v: %v", Step(failed.Step), syscall.Errno(failed.Error))
					case step != 0 && syscall.Errno(failed.Error) != errno:
						t.Errorf("%v: %v, not %v", Step(failed.Step), syscall.Errno(failed.Error), errno)
					}
					if left := o.sleepers(); len(left) != 0 {
						t.Errorf("%v are left", left)
					}
				})
			})
		}
	}
}

// clearsOrFails runs a command that leaves something, or returns what was said instead.
func (o *owner) clearsOrFails() (failedEvent, error) {
	failure := func(p *peer) (failedEvent, bool, error) {
		ev, err := p.receive()
		if err != nil || ev.kind != eventFailed {
			return failedEvent{}, false, err
		}
		failed, err := decode[failedEvent](ev)
		return failed, true, err
	}
	if failed, ok, err := failure(o.control); ok || err != nil {
		o.status = 125
		return failed, err
	}
	s := o.unreadyShepherd()
	if failed, ok, err := failure(s.peer); ok || err != nil {
		return failed, err
	}
	s.request(s.shell("setsid sleep $M & exec sleep $M"))
	if failed, ok, err := failure(s.peer); ok || err != nil {
		return failed, err
	}
	o.awaitSleepers(2)
	s.send(killRequest{}.append(nil))
	ended := s.endsWith("SIGKILL")
	if ended.Left != 0 || ended.Killed != 1 {
		o.t.Errorf("%+v", ended)
	}
	return failedEvent{}, nil
}
