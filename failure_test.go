package netrunner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
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

// What the helpers may not have any more: descriptors to receive a request with,
// memory for its strings. Every start works or says which step failed, nothing
// is left, and with the limit gone all is well again.
func TestAHelperRunsOut(t *testing.T) {
	long := make([]string, 200) // more than a shepherd has room for without asking the kernel
	for i := range long {
		long[i] = strings.Repeat("x", 1000)
	}
	for _, test := range []struct {
		name     string
		resource int
		from     uint64 // enough
		step     uint64
		args     []string
		errno    syscall.Errno
	}{
		{"descriptors", unix.RLIMIT_NOFILE, 16, 1, nil, syscall.EMFILE},
		{"memory", unix.RLIMIT_AS, 1 << 20, 32 << 10, long, syscall.ENOMEM},
	} {
		for _, who := range []string{"watcher", "shepherd"} {
			t.Run(test.name+" of the "+who, func(t *testing.T) {
				leaveNothing(t)
				failed := 0
				for limit := test.from; ; limit -= test.step {
					ctx := testContext(t)
					check(t, netrunner.Command("true").Run(ctx))
					helper := children(t, os.Getpid())[0]
					if who == "shepherd" {
						helper = children(t, helper)[0]
					}
					var before unix.Rlimit
					check(t, unix.Prlimit(helper, test.resource, nil, &before))
					check(t, unix.Prlimit(helper, test.resource, &unix.Rlimit{Cur: limit, Max: before.Max}, nil))
					var running []*netrunner.Process
					mark := marker()
					// The second needs a new shepherd, if the first one runs.
					for range 2 {
						p, err := netrunner.Command("sh", append([]string{"-c", "sleep $0 & wait", mark}, test.args...)...).Start(ctx)
						var refused *netrunner.StartError
						switch {
						case err == nil:
							running = append(running, p)
						case errors.As(err, &refused) && errors.Is(err, test.errno):
							failed++
						case errors.As(err, &refused):
							t.Logf("limit %d: %v", limit, err)
						default:
							t.Errorf("limit %d: %v, want a StartError", limit, err)
						}
					}
					for _, p := range running {
						_ = p.Kill()
						_, _ = p.Wait()
					}
					if left := marked(t, mark); len(left) > 0 {
						t.Errorf("limit %d: there are %q", limit, describe(left))
					}
					netrunner.CloseIdle() // and with it the helpers that have the limit
					if limit < test.step {
						break
					}
				}
				if failed == 0 {
					t.Errorf("no start has failed with %v", test.errno)
				}
				check(t, netrunner.Command("true").Run(testContext(t)))
			})
		}
	}
}

// An owner whose standard descriptors are closed: the pipes and sockets of
// netrunner then have the numbers 0, 1 and 2, and none of them may be taken for
// the command's.
func TestAnOwnerWithClosedDescriptors(t *testing.T) {
	leaveNothing(t)
	result := filepath.Join(t.TempDir(), "result")
	for _, closed := range []string{"<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"} {
		cmd := netrunner.Command("sh", "-c", `exec "$0" "$1" `+closed, helperCommand(t, "").Path, result)
		cmd.Env = append(os.Environ(), helperVariable+"=closed-descriptors")
		check(t, cmd.Run(testContext(t)))
		text, err := os.ReadFile(result)
		check(t, err)
		if want := "to cat\n0\n1\n2\n"; string(text) != want {
			t.Errorf("%s: %q, want %q", closed, text, want)
		}
	}
}

func init() {
	helperPrograms["closed-descriptors"] = func(args []string) {
		ctx := context.Background()
		cat := netrunner.Command("cat")
		cat.Stdin = strings.NewReader("to cat\n")
		text, err := cat.Output(ctx)
		if err == nil {
			var list []byte
			list, err = netrunner.Command("sh", "-c", `for fd in /proc/self/fd/*; do if [ -e $fd ]; then echo ${fd##*/}; fi; done`).Output(ctx)
			text = append(text, list...)
		}
		if err != nil {
			text = append(text, err.Error()...)
		}
		if err := os.WriteFile(args[0], text, 0o600); err != nil {
			os.Exit(1)
		}
	}
}

