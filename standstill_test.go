package netrunner_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

// Whatever hangs, nothing stands still for longer than its context: no lock is
// held while somebody else is waited for. The promise is the context and a
// second; the tests allow for a machine that is busy with something else.
const much = 8 * time.Second

func timed(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

// stubborn is a command that does not obey, and has the grace to do so.
func stubborn(t testing.TB, mark string) *netrunner.Process {
	t.Helper()
	cmd := netrunner.Command("sh", "-c", `trap 'echo term' TERM; echo ready; while :; do sleep 0.05; done`, mark)
	cmd.KillTimeout = time.Hour
	p := start(t, cmd)
	readLine(t, p.Stdout())
	return p
}

func TestCloseIdleHoldsNobodyUp(t *testing.T) {
	leaveNothing(t)
	mark, before := marker(), netrunner.Totals().Running
	// Dropped: its shepherd is on its way out for as long as the grace lasts.
	func() {
		cmd := netrunner.Command("sh", "-c", `trap '' TERM; : >"$1"; while :; do sleep 0.05; done`, mark, filepath.Join(t.TempDir(), "ready"))
		cmd.KillTimeout = time.Hour
		_, err := cmd.Start(testContext(t))
		check(t, err)
		proctest.Eventually(t, "the command's file", func() bool {
			_, err := os.Stat(cmd.Args[4])
			return err == nil
		})
	}()
	proctest.Eventually(t, "the end of the dropped handle", func() bool {
		runtime.GC()
		return netrunner.Totals().Running == before
	})
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		netrunner.CloseIdle()
	}()
	for range 20 { // at every moment of it
		ctx, cancel := context.WithTimeout(t.Context(), much)
		took := timed(func() { check(t, netrunner.Command("true").Run(ctx)) })
		cancel()
		if took > much {
			t.Fatalf("an unrelated command took %v", took)
		}
	}
	for _, pid := range marked(t, mark) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	waitGone(t, mark, patience)
	<-closed
}

