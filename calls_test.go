package netrunner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
)

// writerFunc and readerFunc are code of the caller's.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// within fails a test in which a call does not return, instead of hanging.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s does not return", what)
	}
}

// panicOf returns what a call panics with.
func panicOf(f func()) (value any) {
	defer func() { value = recover() }()
	f()
	return nil
}

var errOnPurpose = errors.New("on purpose")

// A panic in the caller's code is Wait's, wherever that code was called; the
// group's place, the totals and the descriptors are given back.
func TestAPanicOfTheCallersCode(t *testing.T) {
	panics := func([]byte) (int, error) { panic(errOnPurpose) }
	record := func(cmd *netrunner.Cmd) {
		cmd.Terminal = &netrunner.Terminal{Record: writerFunc(func(b []byte) (int, error) {
			if strings.HasPrefix(string(b), "{") { // the header, written by Start
				return len(b), nil
			}
			panic(errOnPurpose)
		})}
	}
	for _, test := range []struct {
		name   string
		script string
		set    func(cmd *netrunner.Cmd)
	}{
		{"Stdout of a short command", "echo x", func(cmd *netrunner.Cmd) { cmd.Stdout = writerFunc(panics) }},
		{"Stdout of a long command", "sleep 0.1; echo x; sleep 1000", func(cmd *netrunner.Cmd) { cmd.Stdout = writerFunc(panics) }},
		{"Stdout with a limit", "echo x; sleep 1000", func(cmd *netrunner.Cmd) { cmd.Stdout, cmd.MaxOutput = writerFunc(panics), 100 }},
		{"Stderr", "echo x >&2; sleep 1000", func(cmd *netrunner.Cmd) { cmd.Stderr = writerFunc(panics) }},
		{"Stdin", "cat", func(cmd *netrunner.Cmd) { cmd.Stdin = readerFunc(panics) }},
		{"Input", "cat", func(cmd *netrunner.Cmd) {
			cmd.Stdin = netrunner.Input(func(func([]byte) bool) { panic(errOnPurpose) })
		}},
		{"a recording", "echo x; sleep 1000", record},
		{"Exited", "exit 0", func(cmd *netrunner.Cmd) {
			cmd.Observer = &netrunner.Observer{Exited: func(context.Context, netrunner.ExitedInfo) { panic(errOnPurpose) }}
		}},
		{"Exited of a command that fails", "exit 3", func(cmd *netrunner.Cmd) {
			cmd.Observer = &netrunner.Observer{Exited: func(context.Context, netrunner.ExitedInfo) { panic(errOnPurpose) }}
		}},
		{"Leftovers", "setsid sleep 1000 & exit 0", func(cmd *netrunner.Cmd) {
			cmd.Observer = &netrunner.Observer{Leftovers: func(context.Context, netrunner.LeftoversInfo) { panic(errOnPurpose) }}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaveNothing(t)
			before := netrunner.Totals()
			cmd := netrunner.Command("sh", "-c", test.script)
			test.set(cmd)
			within(t, "Run", func() {
				panicked, ok := panicOf(func() { _ = cmd.Run(testContext(t)) }).(*netrunner.PanicError)
				if !ok || !errors.Is(panicked, errOnPurpose) || !strings.Contains(string(panicked.Stack), "calls_test.go") {
					t.Errorf("Run panicked with %v", panicked)
				}
			})
			group := &netrunner.Group{Limit: 1}
			within(t, "Group.Wait", func() {
				group.Go(testContext(t), cmd)
				group.Go(testContext(t), netrunner.Command("true"))
				var panicked *netrunner.PanicError
				if err := group.Wait(); !errors.As(err, &panicked) {
					t.Errorf("the group's error is %v", err)
				}
			})
			if stats := group.Stats(); stats.Running != 0 || stats.Started != 2 || stats.Failed != 1 {
				t.Errorf("the group's figures are %+v", stats)
			}
			if after := netrunner.Totals(); after.Running != before.Running || after.Ended != before.Ended+3 {
				t.Errorf("totals before: %+v, after: %+v", before, after)
			}
		})
	}
}