// An init, or a job runner, that waits for whatever child it has: it takes the
// watcher's status too, and must not make anything hang.
func TestAnOwnerThatReapsEveryChild(t *testing.T) {
	leaveNothing(t)
	out, err := helperCommand(t, "reaps-every-child").Output(testContext(t))
	if string(out) != "all ended\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

func init() {
	helperPrograms["reaps-every-child"] = func([]string) {
		go func() {
			for {
				var status unix.WaitStatus
				_, _ = unix.Wait4(-1, &status, 0, nil)
			}
		}()
		ctx := context.Background()
		for range 20 {
			for range 10 {
				if out, err := netrunner.Command("echo", "hello").Output(ctx); string(out) != "hello\n" || err != nil {
					fmt.Printf("%q, %v\n", out, err)
				}
			}
			netrunner.CloseIdle() // the watcher ends, and its status is taken by the other
		}
		fmt.Println("all ended")
	}
}

// Signals without end, to the owner and to the helpers: nothing is interrupted
// that is not tried again, and the helpers take none that they need not.
func TestASignalStorm(t *testing.T) {
	leaveNothing(t)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGCHLD, syscall.SIGWINCH)
	defer signal.Stop(signals)
	cmd := netrunner.Command("sh", "-c", "cat; exit 3")
	cmd.Stdin = strings.NewReader("hello")
	_, _ = cmd.Output(testContext(t))
	watcher := only(t, children(t, os.Getpid()))
	shepherd := only(t, children(t, watcher))

	done := make(chan struct{})
	var storm sync.WaitGroup
	storm.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-signals:
			default:
			}
			_ = unix.Kill(os.Getpid(), []syscall.Signal{unix.SIGUSR1, unix.SIGCHLD, unix.SIGWINCH, unix.SIGURG}[i%4])
			for _, helper := range []int{watcher, shepherd} {
				_ = unix.Kill(helper, []syscall.Signal{
					unix.SIGTERM, unix.SIGCHLD, unix.SIGHUP, unix.SIGINT, unix.SIGUSR1, unix.SIGPIPE, unix.SIGALRM, unix.SIGCONT,
				}[i%8])
			}
		}
	})
	for range 300 {
		cmd.Stdin = strings.NewReader("hello")
		out, err := cmd.Output(testContext(t))
		var exit *netrunner.ExitError
		if string(out) != "hello" || !errors.As(err, &exit) || exit.State.ExitCode() != 3 {
			t.Errorf("%q, %v, want hello and exit status 3", out, err)
		}
	}
	close(done)
	storm.Wait()
	if now := only(t, children(t, only(t, children(t, os.Getpid())))); now != shepherd {
		t.Error("the shepherd has not lived through it")
	}
}

// Nothing can block SIGSTOP. A helper that was stopped does its work as soon as
// it is continued; until then the owner can go on, if it waits with a context.
func TestAStoppedHelper(t *testing.T) {
	for _, who := range []string{"shepherd", "watcher"} {
		t.Run(who, func(t *testing.T) {
			leaveNothing(t)
			mark := marker()
			p := start(t, netrunner.Command("sh", "-c", "setsid sleep $0 & echo ready; wait", mark))
			readLine(t, p.Stdout())
			helper := parentOf(t, p.PID())
			if who == "watcher" {
				helper = parentOf(t, helper)
			}
			check(t, unix.Kill(helper, unix.SIGSTOP))
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			err := p.Stop(ctx)
			switch {
			case who == "watcher" && err != nil: // it is on no command's path
				t.Errorf("%v, want a stop", err)
			case who == "shepherd" && !errors.Is(err, context.DeadlineExceeded):
				t.Errorf("%v, want the end of the context", err)
			case who == "shepherd":
				// Another command does not need this shepherd.
				check(t, netrunner.Command("true").Run(testContext(t)))
			}
			check(t, unix.Kill(helper, unix.SIGCONT))
			_, _ = p.Wait()
			if left := marked(t, mark); len(left) > 0 {
				t.Errorf("there are %q", describe(left))
			}
		})
	}
}

