package shepherd

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// The watcher's first word, and whose child it is.

func TestHello(t *testing.T) {
	for _, arguments := range [][]string{nil, {attached}} {
		t.Run(fmt.Sprint(arguments), func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				control, theirs := newPeer(t)
				child := exec.Command(b.argv[0], append(b.argv[1:], arguments...)...)
				child.ExtraFiles = []*os.File{theirs}
				child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				must(t, child.Start())
				must(t, theirs.Close())
				hello := expect[helloEvent](control, eventHello)
				watcher := int(hello.Watcher)
				exits := watchExit(t, watcher)
				defer func() {
					control.close()
					exits()
					if arguments != nil {
						must(t, child.Wait())
					}
				}()
				switch {
				case len(control.pidfds) == 1:
					info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", control.pidfds[0]))
					must(t, err)
					if !strings.Contains(string(info), fmt.Sprintf("\nPid:\t%d\n", watcher)) {
						t.Errorf("the descriptor that came with it is no pidfd of process %d: %s", watcher, info)
					}
				case !b.emulated:
					t.Errorf("%d descriptors came with it", len(control.pidfds))
				}
				if group := proctest.Look(t, watcher).Group; group != watcher {
					t.Errorf("its process group is %d, not its own", group)
				}
				if arguments != nil {
					if watcher != child.Process.Pid {
						t.Errorf("the watcher is process %d, not the child %d", watcher, child.Process.Pid)
					}
					return
				}
				must(t, child.Wait()) // at once, although the watcher lives
				if parent := proctest.Look(t, watcher).Parent; parent == os.Getpid() || parent == child.Process.Pid {
					t.Errorf("its parent is %d", parent)
				}
				// It serves like any other.
				control.send(settleRequest{Shepherd: 1}.append(nil))
				expect[settledEvent](control, eventSettled)
			})
		})
	}
}

// The errno of a fork that fails is the status of the owner's child.
func TestTheWatcherCannotBeForked(t *testing.T) {
	needRoot(t)
	eachBuild(t, func(t *testing.T, b build) {
		if b.emulated {
			t.Skip("qemu's user mode has threads of its own, so that no limit fits")
		}
		control, theirs := newPeer(t)
		child := exec.Command(needProgram(t, "prlimit"), append([]string{"--nproc=1:1"}, b.argv...)...)
		child.ExtraFiles = []*os.File{theirs}
		child.Env = []string{"ASAN_OPTIONS=detect_leaks=0"} // whose detector is a process of its own
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
		must(t, child.Start())
		must(t, theirs.Close())
		_ = child.Wait()
		if status := child.ProcessState.ExitCode(); status != int(unix.EAGAIN) {
			t.Errorf("its status is %d, not EAGAIN", status)
		}
		control.hangsUp()
	})
}

// A stopped shepherd is continued, or killed, by its parent alone: nobody else
// knows that the number is still its own.
func TestNudge(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		nudge := func(pid int, number syscall.Signal) {
			t.Helper()
			o.control.send(nudgeRequest{Shepherd: uint32(pid), Signal: uint32(number)}.append(nil))
			o.control.send(settleRequest{Shepherd: 1}.append(nil))
			expect[settledEvent](o.control, eventSettled) // it has been read
		}
		// Neither a process that is no shepherd of the watcher's, nor any other signal.
		bystander := exec.Command("sleep", "1000")
		bystander.Env = []string{"M=" + o.marker}
		must(t, bystander.Start())
		s.start(s.shell("echo running; exec sleep $M"))
		s.says("running")
		command := o.awaitSleepers(2)
		for _, pid := range append(command, o.pid) {
			nudge(pid, syscall.SIGKILL)
		}
		for _, number := range []syscall.Signal{0, syscall.SIGSTOP, syscall.SIGTERM, 1000} {
			nudge(s.pid, number)
		}
		if now := proctest.Look(t, s.pid); now.State == 'T' {
			t.Errorf("it is stopped: %v", now)
		}
		o.awaitSleepers(2)
		must(t, bystander.Process.Kill())
		_ = bystander.Wait()

		must(t, syscall.Kill(s.pid, syscall.SIGSTOP))
		awaitState(t, s.pid, 'T')
		s.send(stopRequest{}.append(nil))
		nudge(s.pid, syscall.SIGCONT)
		s.endsWith("SIGTERM")

		nudge(s.pid, syscall.SIGKILL)
		s.hangsUp()
		s.exits()
		nudge(s.pid, syscall.SIGKILL) // nobody is there any more
		o.shepherd().goesOn()
	})
}