// A panic in Start's own goroutine passes through; of Go it is the group's error.
func TestAPanicInTheStart(t *testing.T) {
	for _, test := range []struct {
		name string
		cmd  netrunner.Cmd
	}{
		{"Modes", netrunner.Cmd{Path: "/bin/true", Terminal: &netrunner.Terminal{Modes: func(*unix.Termios) { panic(errOnPurpose) }}}},
		{"Record", netrunner.Cmd{Path: "/bin/true", Terminal: &netrunner.Terminal{Record: writerFunc(func([]byte) (int, error) { panic(errOnPurpose) })}}},
		{"Started", netrunner.Cmd{Path: "/bin/true", Observer: &netrunner.Observer{
			Started: func(context.Context, netrunner.StartedInfo) context.Context { panic(errOnPurpose) },
		}}},
		{"NotStarted", netrunner.Cmd{Path: "/no/such", Observer: &netrunner.Observer{
			NotStarted: func(context.Context, netrunner.NotStartedInfo) { panic(errOnPurpose) },
		}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaveNothing(t)
			if value := panicOf(func() { _, _ = test.cmd.Start(testContext(t)) }); value != any(errOnPurpose) {
				t.Errorf("Start panicked with %v", value)
			}
			group := &netrunner.Group{Limit: 1}
			if value := panicOf(func() { _, _ = group.Start(testContext(t), &test.cmd) }); value != any(errOnPurpose) {
				t.Errorf("Group.Start panicked with %v", value)
			}
			group.Go(testContext(t), &test.cmd)
			within(t, "Group.Run", func() {
				if err := group.Run(testContext(t), netrunner.Command("true")); err != nil {
					t.Errorf("the next command of the group: %v", err)
				}
				if err := group.Wait(); err == nil {
					t.Error("the group has no error")
				}
			})
		})
	}
}

// A Writer that never returns holds up neither the end nor what else the command had.
func TestAWriterThatNeverReturns(t *testing.T) {
	netrunner.ShortenCopyPatience(t, 50*time.Millisecond)
	for _, test := range []struct {
		name, script string
		begin        func(t *testing.T, cmd *netrunner.Cmd) error
		want         error
	}{
		{"the timeout stops it", "yes", func(t *testing.T, cmd *netrunner.Cmd) error {
			cmd.Timeout = 200 * time.Millisecond
			return cmd.Run(testContext(t))
		}, netrunner.ErrTimeout},
		{"the timeout after its end", "echo x", func(t *testing.T, cmd *netrunner.Cmd) error {
			cmd.Timeout = 500 * time.Millisecond
			return cmd.Run(testContext(t))
		}, nil},
		{"the context after its end", "echo x", func(t *testing.T, cmd *netrunner.Cmd) error {
			ctx, cancel := context.WithTimeout(testContext(t), 500*time.Millisecond)
			defer cancel()
			return cmd.Run(ctx)
		}, nil},
		{"Stop", "yes", func(t *testing.T, cmd *netrunner.Cmd) error {
			p, err := cmd.Start(testContext(t))
			check(t, err)
			check(t, p.Stop(testContext(t)))
			_, err = p.Wait()
			return err
		}, nil},
		{"Kill", "yes", func(t *testing.T, cmd *netrunner.Cmd) error {
			p, err := cmd.Start(testContext(t))
			check(t, err)
			check(t, p.Kill())
			_, err = p.Wait()
			return err
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaveNothing(t)
			leave, entered := make(chan struct{}), make(chan struct{}, 1)
			cmd := netrunner.Command("sh", "-c", test.script)
			cmd.Stdout = writerFunc(func(b []byte) (int, error) {
				select {
				case entered <- struct{}{}:
				default:
				}
				<-leave
				return len(b), nil
			})
			if test.name == "Stop" || test.name == "Kill" {
				cmd.Observer = &netrunner.Observer{Started: func(context.Context, netrunner.StartedInfo) context.Context {
					<-entered
					return nil
				}}
			}
			within(t, "the command", func() {
				before := descriptors(t)
				err := test.begin(t, cmd)
				if !errors.Is(err, netrunner.ErrCopyBlocked) || test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("%v, want ErrCopyBlocked and %v", err, test.want)
				}
				netrunner.CloseIdle()
				if after := descriptors(t); !slices.Equal(before, after) {
					t.Errorf("descriptors before: %q, after: %q", before, after)
				}
			})
			close(leave)
		})
	}
}

