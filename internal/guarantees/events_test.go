package guarantees_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

// event is an end that comes to the owner, to its command, or to what guards it.
// What a test does to it from outside comes first, then what the owner does itself.
type event struct {
	name     string
	layer    string // that covers it
	outside  func(*cell)
	inside   func(*owned)
	graceful bool  // with stop signal and grace, else at once
	timed    bool  // it comes by itself, some time after the start
	goesOn   bool  // what is done from outside harms no command; the owner then stops it
	drops    bool  // the owner lives on, and is told nothing
	told     *told // nil when nobody is there to be told

	// plain says that os/exec has the event too; there it has to leave something.
	plain bool
	// uncovered says that whatever a command has started lives on.
	uncovered bool
}

// leaves reports whether it leaves something of the tree.
func (e *event) leaves(t *tree) bool { return e.uncovered && t.script != "" }

const (
	howItEnded  = "how it ended"
	outputLimit = "more output than `MaxOutput`"
	loopLeft    = "the loop over its lines is left early"
)

// killed sends SIGKILL to all of them, in this order and without a pause.
func killed(whom ...func(*cell) int) func(*cell) {
	return func(c *cell) {
		var pids []int
		for _, who := range whom {
			pids = append(pids, who(c))
		}
		for _, pid := range pids {
			c.check(unix.Kill(pid, unix.SIGKILL))
		}
	}
}

func theOwner(c *cell) int    { return c.owner }
func theCommand(c *cell) int  { return c.command }
func theShepherd(c *cell) int { return c.shepherd }
func theWatcher(c *cell) int  { return c.watcher }

// watcherThenShepherd kills the one, and the other when that is long gone.
func watcherThenShepherd(c *cell) {
	killed(theWatcher)(c)
	proctest.AwaitDeath(c.t, c.watcher, proctest.Patience)
	killed(theShepherd)(c)
}

// signalled sends signals to the owner.
func signalled(signals ...syscall.Signal) func(*cell) {
	return func(c *cell) {
		for _, s := range signals {
			c.check(unix.Kill(c.owner, s))
		}
	}
}

func crash(*owned) {
	signal.Reset()
	_ = unix.Kill(unix.Getpid(), unix.SIGSEGV)
	select {}
}

func replaceItself(*owned) { say(syscall.Exec("/bin/true", []string{"true"}, os.Environ())) }

var events = []event{
	// The owner dies.
	{name: "the owner is killed (SIGKILL, out of memory)", layer: "1", graceful: true, plain: true, outside: killed(theOwner)},
	{name: "the owner panics", layer: "1", graceful: true, plain: true, inside: func(*owned) { panic("on purpose") }},
	{name: "the owner calls `os.Exit`", layer: "1", graceful: true, plain: true, inside: func(*owned) { os.Exit(3) }},
	{name: "the owner returns from `main`", layer: "1", graceful: true, plain: true, inside: func(o *owned) { o.command = nil }},
	{name: "the owner crashes (SIGSEGV)", layer: "1", graceful: true, plain: true, inside: crash},
	{name: "the owner replaces itself (`syscall.Exec`)", layer: "1", graceful: true, plain: true, inside: replaceItself},
	{name: "the owner is stopped (SIGSTOP), then killed", layer: "1", graceful: true, plain: true, outside: signalled(unix.SIGSTOP, unix.SIGKILL)},
	{name: "SIGTERM to the owner", layer: "1", graceful: true, plain: true, outside: signalled(unix.SIGTERM)},
	{name: "SIGINT to the owner", layer: "1", graceful: true, plain: true, outside: signalled(unix.SIGINT)},

	// The owner ends its command, or lets it go.
	{
		name: "the context ends", layer: "1", graceful: true, plain: true, inside: func(o *owned) { o.end() },
		told: toldError("`*ExitError` with the context's cause", context.Canceled),
	},
	{name: "`Timeout` is over", layer: "1", graceful: true, plain: true, timed: true, told: toldError("`*ExitError`, `ErrTimeout`", netrunner.ErrTimeout)},
	{
		name: outputLimit, layer: "1", graceful: true,
		outside: func(c *cell) { c.write(make([]byte, 2*commandLimit)) },
		told:    toldError("`*ExitError`, `ErrOutputLimit`", netrunner.ErrOutputLimit),
	},
	{
		name: "`Process.Stop`", layer: "1", graceful: true, plain: true, inside: func(o *owned) { say(o.Stop()) },
		told: toldExit(howItEnded, func(s *netrunner.State) bool { return s.Signal() != 0 }),
	},
	{
		name: "`Process.Kill`", layer: "1", plain: true, inside: func(o *owned) { say(o.Kill()) },
		told: toldExit(howItEnded, func(s *netrunner.State) bool { return s.Signal() == unix.SIGKILL }),
	},
	{
		name: loopLeft, layer: "1", graceful: true, inside: func(o *owned) { say(o.Stop()) },
		told: &told{"nothing: all of it is gone when the loop is left", func(err error) bool { return err == nil }},
	},
	{name: "the handle is leaked, and collected", layer: "3", graceful: true, plain: true, drops: true, inside: func(o *owned) { o.drop() }},

	// The command ends.
	{
		name: "the command exits and leaves others", layer: "1", plain: true, outside: func(c *cell) { c.release() },
		told: toldExit(howItEnded, func(s *netrunner.State) bool { return s.ExitCode() == 3 }),
	},
	{
		name: "the command is killed by somebody, and leaves others", layer: "1", plain: true, outside: killed(theCommand),
		told: toldExit(howItEnded, func(s *netrunner.State) bool { return s.Signal() == unix.SIGKILL }),
	},

	// What guards it dies.
	{name: "the shepherd is killed", layer: "2", outside: killed(theShepherd), told: toldError("`ErrShepherdLost` within a second", netrunner.ErrShepherdLost)},
	{
		name: "the watcher is killed", layer: "1", graceful: true, goesOn: true, outside: killed(theWatcher),
		inside: func(o *owned) { say(o.Stop()) },
		told:   toldExit("nothing; the next command gets a new watcher", nil),
	},
	{name: "the owner and the watcher are killed in one instant", layer: "1", graceful: true, outside: killed(theWatcher, theOwner)},
	{name: "the owner and the shepherd are killed in one instant", layer: "2", outside: killed(theShepherd, theOwner)},
	{
		name: "the watcher and the shepherd are killed in one instant", layer: "kernel", uncovered: true, outside: killed(theWatcher, theShepherd),
		told: toldError("`ErrShepherdLost` within a second; that the clean-up is not confirmed", netrunner.ErrShepherdLost),
	},
	{
		name: "the watcher is killed, and the shepherd later", layer: "kernel", uncovered: true, outside: watcherThenShepherd,
		told: toldError("`ErrShepherdLost` within a second; that the clean-up is not confirmed", netrunner.ErrShepherdLost),
	},
	{name: "owner, watcher and shepherd are killed in one instant", layer: "kernel", uncovered: true, outside: killed(theWatcher, theShepherd, theOwner)},
}

func eventNamed(name string) *event {
	for i := range events {
		if events[i].name == name {
			return &events[i]
		}
	}
	panic("no event " + name)
}
