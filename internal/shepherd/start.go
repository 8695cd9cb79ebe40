package shepherd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// Start runs a command. It returns when the program has replaced the child, or
// with the step that failed, or, when the context ends, with its cause: at once
// as long as nothing has begun, and startPatience later if a step hangs.
func Start(ctx context.Context, spec *Spec) (*Running, error) {
	for births := 1; ; {
		s, request, err := prepare(ctx, spec)
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
			// It may be stopped, or slow to see what hangs; nobody waits for it.
			go func() {
				s.seeOff()
				idle.drop(s)
			}()
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

// prepare looks at what the command is to inherit, and finds a shepherd that has just that.
// The thread is the goroutine's own meanwhile: much of it is a thread's (man 2 clone).
func prepare(ctx context.Context, spec *Spec) (*Shepherd, []byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	present, err := takeLook()
	if err != nil {
		return nil, nil, err
	}
	if spec.Attributes.Ignored, spec.Attributes.Blocked, err = signalState(); err != nil {
		return nil, nil, err
	}
	request, err := appendStart(nil, spec)
	if err != nil {
		return nil, nil, err
	}
	s, err := idle.get(ctx, present)
	if errors.Is(err, errChanging) {
		return nil, nil, &StartError{StepShepherd, err}
	}
	return s, request, err
}
