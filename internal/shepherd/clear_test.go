package shepherd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// What a command leaves behind is killed, or reported.

// trees are the shapes that what a command starts can have. Each says "running"
// and has some `sleep` of its own.
var trees = []struct {
	name, script string
	sleepers     int
}{
	{"child", "sleep $M & echo running; wait", 1},
	{"ignoring SIGTERM", "trap '' TERM HUP INT; sleep $M & echo running; while :; do wait; done", 1},
	{"new session", "setsid sleep $M & echo running; wait", 1},
	{"daemon", "(setsid sh -c 'cd /; sleep $M & ' </dev/null >/dev/null 2>&1 & ); echo running; sleep $M & wait", 2},
	{"daemon without environment", "(setsid env -i sh -c \"cd /; sleep $M &\" </dev/null >/dev/null 2>&1 & ); echo running; sleep $M & wait", 2},
	{"nohup", "nohup sleep $M >/dev/null 2>&1 & echo running; wait", 1},
	{"stopped", "sh -c 'kill -STOP $$' $M & setsid sh -c 'kill -STOP $$' $M & sleep $M & echo running; wait", 1},
	{"many", "for i in 1 2 3 4 5 6 7 8 9 10; do setsid sleep $M & sleep $M & done; echo running; wait", 20},
}

func TestKillEveryTree(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		for _, tree := range trees {
			t.Run(tree.name, func(t *testing.T) {
				s.in(t)
				s.start(s.shell(tree.script))
				s.says("running")
				o.awaitSleepers(tree.sleepers)
				s.send(killRequest{}.append(nil))
				ended := s.endsWith("SIGKILL")
				if int(ended.Killed) < tree.sleepers || ended.Left != 0 || ended.Reusable != 1 {
					t.Errorf("%+v", ended)
				}
				if left := o.sleepers(); len(left) != 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
		s.in(t)
		s.goesOn()
	})
}

func TestExitClearsEveryTree(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		for _, tree := range trees {
			t.Run(tree.name, func(t *testing.T) {
				s.in(t)
				// Instead of waiting for its children, the command waits for a word and exits.
				r, w, err := os.Pipe()
				must(t, err)
				script := regexp.MustCompile(`wait$|while :; do wait; done$`).ReplaceAllString(tree.script, "read word; exit 5")
				spec := s.shell(script)
				spec.Descriptors[0] = int(r.Fd())
				s.start(spec)
				must(t, r.Close())
				s.says("running")
				o.awaitSleepers(tree.sleepers)
				must(t, w.Close())
				ended := s.endsWith("5")
				if int(ended.Killed) < tree.sleepers || ended.Left != 0 || ended.Reusable != 1 {
					t.Errorf("%+v", ended)
				}
				if left := o.sleepers(); len(left) != 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
	})
}

// Chains of processes, each of which lives only until it has forked the next:
// four in the command's group, four in sessions of their own.
func TestFasterThanItIsKilled(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		chain := "f() { f & }; f"
		s.start(s.shell("for i in 1 2 3 4; do (" + chain + ") & setsid sh -c '" + chain + "' & done; echo running; sleep 0.2; exit 6"))
		s.says("running")
		if ended := s.endsWith("6"); ended.Left != 0 || ended.Killed == 0 {
			t.Errorf("%+v", ended)
		}
		s.goesOn()
	})
}

