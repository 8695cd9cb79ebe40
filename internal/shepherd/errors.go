package shepherd

import (
	"errors"
	"fmt"
)

// StartError is a step of starting that failed.
type StartError struct {
	Step Step
	Err  error // the step's errno
}

func (e *StartError) Error() string { return e.Step.String() + ": " + e.Err.Error() }

// Unwrap returns the errno.
func (e *StartError) Unwrap() error { return e.Err }

func (s Step) String() string {
	if name, ok := stepNames[s]; ok {
		return name
	}
	return fmt.Sprintf("step %d", uint32(s))
}

// LostError says that a shepherd died under its command. What the command had
// started is killed by the watcher.
type LostError struct {
	Left int   // processes that the watcher could not kill
	Err  error // why it is not known whether all are gone, or nil
}

func (e *LostError) Error() string {
	switch {
	case e.Err != nil:
		return "the shepherd was killed: " + e.Err.Error()
	case e.Left > 0:
		return fmt.Sprintf("the shepherd was killed: %d processes could not be killed after it", e.Left)
	}
	return "the shepherd was killed, and the command with it"
}

// Unwrap returns what kept the clean-up from being confirmed.
func (e *LostError) Unwrap() error { return e.Err }

// errStillborn says that a shepherd hung up before its first word, so that it
// can't have started anything.
var errStillborn = errors.New("the shepherd did not come to life")

// errAbandoned says that the owner has hung up on the command by itself.
var errAbandoned = errors.New("it was abandoned")

// errWatcherGone says that the watcher took no request.
var errWatcherGone = errors.New("the watcher is gone")
