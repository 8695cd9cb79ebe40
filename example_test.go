package netrunner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/netrunner-go/netrunner"
)

// README.md shows the body of this function, and .ci/run compares the two.
func Example() {
	ctx := context.Background()

	// Run a command and take its output.
	out, err := netrunner.Command("echo", "hello").Output(ctx)
	fmt.Printf("%s%v\n", out, err)

	// A Cmd is a template: set it up once, extend it, run it many times.
	sort := netrunner.Command("sort")
	sort.Stdin = strings.NewReader("b\na\nb\n")
	sort.Stdout = os.Stdout
	sort.Timeout = 10 * time.Second
	if err := sort.With("-u").Run(ctx); err != nil {
		log.Fatal(err)
	}

	// Start a command, read what it writes as it comes, then end it. What it
	// has put into a session of its own goes with it.
	server := netrunner.Command("sh", "-c", "setsid sleep 1000 & echo ready; wait")
	server.Stdout = netrunner.Pipe
	p, err := server.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	line := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(p.Stdout(), line); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", line)
	if err := p.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	state, _ := p.Wait() // the error says that a signal has ended it
	fmt.Println(state)

	// Output:
	// hello
	// <nil>
	// a
	// b
	// ready
	// signal: terminated
}

func ExampleCmd_Run_timeout() {
	cmd := netrunner.Command("sleep", "1000")
	cmd.Timeout = 50 * time.Millisecond
	err := cmd.Run(context.Background())
	fmt.Println(err)
	fmt.Println(errors.Is(err, netrunner.ErrTimeout))
	// Output:
	// "sleep": timed out after 50ms: signal: terminated
	// true
}

func ExampleCmd_Output_limit() {
	cmd := netrunner.Command("yes")
	cmd.MaxOutput = 10
	out, err := cmd.Output(context.Background())
	fmt.Printf("%q\n", out)
	fmt.Println(errors.Is(err, netrunner.ErrOutputLimit))
	// Output:
	// "y\ny\ny\ny\ny\n"
	// true
}

func ExampleCmd_With() {
	list := netrunner.Command("printf", "%s\n")
	for _, word := range []string{"one", "two"} {
		out, err := list.With(word).Output(context.Background())
		fmt.Printf("%s%v\n", out, err)
	}
	// Output:
	// one
	// <nil>
	// two
	// <nil>
}

// What a command leaves behind is killed when the command exits, unless
// Leftovers says otherwise.
func ExampleStats_leftovers() {
	cmd := netrunner.Command("sh", "-c", "sleep 1000 & setsid sleep 1000 & exit 0")
	p, err := cmd.Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	state, err := p.Wait()
	fmt.Println(state, err)
	fmt.Println("killed:", state.Stats().Killed)
	// Output:
	// exit status 0 <nil>
	// killed: 2
}

func ExampleExitError() {
	err := netrunner.Command("sh", "-c", "echo no such luck >&2; exit 3").Run(context.Background())
	var exit *netrunner.ExitError
	if errors.As(err, &exit) {
		fmt.Println(exit.State.ExitCode())
		fmt.Printf("%s", exit.Stderr)
	}
	fmt.Println(err)
	// Output:
	// 3
	// no such luck
	// "sh": exit status 3: no such luck
}

func ExampleStartError() {
	cmd := netrunner.Command("true")
	cmd.Dir = "/nowhere"
	err := cmd.Run(context.Background())
	var start *netrunner.StartError
	if errors.As(err, &start) {
		fmt.Println(start.Step, start.Subject)
	}
	fmt.Println(err)
	// Output:
	// chdir /nowhere
	// start "true": chdir "/nowhere": no such file or directory
}

func ExamplePipe() {
	cmd := netrunner.Command("tr", "a-z", "A-Z")
	cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
	p, err := cmd.Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(p.Stdin(), "hello\n"); err != nil {
		log.Fatal(err)
	}
	if err := p.Stdin().Close(); err != nil {
		log.Fatal(err)
	}
	out, err := io.ReadAll(p.Stdout())
	fmt.Printf("%s%v\n", out, err)
	_, err = p.Wait()
	fmt.Println(err)
	// Output:
	// HELLO
	// <nil>
	// <nil>
}

// A cancelled context stops the command, and its cause is the reason.
func ExampleCmd_Start_cancel() {
	ctx, cancel := context.WithCancelCause(context.Background())
	p, err := netrunner.Command("sleep", "1000").Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	closing := errors.New("closing down")
	cancel(closing)
	_, err = p.Wait()
	fmt.Println(err)
	fmt.Println(errors.Is(err, closing))
	// Output:
	// "sleep": closing down: signal: terminated
	// true
}

// An Observer hears of every command that its template starts. A tracer starts a
// span in Started, returns the context with it, and ends it in Exited.
func ExampleObserver() {
	type span struct{ name string }
	type key struct{}
	cmd := netrunner.Command("sh", "-c", "sleep 1000 & exit 3")
	cmd.Observer = &netrunner.Observer{
		Started: func(ctx context.Context, info netrunner.StartedInfo) context.Context {
			fmt.Println("begin", info.Cmd.Args[0])
			return context.WithValue(ctx, key{}, &span{info.Cmd.Args[0]})
		},
		NotStarted: func(_ context.Context, info netrunner.NotStartedInfo) {
			fmt.Println(info.Err)
		},
		Leftovers: func(_ context.Context, info netrunner.LeftoversInfo) {
			fmt.Println("killed", info.Killed)
		},
		Exited: func(ctx context.Context, info netrunner.ExitedInfo) {
			fmt.Println("end", ctx.Value(key{}).(*span).name, info.State)
		},
	}
	_ = cmd.Run(context.Background())
	cmd.Dir = "/nowhere"
	_ = cmd.Run(context.Background())
	// Output:
	// begin sh
	// killed 1
	// end sh exit status 3
	// start "sh": chdir "/nowhere": no such file or directory
}

func ExampleState_LogValue() {
	// Without what changes from run to run.
	handler := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey, "pid", "duration", "user_time", "system_time", "max_rss_bytes":
				return slog.Attr{}
			}
			return a
		},
	})
	p, err := netrunner.Command("sh", "-c", "sleep 1000 & exit 3").Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	state, _ := p.Wait()
	slog.New(handler).Info("command ended", "command", state)
	// Output:
	// level=INFO msg="command ended" command.exit_code=3 command.killed_processes=1
}
