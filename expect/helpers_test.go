package expect_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/netrunner-go/netrunner/expect"
)

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testContext ends with the test's patience, so that nothing hangs for long.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// terminal is one in memory, with nothing between its two ends: no echo, no line
// editing, and not a byte of room. The test is the program on it.
type terminal struct {
	*io.PipeReader // of what the program writes
	*io.PipeWriter // to what the program reads

	output *io.PipeWriter // the program's ends
	input  *io.PipeReader

	resize  func(rows, cols int) error
	closed  sync.Once
	running sync.WaitGroup
}

func newTerminal() *terminal {
	t := &terminal{resize: func(int, int) error { return nil }}
	t.PipeReader, t.output = io.Pipe()
	t.input, t.PipeWriter = io.Pipe()
	return t
}

func (t *terminal) Resize(rows, cols int) error { return t.resize(rows, cols) }

func (t *terminal) Close() error {
	err := errors.New("closed twice")
	t.closed.Do(func() { err = errors.Join(t.PipeReader.Close(), t.PipeWriter.Close()) })
	return err
}

// open drives a terminal in memory until the test ends.
func open(t testing.TB, options expect.Options) (*expect.Session, *terminal) {
	t.Helper()
	term := newTerminal()
	s, err := expect.New(term, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		term.running.Wait()
	})
	return s, term
}

// print is output of the program. It has been read when print returns, but maybe
// not been looked at.
func (t *terminal) print(tb testing.TB, pieces ...string) {
	tb.Helper()
	for _, piece := range pieces {
		if _, err := io.WriteString(t.output, piece); err != nil {
			tb.Errorf("print %.100q: %v", piece, err)
			return
		}
	}
}

// exit ends the output.
func (t *terminal) exit() { _ = t.output.Close() }

// gets checks what the program reads next.
func (t *terminal) gets(tb testing.TB, want string) {
	tb.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(t.input, got); err != nil || string(got) != want {
		tb.Errorf("the program has read %q, want %q (%v)", got, want, err)
	}
}

// background runs f, which must end when the session is closed.
func (t *terminal) background(f func()) { t.running.Go(f) }

// fails checks that an error is an *expect.Error for a reason.
func fails(t testing.TB, err, reason error) {
	t.Helper()
	_ = failure(t, err, reason)
}

// failure is what fails has checked.
func failure(t testing.TB, err, reason error) *expect.Error {
	t.Helper()
	var failed *expect.Error
	if !errors.As(err, &failed) {
		t.Fatalf("the error is %#v", err)
	}
	if !errors.Is(err, reason) {
		t.Errorf("the error is %v, which is not %v", err, reason)
	}
	return failed
}

// must fails the test at an error, and shows the screen.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var errTest = errors.New("a reason of the test")

// ended is a context that has ended.
func ended(t testing.TB) context.Context {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTest)
	return ctx
}
