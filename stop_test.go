package netrunner_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
)

// trees are what a command can have started when its end comes. Each says
// "ready" when all of it is there, and is found by the marker $0. `obeys` says
// that it ends by SIGTERM.
var trees = []struct {
	name   string
	script string
	obeys  bool
}{
	{"a plain child", `echo ready; exec sleep $0`, true},
	{"a child of a child", `sleep $0 & echo ready; wait`, true},
	{"ignores SIGTERM", `trap '' TERM; sleep $0 & echo ready; while :; do wait; done`, false},
	{"a new session", `setsid sleep $0 & while ! pgrep -f "^sleep $0" >/dev/null; do :; done; echo ready; wait`, true},
	{"a daemon", `(setsid sh -c 'sleep '$0' & exec sleep '$0 </dev/null >/dev/null 2>&1 &); while [ $(pgrep -cf "^sleep $0") != 2 ]; do :; done; echo ready; sleep $0`, true},
	{"a daemon with nothing", `(env -i setsid sleep $0 <&- >&- 2>&- &); while ! pgrep -f "^sleep $0" >/dev/null; do :; done; echo ready; sleep $0`, true},
	{"nohup", `nohup sleep $0 >/dev/null 2>&1 & echo ready; wait`, true},
	{"holds the output", `sleep $0 & sleep $0 & echo ready; exec sleep $0`, true},
}

