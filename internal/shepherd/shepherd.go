// Package shepherd starts commands under shepherds: small processes that kill
// everything their command has started as soon as the owner is gone. It knows
// processes and frames; what is read from and written to a command passes it by.
package shepherd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Shepherd is a connection with one shepherd, which runs one command after the other.
type Shepherd struct {
	sock    *socket
	watcher *watcher
	fresh   bool         // it has not said yet that it is there
	pid     atomic.Int32 // as it said; zero before that
}

// startPatience is how long a start goes on when its context has ended: a
// command that is about to run is better stopped like any other, since then its
// end is waited for. One that hangs, say on a dead file system, is given up.
const startPatience = time.Second

// outcome is what came of an attempt to start a command under one shepherd.
type outcome int

const (
	runs      outcome = iota
	refused           // a step failed; the shepherd is ready for another command
	failed            // a step failed; the shepherd is of no more use
	untaken           // the shepherd had gone, and has not taken the request
	stillborn         // a new shepherd had gone before its first word, and so before any program ran
	lost              // the shepherd is gone, or lies, after it may have acted
	givenUp           // the context has ended, and so has the patience
)

// attempt is an outcome with what belongs to it.
type attempt struct {
	outcome outcome
	running *Running // of runs alone
	err     error    // of refused, failed, lost and givenUp
}

// start sends the request and waits until the command runs. What becomes of the
// shepherd follows from the outcome, and is for the caller to do.
func (s *Shepherd) start(ctx context.Context, request []byte, descriptors []int) (a attempt) {
	stop := s.rouse()
	defer stop()
	interrupted := s.sock.within(ctx, startPatience, func() { a = s.converse(request, descriptors) })
	if interrupted {
		if a.outcome == runs { // but its socket is of no more use
			a.running.closeHandle()
		}
		return attempt{outcome: givenUp, err: context.Cause(ctx)}
	}
	return a
}

func (s *Shepherd) converse(request []byte, descriptors []int) attempt {
	sent := s.sock.send(request, descriptors)
	switch {
	case sent.err == nil:
	case !peerGone(sent.err):
		return attempt{outcome: failed, err: &StartError{StepDescriptors, errnoOf(sent.err)}}
	case sent.written == 0 && !s.fresh:
		return attempt{outcome: untaken}
	}
	// Even when not all was taken, the reason may be there to be read.
	for {
		ev, err := s.sock.receive()
		switch {
		case err == nil:
		// The strings are the last of a request: as long as they were not read, no
		// program has run. An idle shepherd may have exited at this very moment.
		case errors.Is(err, errUnread) && !s.fresh:
			return attempt{outcome: untaken}
		case errors.Is(err, io.EOF) && s.fresh:
			return attempt{outcome: stillborn}
		default:
			return attempt{outcome: lost, err: err}
		}
		if a, decided := s.heard(ev); decided {
			return a
		}
	}
}

// heard takes one event of a command that does not run yet.
func (s *Shepherd) heard(ev event) (a attempt, decided bool) {
	lie := func(err error) (attempt, bool) { return attempt{outcome: lost, err: err}, true }
	switch {
	case ev.kind == eventReady && s.fresh:
		ready, err := decode[readyEvent](ev)
		if err == nil && (ready.Shepherd == 0 || ready.Shepherd >= pidLimit) {
			err = fmt.Errorf("%w: a shepherd with pid %d", errMalformed, ready.Shepherd)
		}
		if err != nil {
			return lie(err)
		}
		s.pid.Store(int32(ready.Shepherd))
		s.fresh = false
		return attempt{}, false
	case ev.kind == eventStarted && !s.fresh:
		started, err := decode[startedEvent](ev)
		if err == nil && (started.Command == 0 || started.Command >= pidLimit) {
			err = fmt.Errorf("%w: a command with pid %d", errMalformed, started.Command)
		}
		if err != nil {
			return lie(err)
		}
		return attempt{outcome: runs, running: &Running{shepherd: s, pid: int(started.Command), pidfd: s.sock.takePidfd()}}, true
	case ev.kind == eventFailed:
		refusal, err := decode[failedEvent](ev)
		if err != nil {
			return lie(err)
		}
		a := attempt{outcome: failed, err: &StartError{Step(refusal.Step), syscall.Errno(refusal.Error)}}
		if refusal.Reusable != 0 {
			a.outcome = refused
		}
		return a, true
	}
	return lie(fmt.Errorf("%w: event %d before the command runs", errMalformed, ev.kind))
}

func errnoOf(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}

// lost explains the end of the connection, when the watcher has cleared what the
// shepherd left.
func (s *Shepherd) lost(err error) *LostError {
	if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return &LostError{Err: err} // it may live; the hang-up ends it
	}
	left, err := s.watcher.settle(int(s.pid.Load()))
	return &LostError{Left: left, Err: err}
}
