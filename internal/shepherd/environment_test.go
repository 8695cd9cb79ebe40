package shepherd

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// Where the helper is started: by hand, without calls that it would use, in a PID namespace.

func TestStartedByHand(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		for _, args := range [][]string{nil, {"--help"}} {
			cmd := exec.Command(b.argv[0], append(b.argv[1:len(b.argv):len(b.argv)], args...)...)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 125 || !strings.Contains(string(out), "helper of netrunner") {
				t.Errorf("%v: %v, %q", args, err, out)
			}
		}
	})
}

// withoutCalls starts a watcher for which these system calls fail.
func withoutCalls(t *testing.T, b build, denials ...proctest.Denial) *owner {
	t.Helper()
	return startOwner(t, b, lacking(t, b, denials...))
}

func lacking(t *testing.T, b build, denials ...proctest.Denial) *start {
	t.Helper()
	if b.emulated {
		t.Skip("the filter is for the helper's calls, not for those of qemu")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the filter knows the numbers of amd64's calls")
	}
	self, err := os.Executable()
	must(t, err)
	return &start{before: []string{self}, env: denying(denials...)}
}

// Without close_range and without pidfds, as on Linux 5.2 and in containers
// whose seccomp filter is older than that.
func TestOldKernel(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		o := withoutCalls(t, b,
			proctest.Denial{Call: unix.SYS_CLOSE_RANGE, Errno: unix.ENOSYS},
			proctest.Denial{Call: unix.SYS_PIDFD_OPEN, Errno: unix.ENOSYS})
		s := o.shepherd()
		s.goesOn()
		if now := descriptorsOf(t, o.pid); now != 5 {
			t.Errorf("the watcher has %d descriptors, not 0, 1, 2, its socket and the list of its children", now)
		}
		s.start(s.shell(trees[3].script))
		s.says("running")
		o.awaitSleepers(2)
	})
}

// An emulator may know fork and threads, and nothing between them.
func TestOnlyFork(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		o := withoutCalls(t, b, proctest.Denial{Call: unix.SYS_CLONE, Has: unix.CLONE_PIDFD, Errno: unix.EINVAL})
		s := o.shepherd()
		s.goesOn()
		if len(s.pidfds) != 0 {
			t.Errorf("%d descriptors came", len(s.pidfds))
		}
		s.start(s.shell(trees[3].script))
		s.says("running")
		o.awaitSleepers(2)
	})
}

// The limit of descriptors may be lowered after they have come: EBADF in man 2 dup.
func TestDescriptorBeyondTheLimit(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		o := withoutCalls(t, b,
			proctest.Denial{Call: dup2Call, Errno: unix.EBADF}, proctest.Denial{Call: unix.SYS_DUP3, Errno: unix.EBADF})
		s := o.shepherd()
		s.request(s.spec("true"))
		failed := expect[failedEvent](s.peer, eventFailed)
		if Step(failed.Step) != StepDescriptors || syscall.Errno(failed.Error) != syscall.EBADF || failed.Reusable != 1 {
			t.Errorf("%v: %v, reusable %d", Step(failed.Step), syscall.Errno(failed.Error), failed.Reusable)
		}
	})
}

// A /proc that knows other numbers than ours, or none, must not make the helper
// kill a stranger, nor miss what it has to kill.
func TestPIDNamespace(t *testing.T) {
	needRoot(t)
	unshare := needProgram(t, "unshare")
	if out, err := exec.Command(unshare, "--pid", "--fork", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("no PID namespace can be made here: %v: %s", err, out)
	}
	for _, test := range []struct {
		name   string
		before []string
	}{
		{"its own /proc", []string{unshare, "--pid", "--fork", "--kill-child", "--mount-proc"}},
		{"the /proc of another namespace", []string{unshare, "--pid", "--fork", "--kill-child"}},
		{"no /proc", []string{unshare, "--pid", "--fork", "--kill-child", "--mount", "sh", "-c", `umount -l /proc && exec "$@"`, "sh"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				needOrphans(t, b)
				trees := trees[:4]
				if test.name != "its own /proc" {
					// To ask for each pid there can be takes some seconds: once is enough.
					if b.name == "sanitized" || testing.Short() {
						t.Skip("the embedded helper is tested so, unless -short says that there is no time")
					}
					trees = trees[3:]
				}
				o := startOwner(t, b, &start{before: test.before})
				s := o.namespacedShepherd()
				for _, tree := range trees {
					s.start(s.shell(tree.script))
					s.says("running")
					o.awaitSleepers(tree.sleepers)
					s.send(killRequest{}.append(nil))
					if ended := s.endsWith("SIGKILL"); int(ended.Killed) < tree.sleepers || ended.Left != 0 {
						t.Errorf("%s: %+v", tree.name, ended)
					}
				}
				s.goesOn()
			})
		})
	}
}

// namespacedShepherd asks for a shepherd whose pid means nothing outside.
func (o *owner) namespacedShepherd() *ward {
	o.t.Helper()
	s := o.unreadyShepherd()
	expect[readyEvent](s.peer, eventReady)
	return s
}
