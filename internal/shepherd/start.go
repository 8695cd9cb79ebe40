package shepherd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// Start runs a command. It returns when the program has replaced the child, or
// with the step that failed, or, when the context has ended and something hangs
// for startPatience, with its cause.
func Start(ctx context.Context, spec *Spec) (*Running, error) {
	if err := context.Cause(ctx); err != nil { // nothing has begun
		return nil, err
	}
	patient, cancel := patiently(ctx)
	defer cancel()
	for births := 1; ; {
		s, request, err := prepare(patient, spec)
		if err != nil {
			return nil, err
		}
		a := s.start(ctx, request, spec.descriptors(s.watcher.null))
		switch a.outcome {
		case runs:
			a.running.grace = max(spec.Grace, 0)
			return a.running, nil
		case refused:
			idle.put(s)
			return nil, a.err
		case failed:
			idle.drop(s)
			return nil, a.err
		case lost:
			err := s.lost(a.err)
			idle.drop(s)
			return nil, err
		case givenUp:
			idle.part(s) // it may be stopped, or slow to see what hangs
			return nil, a.err
		case untaken: // idle for too long, or killed: another takes it
			idle.drop(s)
		case stillborn:
			idle.drop(s)
			idle.discard(s.watcher)
			if births++; births > 3 {
				return nil, &StartError{StepShepherd, fmt.Errorf("%w, in 3 attempts", errStillborn)}
			}
		}
	}
}

// patiently returns a context that ends startPatience later: what is about to be
// there, a watcher say, is better waited for, and the command then stopped.
func patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Done() == nil {
		return ctx, func() {}
	}
	patient, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(startPatience, func() { cancel(context.Cause(ctx)) })
	})
	return patient, func() {
		stop()
		cancel(nil)
	}
}

// prepare finds a shepherd whose commands inherit what they would from the
// calling thread, for put or drop to take back, and makes the request.
func prepare(ctx context.Context, spec *Spec) (*Shepherd, []byte, error) {
	for deaths := 0; ; {
		if err := context.Cause(ctx); err != nil {
			return nil, nil, err
		}
		request, found, err := lookAndPick(ctx, spec)
		switch {
		case err != nil:
			return nil, nil, err
		case found.shepherd != nil:
			return found.shepherd, request, nil
		case found.birth != nil:
			select {
			case <-found.birth.done: // a watcher for us too; or else the next birth is ours
			case <-ctx.Done():
			}
			continue
		}
		s, err := found.watcher.spawn(ctx)
		if err == nil {
			return s, request, nil
		}
		idle.release(found.watcher)
		if deaths++; !errors.Is(err, errWatcherGone) || deaths == 3 {
			return nil, nil, fmt.Errorf("ask the watcher for a shepherd: %w", err)
		}
		idle.discard(found.watcher)
	}
}

// looking bounds how many look at the same time: each has a thread to itself, and
// a thousand who start at once would else have a thousand threads.
var looking = make(turn, max(4, runtime.GOMAXPROCS(0)))

// lookAndPick has the thread to itself: much of what a child inherits is a
// thread's (man 2 clone). It waits for nobody, but for others who look, and for a
// watcher that it starts.
func lookAndPick(ctx context.Context, spec *Spec) (request []byte, found found, err error) {
	if err := looking.take(ctx); err != nil {
		return nil, found, err
	}
	stopLooking := sync.OnceFunc(looking.give)
	defer stopLooking()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread() // before others take their turn
	present, signals, err := takeLook()
	if err != nil {
		return nil, found, err
	}
	spec.Attributes.Ignored, spec.Attributes.Blocked = signals.ignored, signals.blocked
	if request, err = appendStart(nil, spec); err != nil {
		return nil, found, err
	}
	for {
		found = idle.pick(&present)
		if !found.ours {
			return request, found, nil
		}
		stopLooking() // others need not wait for the watcher's start
		if err := idle.bear(ctx, found.birth); err != nil {
			return nil, found, err
		}
	}
}