func TestTheWholeTreeIsGone(t *testing.T) {
	for _, how := range []struct {
		name string
		end  func(*testing.T, *netrunner.Process, context.CancelFunc)
	}{
		{"killed", func(t *testing.T, p *netrunner.Process, _ context.CancelFunc) { check(t, p.Kill()) }},
		{"stopped", func(t *testing.T, p *netrunner.Process, _ context.CancelFunc) { check(t, p.Stop(testContext(t))) }},
		{"cancelled", func(_ *testing.T, _ *netrunner.Process, cancel context.CancelFunc) { cancel() }},
		{"stopped while it stands still", func(t *testing.T, p *netrunner.Process, _ context.CancelFunc) {
			check(t, p.Signal(syscall.SIGSTOP))
			check(t, p.Stop(testContext(t)))
		}},
	} {
		for _, tree := range trees {
			t.Run(how.name+"/"+tree.name, func(t *testing.T) {
				leaveNothing(t)
				mark := marker()
				cmd := netrunner.Command("sh", "-c", tree.script, mark)
				cmd.KillTimeout = 300 * time.Millisecond
				cmd.Stdout = netrunner.Pipe
				ctx, cancel := context.WithCancel(testContext(t))
				defer cancel()
				p, err := cmd.Start(ctx)
				check(t, err)
				if line := readLine(t, p.Stdout()); line != "ready" {
					t.Fatalf("read %q", line)
				}
				how.end(t, p, cancel)
				_, err = p.Wait()
				if pids := marked(t, mark); len(pids) > 0 {
					t.Errorf("after Wait there are still %q", describe(pids))
				}
				var exit *netrunner.ExitError
				if !errors.As(err, &exit) {
					t.Errorf("Wait: %v, want an ExitError", err)
				}
				if how.name == "cancelled" && !errors.Is(err, context.Canceled) {
					t.Errorf("Wait: %v, want context.Canceled", err)
				}
				check(t, p.Stdout().Close())
			})
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatAFinishedCommandLeavesIsKilled(t *testing.T) {
	leaveNothing(t)
	for _, tree := range trees {
		mark := marker()
		// The tree in the background, and its parent exits as soon as it is there.
		script := `mkfifo $1; sh -c "$2" $0 >$1 & read line <$1; exit 3`
		p := start(t, netrunner.Command("sh", "-c", script, mark, filepath.Join(t.TempDir(), "ready"), tree.script))
		state, err := p.Wait()
		if err == nil || state.ExitCode() != 3 {
			t.Errorf("%s: %v, %v, want exit status 3", tree.name, state, err)
		}
		if pids := marked(t, mark); len(pids) > 0 {
			t.Errorf("%s: there are still %q", tree.name, describe(pids))
		}
		if state.Stats().Killed == 0 {
			t.Errorf("%s: the figures know of no leftover", tree.name)
		}
	}
}

// golang/go issue 23019 and its like: the output of a command that has ended is
// at its end, whoever holds the pipe.
func TestWaitDoesNotHangOnADescendantWithThePipe(t *testing.T) {
	leaveNothing(t)
	mark := marker()
	for _, leftovers := range []netrunner.Leftovers{netrunner.KillLeftovers, netrunner.LeaveLeftovers} {
		cmd := netrunner.Command("sh", "-c", `setsid sleep $0 & echo done`, mark)
		cmd.Leftovers = leftovers
		out, err := cmd.Output(testContext(t))
		if string(out) != "done\n" || err != nil {
			t.Errorf("leftovers %d: %q, %v", leftovers, out, err)
		}
	}
	for _, pid := range marked(t, mark) {
		check(t, unix.Kill(pid, unix.SIGKILL))
	}
	waitGone(t, mark, patience)
}

func TestLeftoversCanBeLeft(t *testing.T) {
	leaveNothing(t)
	mark := marker()
	cmd := netrunner.Command("sh", "-c", `sleep $0 >/dev/null 2>&1 & echo $!`, mark)
	cmd.Leftovers = netrunner.LeaveLeftovers
	p := start(t, cmd)
	line := readLine(t, p.Stdout())
	state, err := p.Wait()
	check(t, err)
	if state.Stats().Left != 1 || state.Stats().Killed != 0 {
		t.Errorf("%d left and %d killed, want 1 and 0", state.Stats().Left, state.Stats().Killed)
	}
	netrunner.CloseIdle() // the watcher goes, and what was left stays
	pids := marked(t, mark)
	if len(pids) != 1 {
		t.Fatalf("left are %q, want %s", describe(pids), line)
	}
	guardian := parentOf(t, pids[0])
	if name := describe([]int{guardian})[0]; !strings.Contains(name, "netrunner: left") {
		t.Errorf("its parent is %s", name)
	}
	check(t, unix.Kill(pids[0], unix.SIGKILL))
	waitGone(t, mark, patience)
	if !waitDeath(t, guardian, patience) {
		t.Error("the shepherd has stayed, with nothing left to stay for")
	}
}

func TestACommandThatLeavesNothingMayLeave(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("true")
	cmd.Leftovers = netrunner.LeaveLeftovers
	check(t, cmd.Run(testContext(t)))
}

func TestTimeout(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sleep", marker())
	cmd.Timeout = 50 * time.Millisecond
	err := cmd.Run(testContext(t))
	var exit *netrunner.ExitError
	if !errors.Is(err, netrunner.ErrTimeout) || !errors.As(err, &exit) || exit.State.Signal() != syscall.SIGTERM {
		t.Fatalf("%v, want ErrTimeout and SIGTERM", err)
	}
	if after := exit.State.Stats().Duration; after < cmd.Timeout || after > cmd.Timeout+time.Second {
		t.Errorf("it took %v", after)
	}
	if want := `"sleep": timed out after 50ms: signal: terminated`; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestTheGraceIsTheCommands(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", `trap 'echo tidying; exit 7' TERM; echo ready; while :; do sleep 0.01; done`)
	p := start(t, cmd)
	out := p.Stdout()
	if line := readLine(t, out); line != "ready" {
		t.Fatalf("read %q", line)
	}
	check(t, p.Stop(testContext(t)))
	if line := readLine(t, out); line != "tidying" {
		t.Errorf("read %q", line)
	}
	if state, err := p.Wait(); state.ExitCode() != 7 {
		t.Errorf("%v, want exit status 7", err)
	}
}

func TestTheStopSignalIsTheOneAskedFor(t *testing.T) {
	leaveNothing(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGKILL} {
		cmd := netrunner.Command("sleep", marker())
		cmd.StopSignal = signal
		p := start(t, cmd)
		check(t, p.Stop(testContext(t)))
		if state, err := p.Wait(); state.Signal() != signal {
			t.Errorf("%v: %v", signal, err)
		}
	}
}

func TestWhatIgnoresTheStopSignalIsKilledAfterTheGrace(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", `trap '' TERM; echo ready; while :; do sleep 0.01; done`)
	cmd.KillTimeout = 200 * time.Millisecond
	p := start(t, cmd)
	readLine(t, p.Stdout())
	begin := time.Now()
	check(t, p.Stop(testContext(t)))
	if took := time.Since(begin); took < cmd.KillTimeout || took > cmd.KillTimeout+time.Second {
		t.Errorf("it took %v", took)
	}
	if state, err := p.Wait(); state.Signal() != syscall.SIGKILL {
		t.Errorf("%v, want SIGKILL", err)
	}
}

func TestSignalsReachTheProcessGroup(t *testing.T) {
	leaveNothing(t)
	p := start(t, netrunner.Command("sh", "-c",
		`trap 'wait; echo parent; exit 0' HUP; (trap 'echo child; exit' HUP; echo ready; while :; do sleep 0.01; done) & wait`))
	out := p.Stdout()
	if line := readLine(t, out); line != "ready" {
		t.Fatalf("read %q", line)
	}
	check(t, p.Signal(syscall.SIGHUP))
	if a, b := readLine(t, out), readLine(t, out); a != "child" || b != "parent" {
		t.Errorf("read %q and %q", a, b)
	}
	_, err := p.Wait()
	check(t, err)
	if err := p.Signal(syscall.SIGHUP); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("afterwards: %v, want os.ErrProcessDone", err)
	}
	if err := p.Kill(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("afterwards: %v, want os.ErrProcessDone", err)
	}
	check(t, p.Stop(t.Context()))
}

func TestASignalThatDoesNotExistIsRefused(t *testing.T) {
	leaveNothing(t)
	p := start(t, netrunner.Command("sleep", marker()))
	for _, signal := range []syscall.Signal{-1, 0, 65, 1 << 30} {
		if err := p.Signal(signal); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("signal %d: %v, want EINVAL", int(signal), err)
		}
	}
}

func TestStopReturnsWithItsContextAndTheStopGoesOn(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", `trap '' TERM; echo ready; while :; do sleep 0.01; done`)
	cmd.KillTimeout = 300 * time.Millisecond
	p := start(t, cmd)
	readLine(t, p.Stdout())
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	if err := p.Stop(ctx); err != why {
		t.Errorf("%v, want %v", err, why)
	}
	<-p.Done()
}

func TestProcessGroup(t *testing.T) {
	leaveNothing(t)
	p := start(t, netrunner.Command("sleep", marker()))
	if group := processGroupOf(t, p.PID()); group != p.PID() {
		t.Errorf("process %d is in group %d, want its own", p.PID(), group)
	}
	cmd := netrunner.Command("sleep", marker())
	cmd.Foreground = true
	p = start(t, cmd)
	if group := processGroupOf(t, p.PID()); group != unix.Getpgrp() {
		t.Errorf("a foreground process is in group %d, want the owner's, %d", group, unix.Getpgrp())
	}
	shepherd := parentOf(t, p.PID())
	if group := processGroupOf(t, shepherd); group != shepherd {
		t.Errorf("the shepherd %d is in group %d, want its own", shepherd, group)
	}
	check(t, p.Kill())
	_, _ = p.Wait()
}

// In the owner's group the tree is found by descent, and the owner is spared.
func TestAForegroundTreeIsGone(t *testing.T) {
	for _, tree := range trees {
		t.Run(tree.name, func(t *testing.T) {
			leaveNothing(t)
			mark := marker()
			cmd := netrunner.Command("sh", "-c", tree.script, mark)
			cmd.Foreground = true
			cmd.KillTimeout = 300 * time.Millisecond
			p := start(t, cmd)
			readLine(t, p.Stdout())
			check(t, p.Stop(testContext(t)))
			_, _ = p.Wait()
			if pids := marked(t, mark); len(pids) > 0 {
				t.Errorf("there are still %q", describe(pids))
			}
		})
	}
}

func TestTheOwnerHasOneChild(t *testing.T) {
	leaveNothing(t)
	// A host program's own children are left alone.
	own := exec.Command("sleep", marker())
	check(t, own.Start())
	for range 20 {
		start(t, netrunner.Command("sleep", marker()))
	}
	if pids := children(t, os.Getpid()); len(pids) != 2 {
		t.Errorf("the owner's children are %q", describe(pids))
	}
	check(t, own.Process.Kill())
	var exit *exec.ExitError
	if err := own.Wait(); !errors.As(err, &exit) {
		t.Errorf("the owner's own child: %v", err)
	}
}