// A descendant that has become another user can't be signalled by one without
// privileges. It is reported, and not waited for.
func TestWhatMayNotBeKilled(t *testing.T) {
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
		script := become + " --reuid=0 sleep $M & while ! pgrep -U 0 -f $M >/dev/null; do :; done; echo running; read word"
		for _, ending := range []string{"killed", "shepherd killed"} {
			t.Run(ending, func(t *testing.T) {
				needProgram(t, "pgrep")
				o := startOwner(t, b, &start{user: stranger})
				s := o.shepherd()
				r, w, err := os.Pipe()
				must(t, err)
				defer w.Close() //nolint:errcheck // never written to
				spec := s.shell(script)
				spec.Descriptors[0] = int(r.Fd())
				s.start(spec)
				must(t, r.Close())
				s.says("running")
				immune := o.awaitSleepers(1)[0]
				if ending == "killed" {
					s.send(killRequest{}.append(nil))
					ended := s.endsWith("SIGKILL")
					if ended.Left != 1 || ended.LeftPids[0] != uint32(immune) || ended.Reusable != 0 {
						t.Errorf("%+v", ended)
					}
					s.hangsUp()
				} else {
					must(t, syscall.Kill(s.pid, syscall.SIGKILL))
					s.hangsUp()
					o.control.send(settleRequest{Shepherd: uint32(s.pid)}.append(nil))
					if settled := expect[settledEvent](o.control, eventSettled); settled.Left != 1 {
						t.Errorf("%+v", settled)
					}
				}
				must(t, syscall.Kill(immune, syscall.SIGKILL))
			})
		}
	})
}

// A process that is dead and still counts, since its debugger has not seen it
// yet, does not go when it is killed. The shepherd waits two seconds for it.
func TestWhatDoesNotGo(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		if o.build.sanitized {
			t.Skip("two seconds with the embedded helper are enough")
		}
		runtime.LockOSThread() // a debugger is a thread
		defer runtime.UnlockOSThread()
		s := o.shepherd()
		pid := s.start(s.shell("echo running; exec sleep $M"))
		s.says("running")
		o.awaitSleepers(1)
		debug(t, pid)
		s.send(killRequest{}.append(nil))
		if ended := s.ended(); ended.Left != 1 || ended.LeftPids[0] != uint32(pid) || ended.Status != 0xffff || ended.Reusable != 0 {
			t.Errorf("%+v", ended)
		}
		s.hangsUp()
		letGo(t, pid)
		s.exits()

		// The watcher has nobody to whom it could report it, and goes on.
		s = o.shepherd()
		pid = s.start(s.shell("echo running; exec sleep $M"))
		s.says("running")
		o.awaitSleepers(1)
		debug(t, pid)
		must(t, syscall.Kill(s.pid, syscall.SIGKILL))
		s.hangsUp()
		o.control.send(settleRequest{Shepherd: uint32(s.pid)}.append(nil))
		must(t, o.control.conn.SetReadDeadline(time.Now().Add(250*time.Millisecond)))
		if ev, err := o.control.receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("event %d, %v: and it is still there", ev.kind, err)
		}
		must(t, o.control.conn.SetReadDeadline(time.Now().Add(proctest.Patience)))
		letGo(t, pid)
		if settled := expect[settledEvent](o.control, eventSettled); settled.Left != 0 || int(settled.Shepherd) != s.pid {
			t.Errorf("%+v", settled)
		}
	})
}

func debug(t *testing.T, pid int) {
	t.Helper()
	if err := unix.PtraceSeize(pid); err != nil {
		t.Skipf("no process can be debugged here: %v", err)
	}
}

// letGo sees the end of what it has debugged, so that its parent does, too.
func letGo(t *testing.T, pid int) {
	t.Helper()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		if err == unix.EINTR || err == nil && status.Stopped() {
			continue
		}
		must(t, err)
		return
	}
}

// sixtyChains is a program that makes sixty chains of processes, each of which lives only until it
// has forked the next, in a group whose leader is gone. They end by themselves, after a minute.
const sixtyChains = `
import os, time
end = time.time() + 60
gate, close = os.pipe()
for i in range(60):
    if os.fork() == 0:
        os.close(close)
        os.read(gate, 1)
        while time.time() < end:
            if os.fork() != 0:
                os._exit(0)
        os._exit(0)
os.write(1, b"running\n")
`

