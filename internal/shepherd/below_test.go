package shepherd

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// What is alive below a process that does not die, or may not be killed, and who guards what is left.

// hold keeps a process from dying: when it is killed, it stops for its debugger
// at its very end, and its children stay its own.
func hold(t *testing.T, pid int) {
	t.Helper()
	const seize = 0x4206 // PTRACE_SEIZE (linux/ptrace.h); x/sys has it without options
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, seize, uintptr(pid), 0, unix.PTRACE_O_TRACEEXIT, 0, 0); errno != 0 {
		t.Skipf("no process can be debugged here: %v", errno)
	}
}

// release lets a process that was held die.
func release(t *testing.T, pid int) {
	t.Helper()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
		case err == nil && status.Stopped():
			must(t, unix.PtraceCont(pid, 0))
		default:
			must(t, err)
			return
		}
	}
}

func TestBelowWhatDoesNotGo(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		if o.build.sanitized && testing.Short() {
			t.Skip("some seconds with the embedded helper are enough")
		}
		for _, killed := range []string{"command", "shepherd"} {
			for _, test := range []struct {
				name, script string
				held         func(command int) []int
			}{
				{"a child", "setsid sleep $M & sleep $M & echo running; while :; do wait; done", func(command int) []int { return []int{command} }},
				{"a child of a child", "setsid sh -c 'sleep $M & echo running; while :; do wait; done' & sleep $M & while :; do wait; done", func(command int) []int {
					for _, p := range proctest.Children(command) {
						if p.Name == "sh" {
							return []int{command, p.PID}
						}
					}
					return nil
				}},
			} {
				t.Run(test.name+" of it, "+killed+" killed", func(t *testing.T) {
					runtime.LockOSThread() // a debugger is a thread
					defer runtime.UnlockOSThread()
					o.in(t)
					s := o.shepherd()
					command := s.start(s.shell(test.script))
					s.says("running")
					o.awaitSleepers(2)
					held := test.held(command)
					for _, pid := range held {
						hold(t, pid)
					}
					if killed == "command" {
						s.send(killRequest{}.append(nil))
						ended := s.ended()
						if int(ended.Left) != len(held) || ended.LeftPids[0] != uint32(command) || ended.Status != 0xffff || ended.Reusable != 0 {
							t.Errorf("%v are held: %+v", held, ended)
						}
						s.hangsUp()
						eventually(t, "a guard", func() (string, bool) {
							name := strings.Join(proctest.Look(t, s.pid).Args, " ")
							return name, strings.HasPrefix(name, "netrunner: guard")
						})
					} else {
						must(t, syscall.Kill(s.pid, syscall.SIGKILL))
						o.control.send(settleRequest{Shepherd: uint32(s.pid)}.append(nil))
						if settled := expect[settledEvent](o.control, eventSettled); int(settled.Left) != len(held) {
							t.Errorf("%v are held: %+v", held, settled)
						}
					}
					if left := o.sleepers(); len(left) != 0 {
						t.Errorf("%v are left", left)
					}
					for _, pid := range held {
						release(t, pid)
					}
					s.exits()
					eventually(t, "only the watcher", func() (string, bool) {
						now := o.processes()
						return fmt.Sprint(now), len(now) == 1
					})
				})
			}
		}
		o.in(t)
		o.shepherd().goesOn()
	})
}

// What is left holds up neither the watcher, if its shepherd guards it, nor the owner.
func TestTheWatcherNeedNotStayForAGuard(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		s := o.shepherd()
		spec := s.shell("echo running; exec sleep $M")
		spec.Grace = 0
		command := s.start(spec)
		s.says("running")
		hold(t, command)
		s.close()
		o.control.close()
		o.watcherExits()
		guard := proctest.Look(t, s.pid)
		if guard.Dead() {
			t.Errorf("%v is gone, and process %d is there", guard, command)
		}
		release(t, command)
		s.exits()
	})
}