func TestAStoppedWatcherHoldsUpNoStart(t *testing.T) {
	leaveNothing(t)
	check(t, netrunner.Command("true").Run(testContext(t)))
	watcher := children(t, os.Getpid())[0]
	check(t, unix.Kill(watcher, unix.SIGSTOP))
	awaitState(t, watcher, 'T')
	var starts sync.WaitGroup
	took := timed(func() {
		for range 500 {
			starts.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := netrunner.Command("true").Run(ctx)
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		starts.Wait()
	})
	if took > 3*much {
		t.Errorf("500 starts with a context of a second returned after %v", took)
	}
	_ = unix.Kill(watcher, unix.SIGCONT) // if nobody else has done so
	check(t, netrunner.Command("true").Run(testContext(t)))
}

// Told within a second, each of them, and not one after the other.
func TestLostShepherdsAreToldAtOnce(t *testing.T) {
	leaveNothing(t)
	const commands = 24
	mark := marker()
	var running []*netrunner.Process
	for range commands {
		running = append(running, start(t, endless(mark)))
	}
	watcher := children(t, os.Getpid())[0]
	check(t, unix.Kill(watcher, unix.SIGSTOP))
	awaitState(t, watcher, 'T')
	for _, p := range running {
		check(t, unix.Kill(parentOf(t, p.PID()), unix.SIGKILL))
	}
	took := timed(func() {
		for _, p := range running {
			if _, err := p.Wait(); !errors.Is(err, netrunner.ErrShepherdLost) {
				t.Errorf("%v, want ErrShepherdLost", err)
			}
		}
	})
	if took > commands/2*time.Second { // one after the other takes as many seconds as there are
		t.Errorf("%d lost shepherds were told after %v", commands, took)
	}
	check(t, unix.Kill(watcher, unix.SIGCONT))
	waitGone(t, mark, patience)
}

// A shepherd that reads nothing is told to stop, in vain, and the caller goes on.
func TestAStoppedShepherdHoldsNobodyUp(t *testing.T) {
	leaveNothing(t)
	p := stubborn(t, marker())
	shepherd := parentOf(t, p.PID())
	check(t, unix.Kill(shepherd, unix.SIGSTOP))
	awaitState(t, shepherd, 'T')
	var err error
	took := timed(func() {
		for err == nil {
			err = p.Signal(syscall.SIGWINCH)
		}
		if !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("signals are refused with %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		if err := p.Kill(); err != nil {
			t.Errorf("Kill: %v", err)
		}
	})
	if took > much {
		t.Errorf("it took %v", took)
	}
	// Nobody but netrunner continues the shepherd; then the kill arrives, though there was no room for it.
	_, err = p.Wait()
	if exit, ok := errors.AsType[*netrunner.ExitError](err); !ok || exit.State.Signal() != syscall.SIGKILL {
		t.Errorf("Wait: %v", err)
	}
}

// The command stops the one that is to end it.
func TestACommandThatStopsItsShepherd(t *testing.T) {
	for _, test := range []struct{ name, script string }{
		{"once", `kill -STOP $PPID; exec sleep $0`},
		{"when it is told to stop", `trap 'kill -STOP $PPID; exec sleep $0' TERM; echo ready; while :; do sleep 0.01; done`},
		{"and the watcher", `kill -STOP $(ps -o ppid= -p $PPID) $PPID; exec sleep $0`},
		{"from another session", `setsid sh -c 'kill -STOP $1; exec sleep $0' $0 $PPID & exec sleep $0`},
	} {
		for _, end := range []string{"timeout", "context", "kill"} {
			t.Run(test.name+"/"+end, func(t *testing.T) {
				t.Parallel()
				mark := marker()
				cmd := netrunner.Command("sh", "-c", test.script, mark)
				cmd.KillTimeout = 50 * time.Millisecond
				ctx, cancel := context.WithCancel(testContext(t))
				defer cancel()
				want := context.Canceled
				if end == "timeout" {
					cmd.Timeout, want = 500*time.Millisecond, netrunner.ErrTimeout
				}
				p, err := cmd.Start(ctx)
				if errors.Is(err, netrunner.ErrTimeout) { // it had stopped the shepherd before that could say a word
					waitGone(t, mark, patience)
					return
				}
				check(t, err)
				switch end {
				case "kill":
					proctest.Eventually(t, "what comes after the shepherd was stopped", func() bool {
						return strings.Contains(test.script, "TERM") || slices.ContainsFunc(proctest.Marked(mark), func(p proctest.Process) bool { return p.Name == "sleep" })
					})
					check(t, p.Kill())
				case "context":
					time.AfterFunc(500*time.Millisecond, cancel)
				}
				took := timed(func() { _, err = p.Wait() })
				if _, ok := errors.AsType[*netrunner.ExitError](err); !ok || end != "kill" && !errors.Is(err, want) {
					t.Errorf("it ended with %v", err)
				}
				if took > 3*much {
					t.Errorf("it ended after %v", took)
				}
				waitGone(t, mark, patience)
			})
		}
	}
}

// On a file system that answers nothing, the start returns in time.
func TestStartOnAFileSystemThatHangs(t *testing.T) {
	for _, where := range []struct {
		name string
		cmd  func(dir string) *netrunner.Cmd
	}{
		{"directory", func(dir string) *netrunner.Cmd {
			return &netrunner.Cmd{Path: "/bin/true", Dir: filepath.Join(dir, "x")}
		}},
		{"program", func(dir string) *netrunner.Cmd { return &netrunner.Cmd{Path: filepath.Join(dir, "x")} }},
		{"root", func(dir string) *netrunner.Cmd {
			return &netrunner.Cmd{Path: "/bin/true", SysProcAttr: &syscall.SysProcAttr{Chroot: filepath.Join(dir, "x")}}
		}},
	} {
		for _, how := range []string{"context", "timeout"} {
			t.Run(where.name+"/"+how, func(t *testing.T) {
				leaveNothing(t)
				hang := proctest.NewHang(t)
				cmd, ctx := where.cmd(hang.Dir), t.Context()
				want := netrunner.ErrTimeout
				if how == "context" {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
					defer cancel()
					want = context.DeadlineExceeded
				} else {
					cmd.Timeout = 200 * time.Millisecond
				}
				var err error
				took := timed(func() { _, err = cmd.Start(ctx) })
				var start *netrunner.StartError
				if !errors.As(err, &start) || !errors.Is(err, want) {
					t.Errorf("it fails with %v, want %v", err, want)
				}
				if took > much {
					t.Errorf("it fails after %v", took)
				}
				check(t, netrunner.Command("true").Run(testContext(t)))
				hang.Thaw()
			})
		}
	}
}

func awaitState(t testing.TB, pid int, state byte) {
	t.Helper()
	proctest.Eventually(t, "a process in state "+string(state), func() bool {
		p, _ := proctest.Read(pid)
		return p.State == state
	})
}
