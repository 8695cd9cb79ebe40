package netrunner

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// Reasons for which a command was stopped; an [ExitError] wraps them.
var (
	ErrTimeout     = errors.New("timed out")
	ErrOutputLimit = errors.New("wrote more than it may")
)

// ErrShepherdLost says that the shepherd of a running command was killed. What
// the command had started has been killed too, unless the error says otherwise;
// how the command ended is not known. The next command works.
var ErrShepherdLost = errors.New("lost its shepherd")

// ErrDropped says that a command was stopped because nobody referred to its
// Process any more. Only an [Observer] is there to hear it; that the tree is gone
// is then seen to, and not waited for.
var ErrDropped = errors.New("was dropped")

// StartError says why a command was not started. Its program has not run, unless
// the context or Timeout has ended the start: then it may have run for a moment.
type StartError struct {
	Command string // as in Args[0]
	Step    string // what failed: "check", "find", "chdir", "open", "pipe", "fork", "exec", …
	Subject string // what it failed for: a path, a field; may be empty
	Err     error  // an errno where the kernel has refused; exec.ErrNotFound, exec.ErrDot, …
}

// Error reads like: start "ffmpeg": chdir "/x": no such file or directory.
func (e *StartError) Error() string {
	text := "start " + strconv.Quote(e.Command) + ": " + e.Step
	if e.Subject != "" {
		text += " " + strconv.Quote(e.Subject)
	}
	return text + ": " + shown(e.Err)
}

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// ExitError says that a command ran and did not succeed: with a status other
// than zero, by a signal, or because it was stopped.
type ExitError struct {
	Command string
	State   *State

	// Cause is why it was stopped: ErrTimeout, ErrOutputLimit, the cause of the
	// context (context.Cause); and a *LeftoverError when something of it is still
	// there. Or it is why its input could not be read or its output not be
	// written. Nil when it ended by itself.
	Cause error

	// Stderr holds the first and the last 32 KiB of standard error when nobody
	// asked for it, with a note in place of what is missing between them. The
	// bytes are the command's, as they came: don't show them on a terminal.
	Stderr []byte
}

// Error names the command, why and how it ended, and its last words. Words that
// would do more to a terminal than be read (control characters, format
// characters, bytes that are no UTF-8) are quoted, as in every error text of this
// package; Stderr has them as they came.
func (e *ExitError) Error() string {
	text := strconv.Quote(e.Command) + ": "
	if e.Cause != nil {
		text += shown(e.Cause) + ": "
	}
	text += e.State.String()
	if words := lastLine(e.Stderr); len(words) > 0 {
		text += ": " + printable(string(words))
	}
	return text
}

// Unwrap returns Cause.
func (e *ExitError) Unwrap() error { return e.Cause }

// lastLine returns the last line that is not empty, as much as a message can bear.
func lastLine(b []byte) []byte {
	const most = 256
	b = bytes.TrimSpace(b)
	b = b[bytes.LastIndexByte(b, '\n')+1:]
	if len(b) <= most {
		return b
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(b[end]) { // not within a character
		end--
	}
	return b[:end]
}

// LeftoverError says that processes of a command's tree could not be killed:
// set-uid programs that this user may not signal, or processes that the kernel
// does not let die.
type LeftoverError struct {
	Count int
	PIDs  []int // the first of them
}

func (e *LeftoverError) Error() string {
	return fmt.Sprintf("%d of its processes could not be killed, pids %v", e.Count, e.PIDs)
}

// timeoutError is ErrTimeout with the time.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string { return fmt.Sprintf("%v after %v", ErrTimeout, e.after) }
func (e timeoutError) Unwrap() error { return ErrTimeout }

// limitError is ErrOutputLimit with the limit.
type limitError struct{ bytes int64 }

func (e limitError) Error() string { return fmt.Sprintf("%v: %d bytes", ErrOutputLimit, e.bytes) }
func (e limitError) Unwrap() error { return ErrOutputLimit }
