package netrunner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
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

// A Writer that goes on, however slowly, gets all of it also when the command was
// stopped: only one that does not return is given up.
func TestASlowWriterOfAStoppedCommandGetsAllOfIt(t *testing.T) {
	leaveNothing(t)
	netrunner.ShortenCopyPatience(t, 1500*time.Millisecond)
	got := 0
	cmd := netrunner.Command("sh", "-c", "head -c 200000 /dev/zero; echo >&2; exec sleep 1000")
	cmd.PipeSize, cmd.Stderr = 1<<20, netrunner.Pipe
	cmd.Stdout = writerFunc(func(b []byte) (int, error) {
		time.Sleep(400 * time.Millisecond) // it is slow: seven times this is more than the patience
		got += len(b)
		return len(b), nil
	})
	p, err := cmd.Start(testContext(t))
	check(t, err)
	_, err = p.Stderr().Read(make([]byte, 1)) // all is in the pipe
	check(t, errors.Join(err, p.Stderr().Close(), p.Stop(testContext(t))))
	if _, err := p.Wait(); errors.Is(err, netrunner.ErrCopyBlocked) || int64(got) != p.Stats().BytesOut {
		t.Errorf("got %d bytes of %d, %v", got, p.Stats().BytesOut, err)
	}
	if got != 200000 {
		t.Errorf("%d bytes", got)
	}
}

// What the start calls is the group's own code too.
func TestTheStartsCodeCannotWaitForItsGroup(t *testing.T) {
	for _, test := range []struct {
		name     string
		terminal func(refused func()) *netrunner.Terminal
	}{
		{"Modes", func(refused func()) *netrunner.Terminal {
			return &netrunner.Terminal{Modes: func(*unix.Termios) { refused() }}
		}},
		{"Record", func(refused func()) *netrunner.Terminal {
			return &netrunner.Terminal{Record: writerFunc(func(b []byte) (int, error) {
				refused()
				return len(b), nil
			})}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaveNothing(t)
			group := &netrunner.Group{Limit: 1}
			cmd := netrunner.Command("true")
			cmd.Terminal = test.terminal(func() {
				for _, err := range []error{group.Wait(), group.Close()} {
					if !errors.Is(err, netrunner.ErrWaitsForItself) {
						t.Errorf("in the start: %v", err)
					}
				}
			})
			within(t, "Group.Run", func() {
				if err := group.Run(testContext(t), cmd); !errors.Is(err, netrunner.ErrGroupClosed) {
					t.Errorf("%v, want ErrGroupClosed", err)
				}
			})
		})
	}
}

// One of the observer's functions may panic, and the other is told all the same.
func TestExitedIsCalledWhenLeftoversPanics(t *testing.T) {
	leaveNothing(t)
	var told []error
	cmd := netrunner.Command("sh", "-c", "setsid sleep 1000 & exit 0")
	cmd.Observer = &netrunner.Observer{
		Leftovers: func(context.Context, netrunner.LeftoversInfo) { panic(errOnPurpose) },
		Exited:    func(_ context.Context, info netrunner.ExitedInfo) { told = append(told, info.Err) },
	}
	if value := panicOf(func() { _ = cmd.Run(testContext(t)) }); value == nil {
		t.Error("Run did not panic")
	}
	if len(told) != 1 || !errors.Is(told[0], errOnPurpose) {
		t.Errorf("Exited was told of %v", told)
	}
}

// Code of the caller's that ends its goroutine (testing's FailNow) is as one that panics.
func TestGoexitInTheCallersCode(t *testing.T) {
	goexit := func([]byte) (int, error) { runtime.Goexit(); return 0, nil }
	for _, test := range []struct {
		name string
		cmd  netrunner.Cmd
	}{
		{"Stdout", netrunner.Cmd{Stdout: writerFunc(goexit)}},
		{"Stdin", netrunner.Cmd{Stdin: readerFunc(goexit)}},
		{"Modes", netrunner.Cmd{Terminal: &netrunner.Terminal{Modes: func(*unix.Termios) { runtime.Goexit() }}}},
		{"Started", netrunner.Cmd{Observer: &netrunner.Observer{
			Started: func(context.Context, netrunner.StartedInfo) context.Context { runtime.Goexit(); return nil },
		}}},
		{"Exited", netrunner.Cmd{Observer: &netrunner.Observer{
			Exited: func(context.Context, netrunner.ExitedInfo) { runtime.Goexit() },
		}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaveNothing(t)
			before := netrunner.Totals().Running
			test.cmd.Path, test.cmd.Args = "/bin/sh", []string{"sh", "-c", "echo x"}
			group := &netrunner.Group{Limit: 1}
			within(t, "Group.Wait", func() {
				group.Go(testContext(t), &test.cmd)
				group.Go(testContext(t), netrunner.Command("true"))
				if err := group.Wait(); !errors.As(err, new(*netrunner.PanicError)) {
					t.Errorf("the group's error is %v", err)
				}
			})
			if after := netrunner.Totals().Running; after != before {
				t.Errorf("%d commands run, %d before", after, before)
			}
		})
	}
}

