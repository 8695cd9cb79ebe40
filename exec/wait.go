package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/netrunner-go/netrunner"
)

// ExitError says that a command ran and did not succeed.
type ExitError struct {
	*ProcessState

	// Stderr is what the command wrote to standard error, if Output has run it and
	// Stderr was nil: the first and the last 32 KiB, with a note in place of what is
	// missing between them.
	Stderr []byte
}

// Error reads like: exit status 2; or: signal: killed.
func (e *ExitError) Error() string { return e.String() }

// Wait waits until the command and, unless Leftovers leaves it, everything that
// it has started are gone, and until all output is written.
//
// The error is an [*ExitError] when the command did not succeed. Otherwise it is
// what Cancel or the context says, if that was called for, or that of copying input or
// output. An error that wraps [netrunner.ErrShepherdLost] says that it isn't known
// how the command ended; ProcessState is nil then.
func (c *Cmd) Wait() error {
	if c.Process == nil {
		return errors.New("exec: not started")
	}
	if c.ProcessState != nil {
		return errors.New("exec: Wait was already called")
	}
	state, err := c.process.Wait()
	if state != nil {
		c.ProcessState = &ProcessState{state}
	}
	err = c.waitError(err)
	if interrupted := c.interruption.end(); interrupted != nil && state != nil && state.Success() {
		err = interrupted
	}
	closeAll(&c.ours)
	return err
}

// waitError gives an error the form that callers of os/exec know.
func (c *Cmd) waitError(err error) error {
	var exit *netrunner.ExitError
	switch {
	case err == nil || c.ProcessState == nil:
		return err
	case !errors.As(err, &exit):
		return errors.Unwrap(err) // that of a copy
	case c.ProcessState.Success():
		return fmt.Errorf("exec: %w", exit.Cause) // something of it could not be killed
	}
	failed := &ExitError{ProcessState: c.ProcessState}
	if c.captures {
		failed.Stderr = exit.Stderr
	}
	return failed
}

// interruption is what happens to a command when its context ends. Nil is one
// that can't come.
type interruption struct {
	stop func() bool
	done chan struct{}
	err  error // when done is closed
}

// interruptible reports whether the end of a context may come, and means something.
func (c *Cmd) interruptible() bool {
	return c.ctx != nil && c.ctx.Done() != nil && (c.Cancel != nil || c.WaitDelay != 0)
}

// watchContext sees to it that the end of the context reaches the command. It
// needs no goroutine before that.
func (c *Cmd) watchContext() {
	if !c.interruptible() {
		return
	}
	i := &interruption{done: make(chan struct{})}
	i.stop = context.AfterFunc(c.ctx, func() {
		defer close(i.done)
		i.err = c.interrupt()
	})
	c.interruption = i
}

// end is called when the command has ended. It waits for an interruption that has
// begun, and returns its error.
func (i *interruption) end() error {
	if i == nil || i.stop() {
		return nil
	}
	<-i.done
	return i.err
}

func (c *Cmd) interrupt() (err error) {
	if c.Cancel != nil {
		switch cancelErr := c.Cancel(); {
		case cancelErr == nil:
			err = c.ctx.Err() // whatever comes now may be due to it, also an exit with status 0
		case !errors.Is(cancelErr, os.ErrProcessDone):
			err = fmt.Errorf("exec: canceling Cmd: %w", cancelErr)
		}
	}
	if c.WaitDelay == 0 {
		return err
	}
	timer := time.NewTimer(c.WaitDelay)
	defer timer.Stop()
	select {
	case <-c.process.Done():
		return err
	case <-timer.C:
	}
	if killErr := c.Process.Kill(); killErr != nil && !errors.Is(killErr, os.ErrProcessDone) {
		return fmt.Errorf("exec: killing Cmd: %w", killErr)
	}
	return err
}