// A Writer that is slow, of a command that nobody has stopped, is waited for.
func TestASlowWriterGetsAllOfIt(t *testing.T) {
	leaveNothing(t)
	netrunner.ShortenCopyPatience(t, time.Millisecond)
	var got strings.Builder
	cmd := netrunner.Command("seq", "3")
	cmd.Stdout = writerFunc(func(b []byte) (int, error) {
		time.Sleep(300 * time.Millisecond)
		return got.Write(b)
	})
	check(t, cmd.Run(testContext(t)))
	if got.String() != "1\n2\n3\n" {
		t.Errorf("%q", got.String())
	}
}

// Code that is called for a command may stop it, start another, close the group;
// what can't work is refused.
func TestTheCallersCodeCallsBack(t *testing.T) {
	background := context.Background()
	t.Run("Stop in Started", func(t *testing.T) {
		leaveNothing(t)
		for _, run := range []bool{false, true} {
			cmd := netrunner.Command("sleep", "1000")
			cmd.Observer = &netrunner.Observer{Started: func(_ context.Context, info netrunner.StartedInfo) context.Context {
				if err := info.Process.Stop(background); err != nil {
					t.Error(err)
				}
				if _, err := info.Process.Wait(); err != nil && !errors.Is(err, netrunner.ErrWaitsForItself) {
					t.Errorf("Wait in Started: %v", err)
				}
				return nil
			}}
			within(t, "Start or Run", func() {
				if run {
					_ = cmd.Run(testContext(t))
				} else {
					p, err := cmd.Start(testContext(t))
					check(t, err)
					if state, _ := p.Wait(); state.Signal() != unix.SIGTERM {
						t.Errorf("%v", state)
					}
				}
			})
		}
	})
	t.Run("Stop and Wait in a Writer", func(t *testing.T) {
		leaveNothing(t)
		processes := make(chan *netrunner.Process, 1)
		cmd := netrunner.Command("sh", "-c", "echo FATAL; exec sleep 1000")
		cmd.Stdout = writerFunc(func(b []byte) (int, error) {
			p := <-processes
			if _, err := p.Wait(); !errors.Is(err, netrunner.ErrWaitsForItself) {
				t.Errorf("Wait in a Writer: %v", err)
			}
			return len(b), p.Stop(background)
		})
		p, err := cmd.Start(testContext(t))
		check(t, err)
		processes <- p
		within(t, "Wait", func() {
			if state, _ := p.Wait(); state.Signal() != unix.SIGTERM {
				t.Errorf("%v", state)
			}
		})
	})
	t.Run("Stop in Exited", func(t *testing.T) {
		leaveNothing(t)
		processes := make(chan *netrunner.Process, 1)
		cmd := netrunner.Command("true")
		cmd.Observer = &netrunner.Observer{Exited: func(context.Context, netrunner.ExitedInfo) {
			p := <-processes
			if err := p.Stop(background); err != nil {
				t.Error(err)
			}
			if _, err := p.Wait(); !errors.Is(err, netrunner.ErrWaitsForItself) {
				t.Errorf("Wait in Exited: %v", err)
			}
		}}
		p, err := cmd.Start(testContext(t))
		check(t, err)
		processes <- p
		within(t, "Wait", func() { _, _ = p.Wait() })
	})
	t.Run("Start again in Exited", func(t *testing.T) {
		leaveNothing(t)
		group := &netrunner.Group{Limit: 1}
		var restarts int
		cmd := netrunner.Command("true")
		cmd.Observer = &netrunner.Observer{Exited: func(context.Context, netrunner.ExitedInfo) {
			if restarts++; restarts < 3 {
				if _, err := group.Start(testContext(t), cmd); err != nil {
					t.Error(err)
				}
			}
		}}
		group.Go(testContext(t), cmd)
		within(t, "Wait", func() { check(t, group.Wait()) })
		if stats := group.Stats(); stats.Started != 3 || stats.Running != 0 {
			t.Errorf("%+v", stats)
		}
	})
	t.Run("Close and Wait in a group's own", func(t *testing.T) {
		leaveNothing(t)
		group := &netrunner.Group{Limit: 2}
		refused := func() {
			for _, err := range []error{group.Close(), group.Wait()} {
				if !errors.Is(err, netrunner.ErrWaitsForItself) {
					t.Errorf("in code of the group's own: %v", err)
				}
			}
		}
		mark := marker()
		group.Go(testContext(t), endless(mark))
		cmd := netrunner.Command("true")
		cmd.Observer = &netrunner.Observer{Exited: func(context.Context, netrunner.ExitedInfo) { refused() }}
		group.Go(testContext(t), cmd)
		late := netrunner.Command("/no/such")
		late.Observer = &netrunner.Observer{NotStarted: func(context.Context, netrunner.NotStartedInfo) { refused() }}
		group.Go(testContext(t), late)
		within(t, "Wait", func() {
			if err := group.Wait(); err == nil {
				t.Error("nothing was stopped")
			}
		})
		waitGone(t, mark, patience)
	})
	t.Run("a pipeline's own", func(t *testing.T) {
		leaveNothing(t)
		processes := make(chan *netrunner.PipelineProcess, 1)
		last := netrunner.Command("cat")
		last.Stdout = writerFunc(func(b []byte) (int, error) {
			p := <-processes
			defer func() { processes <- p }()
			if _, err := p.Wait(); !errors.Is(err, netrunner.ErrWaitsForItself) {
				t.Errorf("Wait in a Writer: %v", err)
			}
			return len(b), p.Stop(background)
		})
		p, err := netrunner.Pipeline{netrunner.Command("sh", "-c", "echo x; exec sleep 1000"), last}.Start(testContext(t))
		check(t, err)
		processes <- p
		within(t, "Wait", func() { _, _ = p.Wait() })
	})
}