// A recording is written by whoever reads. Where that is no goroutine of the
// caller's, its panic is the loop's.
func TestAPanicOfARecordingInALoopOverBothStreams(t *testing.T) {
	for name, fail := range map[string]func(){
		"panic":  func() { panic(errOnPurpose) },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			leaveNothing(t)
			mark := marker()
			cmd := netrunner.Command("sh", "-c", "echo x; exec sleep 1000", mark)
			cmd.Terminal = &netrunner.Terminal{Record: writerFunc(func(b []byte) (int, error) {
				if !strings.HasPrefix(string(b), "{") { // the header, written by Start
					fail()
				}
				return len(b), nil
			})}
			within(t, "the loop", func() {
				value := panicOf(func() {
					for _, err := range cmd.OutputLines(testContext(t), netrunner.Stdout|netrunner.Stderr) {
						check(t, err)
					}
				})
				if _, ok := value.(*netrunner.PanicError); !ok {
					t.Errorf("the loop panicked with %v", value)
				}
			})
			waitGone(t, mark, patience)
		})
	}
}

// A function that has the handle may stop the command: nothing waits for it.
func TestStopWithTheHandle(t *testing.T) {
	leaveNothing(t)
	p, err := netrunner.Command("sleep", "1000").Start(testContext(t))
	check(t, err)
	var number int
	within(t, "WithHandle", func() {
		check(t, p.WithHandle(func(handle uintptr) {
			number = int(handle)
			if err := p.Stop(context.Background()); err != nil {
				t.Error(err)
			}
			if _, err := p.Wait(); err == nil {
				t.Error("Wait has no error of a command that was stopped")
			}
			// It is still there, and its process is not.
			if err := unix.PidfdSendSignal(int(handle), 0, nil, 0); err != unix.ESRCH {
				t.Errorf("the handle of a process that is gone: %v", err)
			}
		}))
	})
	if err := unix.PidfdSendSignal(number, 0, nil, 0); err != unix.EBADF {
		t.Errorf("the handle after the function has returned: %v", err)
	}
	if err := p.WithHandle(func(uintptr) {}); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("WithHandle after the end: %v", err)
	}
}

// Whoever waits for a group hears of a panic in it, however soon it is asked.
func TestAGroupWaitsForThePanicsOfItsStarts(t *testing.T) {
	leaveNothing(t)
	for range 300 {
		for _, cmd := range []*netrunner.Cmd{
			{Path: "/bin/true", Terminal: &netrunner.Terminal{Modes: func(*unix.Termios) { panic(errOnPurpose) }}},
			{Path: "/bin/true", Observer: &netrunner.Observer{
				Started: func(context.Context, netrunner.StartedInfo) context.Context { panic(errOnPurpose) },
			}},
		} {
			group := &netrunner.Group{}
			group.Go(testContext(t), cmd)
			if err := group.Wait(); !errors.Is(err, errOnPurpose) {
				t.Fatalf("the group's error is %v", err)
			}
		}
	}
}

// What is left on purpose, and floods the terminal, does not hold up whoever has
// set a time.
func TestAFloodOfTheTerminalIsNoProgress(t *testing.T) {
	leaveNothing(t)
	netrunner.ShortenCopyPatience(t, 50*time.Millisecond)
	mark := marker()
	cmd := netrunner.Command("sh", "-c", `trap "" HUP; yes `+mark+` & sleep 0.1; exit 0`)
	cmd.Terminal, cmd.Leftovers, cmd.Timeout = &netrunner.Terminal{}, netrunner.LeaveLeftovers, time.Second
	cmd.Stdout = writerFunc(func(b []byte) (int, error) {
		time.Sleep(20 * time.Millisecond) // so that there is always more to read
		return len(b), nil
	})
	t.Cleanup(func() { // also when Run does not return
		for _, pid := range marked(t, mark) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		waitGone(t, mark, patience)
	})
	within(t, "Run", func() {
		if err := cmd.Run(testContext(t)); !errors.Is(err, netrunner.ErrCopyBlocked) {
			t.Errorf("%v, want ErrCopyBlocked", err)
		}
	})
}