// A process of another user may not be killed, and what it has started may be.
// When that has gone, it may go by itself.
func TestBelowWhatMayNotBeKilled(t *testing.T) {
	needRoot(t)
	setpriv := needProgram(t, "setpriv")
	eachBuild(t, func(t *testing.T, b build) {
		needOrphans(t, b)
		dir := buildDirectoryFor(t)
		become := filepath.Join(dir, "setpriv")
		proctest.CopyProgram(t, setpriv, become, 0o755|os.ModeSetuid)
		var fs unix.Statfs_t
		must(t, unix.Statfs(dir, &fs))
		if fs.Flags&unix.ST_NOSUID != 0 {
			t.Skipf("%s is mounted nosuid", dir)
		}
		// As root, it forks one that is the stranger again.
		above := func(then string) string {
			return fmt.Sprintf(`%s --reuid=0 sh -c 'setsid setpriv --reuid=%d sleep $M & %s' & read word`, become, stranger, then)
		}
		for _, test := range []struct {
			name, script string
			sleepers     int
			left         int
		}{
			{"that stays", above("exec sleep $M"), 2, 1},
			{"that goes by itself", above("wait; sleep 0.05; exit"), 1, 0},
		} {
			for _, ending := range []string{"killed", "shepherd killed"} {
				t.Run(test.name+", "+ending, func(t *testing.T) {
					o := startOwner(t, b, &start{user: stranger})
					s := o.shepherd()
					r, w, err := os.Pipe()
					must(t, err)
					defer w.Close() //nolint:errcheck // never written to
					spec := s.shell(test.script)
					spec.Descriptors[0] = int(r.Fd())
					s.start(spec)
					must(t, r.Close())
					o.awaitSleepers(test.sleepers)
					left := 0
					if ending == "killed" {
						s.send(killRequest{}.append(nil))
						ended := s.endsWith("SIGKILL")
						left = int(ended.Left)
					} else {
						must(t, syscall.Kill(s.pid, syscall.SIGKILL))
						s.hangsUp()
						o.control.send(settleRequest{Shepherd: uint32(s.pid)}.append(nil))
						left = int(expect[settledEvent](o.control, eventSettled).Left)
					}
					sleepers := o.sleepers()
					if left != test.left || len(sleepers) != test.left {
						t.Errorf("%d are left, not %d; there are %v", left, test.left, sleepers)
					}
					for _, pid := range sleepers {
						must(t, syscall.Kill(pid, syscall.SIGKILL))
					}
				})
			}
		}
	})
}

// What a process that may not be killed starts later, its guard kills.
func TestAGuardGoesOn(t *testing.T) {
	needRoot(t)
	setpriv := needProgram(t, "setpriv")
	eachBuild(t, func(t *testing.T, b build) {
		needOrphans(t, b)
		dir := buildDirectoryFor(t)
		become, fifo := filepath.Join(dir, "setpriv"), filepath.Join(dir, "fifo")
		proctest.CopyProgram(t, setpriv, become, 0o755|os.ModeSetuid)
		must(t, unix.Mkfifo(fifo, 0o600))
		var fs unix.Statfs_t
		must(t, unix.Statfs(dir, &fs))
		if fs.Flags&unix.ST_NOSUID != 0 {
			t.Skipf("%s is mounted nosuid", dir)
		}
		o := startOwner(t, b, &start{user: stranger})
		s := o.shepherd()
		s.start(s.shell(fmt.Sprintf("%s --reuid=0 sh -c 'echo running; read word <%s; setpriv --reuid=%d sleep $M' & wait", become, fifo, stranger)))
		s.says("running")
		s.send(killRequest{}.append(nil))
		if ended := s.endsWith("SIGKILL"); ended.Left != 1 {
			t.Errorf("%+v", ended)
		}
		word, err := os.OpenFile(fifo, os.O_RDWR, 0)
		must(t, err)
		_, err = word.WriteString("go on\n")
		must(t, err)
		s.exits()
		must(t, word.Close()) // not earlier: with the last who has it open, the word would be gone
		if left := o.sleepers(); len(left) != 0 {
			t.Errorf("%v are left", left)
		}
	})
}