// A set-uid program that has become root may not be signalled by another user.
// It is in the error and in the figures, and is not waited for.
func TestWhatMayNotBeKilledIsReported(t *testing.T) {
	leaveNothing(t)
	box := newBox(t)
	become := filepath.Join(box.dir, "become")
	proctest.CopyProgram(t, "setpriv", become, 0o755|os.ModeSetuid)
	var fs unix.Statfs_t
	check(t, unix.Statfs(box.dir, &fs))
	if fs.Flags&unix.ST_NOSUID != 0 {
		t.Skipf("%s is mounted nosuid", box.dir)
	}
	mark := marker()
	cmd := helperCommand(t, "may-not-kill", become, mark)
	cmd.Leftovers = netrunner.LeaveLeftovers // or it would be killed for that owner, by root
	out, err := cmd.CombinedOutput(testContext(t))
	left := marked(t, mark)
	if len(left) != 1 || err != nil {
		t.Fatalf("left are %q, %s, %v", describe(left), out, err)
	}
	want := fmt.Sprintf("\"sh\": 1 of its processes could not be killed, pids [%d]: signal: killed\nleft: 1\n", left[0])
	if string(out) != want {
		t.Errorf("%q, want %q", out, want)
	}
	check(t, unix.Kill(left[0], unix.SIGKILL))
	waitGone(t, mark, patience)
}

func init() {
	helperPrograms["may-not-kill"] = func(args []string) {
		for _, err := range []error{syscall.Setgroups(nil), syscall.Setgid(54321), syscall.Setuid(54321)} {
			if err != nil {
				panic(err)
			}
		}
		script := `"$0" --reuid=0 sh -c 'echo ready; exec sleep "$0"' "$1" & wait`
		cmd := netrunner.Command("sh", "-c", script, args[0], args[1])
		cmd.Stdout = netrunner.Pipe
		p, err := cmd.Start(context.Background())
		if err != nil {
			panic(err)
		}
		if _, err := io.ReadFull(p.Stdout(), make([]byte, len("ready\n"))); err != nil {
			panic(err)
		}
		_ = p.Kill()
		state, err := p.Wait()
		var leftover *netrunner.LeftoverError
		if !errors.As(err, &leftover) {
			fmt.Print("not a LeftoverError: ")
		}
		fmt.Println(err)
		fmt.Println("left:", state.Stats().Left)
	}
}

// A command that leaves a process in the background on purpose, its descriptors
// on /dev/null, blocks nobody: no runner's descriptor is in that process.
func TestABackgroundProcessBlocksNobody(t *testing.T) {
	leaveNothing(t)
	mark := marker()
	cmd := helperCommand(t, "leaves-one", mark)
	cmd.Leftovers = netrunner.LeaveLeftovers
	out, err := cmd.CombinedOutput(testContext(t)) // its end is seen, so nothing holds the pipe
	if string(out) != "started\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	sleeper := only(t, marked(t, mark))
	var open []string
	proctest.Eventually(t, "a process in the background with nothing but /dev/null", func() bool { // it may still load its library
		open = nil
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", sleeper))
		check(t, err)
		for _, entry := range entries {
			target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", sleeper, entry.Name()))
			open = append(open, entry.Name()+" "+target)
		}
		return slices.Equal(open, []string{"0 /dev/null", "1 /dev/null", "2 /dev/null"})
	})
	if t.Failed() {
		t.Errorf("it has %q", open)
	}
	check(t, unix.Kill(sleeper, unix.SIGKILL))
	waitGone(t, mark, patience)
}

func init() {
	helperPrograms["leaves-one"] = func(args []string) {
		cmd := netrunner.Command("sh", "-c", "sleep $0 </dev/null >/dev/null 2>&1 &", args[0])
		cmd.Leftovers = netrunner.LeaveLeftovers
		if err := cmd.Run(context.Background()); err != nil {
			panic(err)
		}
		fmt.Println("started")
	}
}