// What is left on purpose and goes on writing is not the command's output.
func TestLeftoversThatWriteDoNotHoldUpTheEnd(t *testing.T) {
	leaveNothing(t)
	for name, set := range map[string]func(cmd *netrunner.Cmd){
		"captured": func(*netrunner.Cmd) {},
		"copied":   func(cmd *netrunner.Cmd) { cmd.Stderr = writerFunc(func(b []byte) (int, error) { return len(b), nil }) },
		"piped":    func(cmd *netrunner.Cmd) { cmd.Stderr = netrunner.Pipe },
	} {
		mark := marker()
		cmd := netrunner.Command("sh", "-c", `trap "" PIPE; yes `+mark+` >&2 & sleep 0.001; exit 0`)
		cmd.Leftovers = netrunner.LeaveLeftovers
		set(cmd)
		within(t, fmt.Sprintf("a command whose output is %s", name), func() {
			p, err := cmd.Start(testContext(t))
			check(t, err)
			_, err = p.Wait()
			check(t, err)
			if cmd.Stderr == netrunner.Pipe {
				_, err := io.Copy(io.Discard, p.Stderr())
				check(t, errors.Join(err, p.Stderr().Close()))
			}
		})
		for _, pid := range marked(t, mark) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		waitGone(t, mark, patience)
	}
}
