package netrunner

import (
	"context"
	"errors"
	"time"

	"github.com/netrunner-go/netrunner/internal/shepherd"
)

// Observer is a set of functions that are told of the life of commands, for
// metrics, traces and logs. Any of them may be nil. It is attached by
// [Cmd.Observer], and must not be changed while a command has it. One Observer
// can serve any number of commands: its functions are called by several
// goroutines at once when several commands are started at once.
//
// For each command there is either one call of NotStarted, or one of Started
// and later, when everything about its end is final, one of Exited.
//
// The functions are called synchronously, and a command's goroutine goes on
// when they return, so they should be quick. Which goroutine that is, and what
// waits for it, is said at each of them. No lock is held: they may call what they
// like, start other commands, stop this one, or close its group. What would wait
// for the function itself returns [ErrWaitsForItself] to it.
//
// A panic in them is the caller's. One in Started or NotStarted passes through
// Start and Run; one in Started kills the command, so that nothing is lost when
// the caller recovers. With [Group.Go] it is the error of the group's Wait. One in
// Leftovers or Exited is a [*PanicError] of Wait and Run.
type Observer struct {
	// Started is called when the program runs, by the goroutine that called
	// Start or Run (with [Group.Go], one of the group's), which waits for it. The
	// command doesn't wait, and its time runs: Started may wait for it to be
	// stopped. With Run, it may be as late as 30 ms after the start, or as the end
	// of a command that is over sooner.
	//
	// The context is that of Start or Run. The one that Started returns, say with
	// a span in it, goes to the other functions; nil stands for the same.
	Started func(context.Context, StartedInfo) context.Context

	// NotStarted is called when a command could not be started, by the goroutine
	// that called Start, Run, Output or CombinedOutput, just before the error is
	// returned there. With [Group.Go] it may be one of the group's, and Wait waits
	// for it. A start that a [Group] tries again is told of when it is given up.
	NotStarted func(context.Context, NotStartedInfo)

	// Leftovers is called before Exited, by the same goroutine, when the command
	// has ended and other processes of its tree had to be killed, or are left.
	Leftovers func(context.Context, LeftoversInfo)

	// Exited is called when the tree is gone, output that is copied has been
	// written, and the result is final, but before Wait returns and Done is
	// closed. Both wait for it, as do Stop and Run. The goroutine is the command's
	// own, or Run's caller. In a group the command's place is free already, so
	// that it can be started again. The context may be over by now: that may be why the command ended.
	Exited func(context.Context, ExitedInfo)
}

// StartedInfo is what [Observer.Started] is told.
type StartedInfo struct {
	Cmd     *Cmd     // only to be read, and only until the function returns
	Process *Process // with Run the only way to it; who keeps it keeps it from being dropped
	PID     int
	Start   time.Time // as in Stats
}

// NotStartedInfo is what [Observer.NotStarted] is told.
type NotStartedInfo struct {
	Cmd *Cmd // only to be read, and only until the function returns
	Err *StartError
}

// LeftoversInfo is what [Observer.Leftovers] is told.
type LeftoversInfo struct {
	Command string // as in Args[0]
	PID     int    // of the command
	Killed  int    // processes other than the command that were killed to clear its tree
	Left    int    // processes that are left: on purpose, or since they can't be killed
	PIDs    []int  // the first of those that are left
}

// ExitedInfo is what [Observer.Exited] is told.
type ExitedInfo struct {
	Command string // as in Args[0]
	PID     int
	State   *State // nil when it is not known how the command ended
	Stats   Stats  // also without a State, as far as known
	Err     error  // what Wait returns, or wraps ErrDropped
}

// notStarted is for an error that Start or its like is about to return.
func (c *Cmd) notStarted(ctx context.Context, err error) error {
	totals.notStarted.Add(1)
	if c.Observer == nil || c.Observer.NotStarted == nil {
		return err
	}
	if start, ok := errors.AsType[*StartError](err); ok {
		c.Observer.NotStarted(ctx, NotStartedInfo{c, start})
	}
	return err
}

// observeStart is for a command that runs, and whose end is waited for already:
// Started may stop it, and wait until it is gone.
func (p *Process) observeStart(ctx context.Context, c *Cmd) {
	r := p.run
	defer close(r.told)
	defer entered(frame{run: r})()
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		r.panicked(panicError(value)) // nobody will get the Process
		_ = r.running.Kill()          // when it has ended, it is as well
		if value != nil {
			panic(value) // it is the caller's
		}
	}()
	if with := r.observer.Started(ctx, StartedInfo{c, p, r.running.PID(), r.start}); with != nil {
		r.ctx = with
	}
	returned = true
}

// observeEnd is for a command whose result is known to nobody else yet. Exited is
// called also when Leftovers panics.
func (r *run) observeEnd(ended *shepherd.Ended) {
	o := r.observer
	pid := r.running.PID()
	if o.Exited != nil {
		defer r.observed(func() { o.Exited(r.ctx, ExitedInfo{r.name, pid, r.state, r.finalStats(), r.err}) })
	}
	if o.Leftovers != nil && ended.Killed+ended.Left > 0 {
		r.observed(func() { o.Leftovers(r.ctx, LeftoversInfo{r.name, pid, ended.Killed, ended.Left, ended.LeftPIDs}) })
	}
}
