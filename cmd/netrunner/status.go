package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"github.com/netrunner-go/netrunner"
)

// Exit statuses beside the command's own: those of timeout(1) and docker run.
const (
	statusStopped       = 124 // timed out, or over the output limit
	statusFailed        = 125 // netrunner itself
	statusNotExecutable = 126
	statusNotFound      = 127
	statusSignal        = 128 // plus the signal's number
)

// statusError ends netrunner with a status, and without a message when there is
// nothing to add: how a command exits is for the command to say.
type statusError struct {
	status int
	err    error // may be nil
}

func (e *statusError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *statusError) Unwrap() error { return e.err }

// explain returns the exit status for an error, and what to say, on one line. What
// a command has put into it, or its arguments, can do nothing to a terminal.
func explain(err error) (status int, message string) {
	if err == nil {
		return 0, ""
	}
	status = statusFailed
	if known, ok := errors.AsType[*statusError](err); ok {
		status = known.status
	}
	return status, shown(strings.ReplaceAll(err.Error(), "\n", "; "))
}

// endError says how a command that was started has ended.
func endError(state *netrunner.State, err error) error {
	switch {
	case state == nil: // the shepherd was lost
		return &statusError{statusFailed, err}
	case errors.Is(err, netrunner.ErrTimeout), errors.Is(err, netrunner.ErrOutputLimit):
		return &statusError{statusStopped, err}
	case errors.As(err, new(*netrunner.LeftoverError)):
		return &statusError{statusFailed, err}
	case errors.As(err, new(*netrunner.ExitError)):
		return commandStatus(state)
	case err != nil: // its output could not be written
		return &statusError{statusFailed, err}
	}
	return nil
}

func commandStatus(state *netrunner.State) error {
	switch {
	case state.Success():
		return nil
	case state.Signal() != 0:
		return &statusError{status: statusSignal + int(state.Signal())}
	}
	return &statusError{status: state.ExitCode()}
}

// startError says why a command was not started.
func startError(err error) error {
	start, ok := errors.AsType[*netrunner.StartError](err)
	switch {
	case !ok:
	case errors.Is(err, netrunner.ErrTimeout): // a step of the start hung
		return &statusError{statusStopped, err}
	case errors.Is(err, exec.ErrNotFound):
		return &statusError{statusNotFound, fmt.Errorf("%q: %w", start.Command, exec.ErrNotFound)}
	case start.Step == "exec" && errors.Is(err, syscall.ENOENT):
		return &statusError{statusNotFound, err}
	case start.Step == "exec":
		return &statusError{statusNotExecutable, err}
	}
	return &statusError{statusFailed, err}
}
