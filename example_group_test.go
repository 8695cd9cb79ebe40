package netrunner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/netrunner-go/netrunner"
)

// Many commands, a few at a time. Nothing of them is there after Close.
func ExampleGroup() {
	ctx := context.Background()
	g := netrunner.Group{Limit: 4}
	defer g.Close() //nolint:errcheck // all have ended by then
	square := netrunner.Command("sh", "-c", "exit $(($0 * $0 == 49))")
	for i := range 10 {
		g.Go(ctx, square.With(fmt.Sprint(i)))
	}
	fmt.Println(g.Wait())
	stats := g.Stats()
	fmt.Println(stats.Started, "started,", stats.Failed, "failed")
	// Output:
	// "sh": exit status 1
	// 10 started, 1 failed
}

// With StopOnError the first failure ends the others.
func ExampleGroup_stopOnError() {
	ctx := context.Background()
	g := netrunner.Group{StopOnError: true}
	p, err := g.Start(ctx, netrunner.Command("sleep", "1000"))
	if err != nil {
		log.Fatal(err)
	}
	g.Go(ctx, netrunner.Command("false"))
	fmt.Println(g.Wait())
	_, err = p.Wait()
	fmt.Println(err)
	fmt.Println(errors.Is(err, netrunner.ErrGroupClosed))
	// Output:
	// "false": exit status 1
	// "sleep": the group is closed (after: "false": exit status 1): signal: terminated
	// true
}

// A context can bound the wait for a place, and what runs then.
func ExampleGroup_Start() {
	ctx := context.Background()
	g := netrunner.Group{Limit: 1}
	if _, err := g.Start(ctx, netrunner.Command("sleep", "1000")); err != nil {
		log.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := g.Start(short, netrunner.Command("true"))
	fmt.Println(err)
	fmt.Println(g.Close())
	// Output:
	// start "true": wait for a place: context deadline exceeded
	// <nil>
}

// What nobody reads ends by SIGPIPE, which is no failure.
func ExamplePipeline() {
	out, err := netrunner.Pipeline{
		netrunner.Command("yes", "netrunner"),
		netrunner.Command("tr", "a-z", "A-Z"),
		netrunner.Command("head", "-n", "2"),
	}.Output(context.Background())
	fmt.Printf("%s%v\n", out, err)
	// Output:
	// NETRUNNER
	// NETRUNNER
	// <nil>
}

// The error is that of the rightmost command that has failed.
func ExamplePipeline_Run() {
	err := netrunner.Pipeline{
		netrunner.Command("cat", "/dev/null"),
		netrunner.Command("grep", "needle"),
		netrunner.Command("cat"),
	}.Run(context.Background())
	fmt.Println(err)
	// Output:
	// "grep": exit status 1
}

func ExamplePipeline_Start() {
	sort, count := netrunner.Command("sort"), netrunner.Command("uniq", "-c")
	sort.Stdin, count.Stdout = netrunner.Pipe, netrunner.Pipe
	p, err := netrunner.Pipeline{sort, count}.Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(p.Stdin(), "b\na\nb\n"); err != nil {
		log.Fatal(err)
	}
	if err := p.Stdin().Close(); err != nil {
		log.Fatal(err)
	}
	out, err := io.ReadAll(p.Stdout())
	fmt.Printf("%s%v\n", out, err)
	states, err := p.Wait()
	fmt.Println(states, err)
	// Output:
	//       1 a
	//       2 b
	// <nil>
	// [exit status 0 exit status 0] <nil>
}