// A group goes in one step, which no fork escapes; also when the process that made it is dead.
func TestChainsInAGroupWithoutItsLeader(t *testing.T) {
	python := needProgram(t, "python3")
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		for _, killed := range []string{"command", "shepherd"} {
			t.Run(killed+" killed", func(t *testing.T) {
				o.in(t)
				s := o.shepherd()
				spec := s.shell("setsid " + python + " -c \"$CHAINS\" $M; exec sleep $M")
				spec.Env = append(spec.Env, "CHAINS="+sixtyChains)
				s.start(spec)
				s.says("running")
				began := time.Now()
				if killed == "command" {
					s.send(killRequest{}.append(nil))
					if ended := s.endsWith("SIGKILL"); ended.Left != 0 {
						t.Errorf("%+v", ended)
					}
				} else {
					must(t, syscall.Kill(s.pid, syscall.SIGKILL))
					o.control.send(settleRequest{Shepherd: uint32(s.pid)}.append(nil))
					if settled := expect[settledEvent](o.control, eventSettled); settled.Left != 0 {
						t.Errorf("%+v", settled)
					}
				}
				// A second is what is promised; on a loaded machine it is more.
				took := time.Since(began)
				t.Log("cleared in ", took)
				if took > 10*time.Second {
					t.Errorf("it took %v", took)
				}
				if left := o.processes(); len(left) > 2 || killed == "shepherd" && len(left) > 1 {
					t.Errorf("beside the helpers there are %v", left)
				}
			})
		}
		o.in(t)
		o.shepherd().goesOn()
	})
}

// What is dead is not left, however much of it there is to reap.
func TestTheDeadAreNotLeft(t *testing.T) {
	python := needProgram(t, "python3")
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		// They are the command's until it exits: then all are the shepherd's at once.
		const sleeper = "setsid sleep $M & "
		for _, also := range []string{"", sleeper} {
			s := o.shepherd()
			spec := s.shell(also + "exec " + python + ` -c '
import os
for i in range(500):
    if os.fork() == 0:
        os._exit(0)
os.write(1, b"running\n")
os.read(0, 1)
'`)
			r, w, err := os.Pipe()
			must(t, err)
			spec.Descriptors[0] = int(r.Fd())
			spec.Leave = true
			s.start(spec)
			must(t, r.Close())
			s.says("running")
			left := o.awaitSleepers(len(also) / len(sleeper))
			must(t, w.Close())
			if ended := s.endsWith("0"); int(ended.Left) != len(left) || len(left) > 0 && ended.LeftPids[0] != uint32(left[0]) {
				t.Errorf("%v is left: %+v", left, ended)
			}
			if len(left) == 0 {
				s.goesOn()
				continue
			}
			must(t, syscall.Kill(left[0], syscall.SIGKILL))
			s.exits()
		}
	})
}

// A death is seen although the owner has more to say all the time.
func TestADeathAmongRequests(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		// A large group keeps the shepherd busy with each signal.
		spec := s.shell("i=0; while [ $i -lt 300 ]; do sleep $M & i=$((i+1)); done; echo running; read word")
		r, w, err := os.Pipe()
		must(t, err)
		spec.Descriptors[0] = int(r.Fd())
		s.start(spec)
		must(t, r.Close())
		s.says("running")
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for many := bytes.Repeat(signalRequest{Signal: uint32(syscall.SIGWINCH)}.append(nil), 100); ; {
				select {
				case <-stop:
					return
				default:
				}
				if s.trySend(many) != nil {
					return
				}
			}
		}()
		late := time.AfterFunc(10*time.Second, func() { close(stop) })
		must(t, w.Close())
		if ended := s.ended(); ended.Killed != 300 || ended.Left != 0 {
			t.Errorf("%+v", ended)
		}
		if late.Stop() {
			close(stop)
		} else {
			t.Error("the end came only after the last signal")
		}
		<-stopped
		s.goesOn()
	})
}
