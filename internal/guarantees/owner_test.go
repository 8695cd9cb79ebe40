package guarantees_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/netrunner-go/netrunner"
)

// order is what an owner is told to do: the test binary, run again, is the
// owner, since it has to die in every way there is.
type order struct {
	Event    string
	Plain    bool // by os/exec: what the guarantees are worth is seen where they are missing
	Args     []string
	User     int  // that it becomes, unless it is zero
	Terminal bool // for the command
	Grace    time.Duration
	Timeout  time.Duration
}

// orderVariable makes the test binary an owner. It is a variable, since the
// order has the marker, and the owner does not count as part of the tree.
const orderVariable = "NETRUNNER_TEST_ORDER"

// commandLimit is the output limit, for the event that needs one.
const commandLimit = 1024

// command is what an owner can do with a running command, by netrunner or by os/exec.
type command interface {
	PID() int
	Stop() error
	Kill() error
	Wait() error
}

// owned is the owner's side of a cell.
type owned struct {
	command
	order order
	end   context.CancelFunc // of the command's context
	words *bufio.Reader      // of the test
}

func (o *owned) start() error {
	var ctx context.Context
	ctx, o.end = context.WithCancel(context.Background())
	var output bytes.Buffer
	if o.order.Plain {
		ctx := ctx
		if o.order.Timeout > 0 {
			ctx, o.end = context.WithTimeout(ctx, o.order.Timeout)
		}
		cmd := exec.CommandContext(ctx, o.order.Args[0], o.order.Args[1:]...)
		cmd.Stdout, cmd.WaitDelay = &output, o.order.Grace
		o.command = plain{cmd}
		return cmd.Start()
	}
	cmd := netrunner.Command(o.order.Args[0], o.order.Args[1:]...)
	cmd.Stdout, cmd.KillTimeout, cmd.Timeout = &output, o.order.Grace, o.order.Timeout
	if o.order.Terminal {
		cmd.Terminal = &netrunner.Terminal{}
	}
	if o.order.Event == outputLimit {
		cmd.MaxOutput = commandLimit
	}
	if o.order.Event == loopLeft {
		cmd.Stdout = nil
		cmd.Args[2] = "echo $$\n" + cmd.Args[2]
		loop, err := enter(cmd.Lines(ctx))
		o.command = loop
		return err
	}
	p, err := cmd.Start(ctx)
	o.command = guarded{p}
	return err
}

type guarded struct{ *netrunner.Process }

func (g guarded) Stop() error { return g.Process.Stop(context.Background()) }
func (g guarded) Wait() error { _, err := g.Process.Wait(); return err }

// looped is a command that the owner knows by its lines alone. The first is its pid.
type looped struct {
	pid   int
	leave func()
}

func enter(lines iter.Seq2[[]byte, error]) (looped, error) {
	next, leave := iter.Pull2(lines)
	line, err, _ := next()
	if err != nil {
		return looped{}, err
	}
	pid, err := strconv.Atoi(string(line))
	return looped{pid, leave}, err
}

func (l looped) PID() int    { return l.pid }
func (l looped) Stop() error { l.leave(); return nil }
func (l looped) Kill() error { return errors.ErrUnsupported }
func (l looped) Wait() error { return nil } // the loop's end is the command's

type plain struct{ *exec.Cmd }

func (p plain) PID() int    { return p.Process.Pid }
func (p plain) Stop() error { return p.Process.Signal(syscall.SIGTERM) }
func (p plain) Kill() error { return p.Process.Kill() }

// drop forgets the handle, and collects garbage until the test says that it has seen enough.
func (o *owned) drop() {
	o.command = nil
	enough := make(chan struct{})
	go func() {
		_, _ = o.words.ReadByte()
		close(enough)
	}()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		runtime.GC()
		select {
		case <-ticker.C:
		case <-enough:
			return
		}
	}
}

// report is what an owner that has outlived its command says.
type report struct {
	Ended string        // what Wait said; empty when it was as the event demands
	After time.Duration // from the event
	Next  string        // why the next command did not work
}

// own is the owner. It says the command's pid, waits for the test's word, lets
// the event happen, and reports.
func own() {
	o := &owned{words: bufio.NewReader(os.Stdin)}
	say(json.Unmarshal([]byte(os.Getenv(orderVariable)), &o.order))
	if user := o.order.User; user != 0 {
		say(syscall.Setgroups(nil))
		say(syscall.Setgid(user))
		say(syscall.Setuid(user))
	}
	happening := eventNamed(o.order.Event)
	begin := time.Now()
	say(o.start())
	fmt.Println(os.Getpid(), o.PID())
	if o.order.Timeout == 0 {
		if _, err := o.words.ReadString('\n'); err != nil {
			return
		}
		begin = time.Now()
	}
	if happening.inside != nil {
		happening.inside(o)
	}
	if o.command == nil { // dropped
		return
	}
	var r report
	err := o.Wait()
	r.After = time.Since(begin) - o.order.Timeout
	if !o.order.Plain {
		if !happening.told.as(err) {
			r.Ended = fmt.Sprintf("%T %v, want %s", err, err, happening.told.text)
		}
		if err := netrunner.Command("true").Run(context.Background()); err != nil {
			r.Next = err.Error()
		}
	}
	text, err := json.Marshal(r)
	say(err)
	fmt.Println(string(text))
	_, _ = o.words.ReadByte() // until the test has looked at what is left
}

func say(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
}

// told is what an owner that lives has to be told.
type told struct {
	text string // as the page has it
	as   func(error) bool
}

func toldError(text string, target error) *told {
	return &told{text, func(err error) bool { return errors.Is(err, target) }}
}

// toldExit demands an ExitError that shows how the command itself ended.
func toldExit(text string, ended func(*netrunner.State) bool) *told {
	return &told{text, func(err error) bool {
		var exit *netrunner.ExitError
		return errors.As(err, &exit) && exit.Cause == nil && (ended == nil || ended(exit.State))
	}}
}
