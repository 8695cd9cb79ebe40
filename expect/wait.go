package expect

import (
	"context"
	"errors"
	"regexp"
	"strconv"
)

var errNothing = errors.New("there is nothing to wait for")

// Expect waits for a text. What has come since the last match is looked at first,
// even if the context has ended already. Waits for text take turns; those for the
// screen do not. Whatever ends a wait in vain, it is an [*Error].
func (s *Session) Expect(ctx context.Context, text string) error {
	_, err := s.ExpectAny(ctx, Text(text))
	return err
}

// ExpectRegexp waits for a regular expression, see [Regexp], and returns what has
// matched it, and then its groups.
func (s *Session) ExpectRegexp(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	m, err := s.ExpectAny(ctx, Regexp(re))
	return m.Groups, err
}

// ExpectEOF waits for the end of all output, and uses up what there is before it.
func (s *Session) ExpectEOF(ctx context.Context) error {
	_, err := s.ExpectAny(ctx, EOF)
	return err
}

// ExpectAny waits for one of several patterns: the one whose match ends first, and
// among those the first in their order. With an error Match.Index is -1.
func (s *Session) ExpectAny(ctx context.Context, patterns ...Pattern) (Match, error) {
	ctx, cancel := s.waiting(ctx)
	defer cancel()
	want := describe(patterns)
	if err := checkPatterns(patterns); err != nil {
		return Match{Index: -1}, s.failure(want, err)
	}
	if !s.takeTurn(ctx) {
		return Match{Index: -1}, s.expired(ctx, want)
	}
	defer s.leaveTurn()
	for expired := false; ; {
		text, start, changed, end := s.look()
		m, length, found := findFirst(patterns, text, end)
		if found {
			s.use(start + int64(length))
			return m, nil
		}
		if end != nil {
			return m, s.failure(want, end)
		}
		if expired {
			return m, s.expired(ctx, want)
		}
		expired = waitChange(ctx, changed)
	}
}

func checkPatterns(patterns []Pattern) error {
	for _, p := range patterns {
		if p.kind == regexpPattern && p.re == nil {
			return errNothing
		}
	}
	if len(patterns) == 0 {
		return errNothing
	}
	return nil
}

// waitChange waits for a change or the end of the context. Then there is one more
// look, at what came in time.
func waitChange(ctx context.Context, changed <-chan struct{}) (expired bool) {
	select {
	case <-changed:
		return false
	case <-ctx.Done():
		return true
	}
}

// takeTurn waits until nobody else waits for text.
func (s *Session) takeTurn(ctx context.Context) bool {
	select {
	case s.turn <- struct{}{}:
	default:
		select {
		case s.turn <- struct{}{}:
		case <-ctx.Done():
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.matching = true
	return true
}

func (s *Session) leaveTurn() {
	s.mu.Lock()
	s.matching = false
	s.seen.Signal()
	s.mu.Unlock()
	<-s.turn
}

// look returns the text so far, and what tells of more.
func (s *Session) look() (text []byte, start int64, changed <-chan struct{}, end error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &s.unmatched
	u.unseen = 0
	s.seen.Signal()
	return u.bytes[:len(u.bytes):len(u.bytes)], u.start, s.changed, s.end
}

// use uses up the text to a place.
func (s *Session) use(place int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unmatched.cutTo(place)
}

// ExpectOnScreen waits until a text is on the screen, see [Screen.Contains].
func (s *Session) ExpectOnScreen(ctx context.Context, text string) error {
	return s.expectScreen(ctx, strconv.Quote(text)+" on the screen", func(screen *Screen) bool { return screen.Contains(text) })
}

// ExpectScreen waits until the screen is as it should be. That is asked when the
// screen may have changed, and at first, from the goroutine of the caller. What is
// there only for a moment may not be seen.
func (s *Session) ExpectScreen(ctx context.Context, is func(*Screen) bool) error {
	return s.expectScreen(ctx, "a screen", is)
}

func (s *Session) expectScreen(ctx context.Context, want string, is func(*Screen) bool) error {
	ctx, cancel := s.waiting(ctx)
	defer cancel()
	for expired := false; ; {
		screen, changed, broken, end := s.see()
		if broken == nil && is(screen) {
			return nil
		}
		for _, err := range []error{broken, end} {
			if err != nil {
				return s.failure(want, err)
			}
		}
		if expired {
			return s.expired(ctx, want)
		}
		expired = waitChange(ctx, changed)
	}
}

// see returns the screen, and what tells of a change.
func (s *Session) see() (screen *Screen, changed <-chan struct{}, broken, end error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	screen = s.emulator.snapshot()
	return screen, s.changed, s.emulator.broken, s.end
}

// failure returns an Error that shows how things are.
func (s *Session) failure(want string, err error) *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Error{Want: want, Err: err, Screen: s.emulator.snapshot(), Unmatched: s.unmatched.tail(maxShown)}
}

// expired returns the Error of a context that has ended.
func (s *Session) expired(ctx context.Context, want string) *Error {
	failed := s.failure(want, context.Cause(ctx))
	failed.ended = ctx.Err()
	return failed
}
