package expect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Sizes of a screen.
const (
	DefaultRows = 24
	DefaultCols = 80

	maxSide  = 1<<16 - 1 // as much as a terminal's size can say (man 2 TIOCSWINSZ)
	maxCells = 1 << 20
)

// readSize is more than a terminal gives at once, which is 4 KiB; others give more.
const readSize = 32 << 10

// maxReplies is how many answers wait for the program to read them. More are lost,
// as they are when a terminal's queue is full.
const maxReplies = 256

// Terminal is the near end of a terminal: what the program writes is read from it,
// and what is written to it the program reads. Its methods are called from several
// goroutines at the same time.
type Terminal interface {
	// Read returns io.EOF when nothing comes any more. EIO means the same: Linux
	// says so of a terminal that nobody has open (man 4 pts).
	io.Reader

	// Write may block as long as the program does not read.
	io.Writer

	// Close makes Read and Write return. It is called once.
	io.Closer

	// Resize gives the terminal another size, and lets the program know.
	Resize(rows, cols int) error
}

// Options are what a Session may be told. All may be zero.
type Options struct {
	// Rows and Cols are the size that the terminal has. Zero means DefaultRows
	// and DefaultCols. To change it there is Session.Resize.
	Rows, Cols int

	// Timeout is how long a wait may last, besides what its context says. Zero
	// means without limit.
	Timeout time.Duration

	// Log gets all output as it comes, with all escape sequences, before it can be
	// matched. While it blocks nothing is read. After it has failed it gets no
	// more, and Close returns its error.
	Log io.Writer
}

// Session is a program on a terminal, and who drives it. Its methods are safe for
// concurrent use. Close it when it isn't needed any more.
type Session struct {
	terminal Terminal
	timeout  time.Duration
	log      io.Writer
	replies  chan []byte
	close    func() error

	turn     chan struct{} // holds something while somebody waits for text
	writing  sync.Mutex
	resizing sync.Mutex
	owned    sync.WaitGroup // of goroutines

	mu      sync.Mutex
	decoder decoder
	*output
	changed  chan struct{} // closed when anything below or the output has
	end      error         // of the output
	closed   bool
	matching bool      // somebody waits for text
	seen     sync.Cond // by who waits for it
	logError error
}

// output is what the program has written.
type output struct {
	emulator  *emulator
	unmatched unmatched
}

func (o *output) text(b []byte)       { o.unmatched.text(b); o.emulator.text(b) }
func (o *output) control(c byte)      { o.unmatched.control(c); o.emulator.control(c) }
func (o *output) sequence(seq []byte) { o.emulator.sequence(seq) }

// New drives what is on a terminal. Close closes the terminal too; when New fails
// it is left as it is.
func New(t Terminal, options Options) (*Session, error) {
	rows, cols := options.Rows, options.Cols
	if rows == 0 {
		rows = DefaultRows
	}
	if cols == 0 {
		cols = DefaultCols
	}
	if err := checkSize(rows, cols); err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	s := &Session{
		terminal: t,
		timeout:  options.Timeout,
		log:      options.Log,
		replies:  make(chan []byte, maxReplies),
		turn:     make(chan struct{}, 1),
		output:   &output{emulator: newEmulator(rows, cols)},
		changed:  make(chan struct{}),
	}
	s.seen.L = &s.mu
	s.close = sync.OnceValue(s.closeOnce)
	s.owned.Go(s.read)
	s.owned.Go(s.takeReplies)
	s.owned.Go(s.sendReplies)
	return s, nil
}

func checkSize(rows, cols int) error {
	if rows < 1 || cols < 1 || rows > maxSide || cols > maxSide || rows*cols > maxCells {
		return fmt.Errorf("%w: a screen of %d rows and %d columns", os.ErrInvalid, rows, cols)
	}
	return nil
}

// Close closes the terminal, and waits until nothing of the session is left. Who
// waits for something gets an Error with os.ErrClosed. It may be called more than once.
func (s *Session) Close() error { return s.close() }

func (s *Session) closeOnce() error {
	s.mu.Lock()
	s.closed = true
	s.seen.Broadcast()
	s.mu.Unlock()
	err := s.terminal.Close()
	s.owned.Wait()
	if err != nil {
		err = fmt.Errorf("close the terminal: %w", err)
	}
	return errors.Join(err, s.logError)
}

// Resize gives the terminal and the screen another size. When the terminal refuses,
// the screen has its old size, and may have lost what had no room in the new one.
func (s *Session) Resize(rows, cols int) error {
	if err := checkSize(rows, cols); err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	s.resizing.Lock()
	defer s.resizing.Unlock()
	// The screen first: what the program draws then is for the new size.
	oldRows, oldCols := s.resizeScreen(rows, cols)
	if err := s.terminal.Resize(rows, cols); err != nil {
		s.resizeScreen(oldRows, oldCols)
		return fmt.Errorf("resize: %w", err)
	}
	return nil
}

func (s *Session) resizeScreen(rows, cols int) (oldRows, oldCols int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldRows, oldCols = s.emulator.rows, s.emulator.cols
	s.emulator.resize(rows, cols)
	s.announce()
	return oldRows, oldCols
}

// Screen returns what a user sees now.
func (s *Session) Screen() *Screen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emulator.snapshot()
}

// announce wakes who waits for a change.
func (s *Session) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// read takes all output until its end.
func (s *Session) read() {
	defer s.emulator.closeReplies()
	buffer := make([]byte, readSize)
	for {
		n, err := s.terminal.Read(buffer)
		if n > 0 {
			s.writeLog(buffer[:n])
			s.take(buffer[:n])
		}
		if err != nil {
			s.takeEnd(err)
			return
		}
	}
}

func (s *Session) writeLog(b []byte) {
	if s.log == nil || s.logError != nil {
		return
	}
	if _, err := s.log.Write(b); err != nil {
		s.logError = fmt.Errorf("log: %w", err) // read when this goroutine has ended
	}
}

// maxHold is how long the lock is held for what can be drawn in pieces. One
// sequence may fill the screen, which takes some milliseconds, and one read has
// room for thousands of them.
const maxHold = 5 * time.Millisecond

// take takes output. It lets go of the lock now and then, for whoever waits for it:
// their contexts end meanwhile, and Close does not wait for all of it.
func (s *Session) take(b []byte) {
	for len(b) > 0 {
		if b = s.takeSome(b); len(b) > 0 {
			runtime.Gosched()
		}
	}
}

// takeSome returns what there is no time for, or nothing after Close.
func (s *Session) takeSome(b []byte) (rest []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Who waits for text has not looked at all of it, and it would be cut off. The
	// program has to wait meanwhile.
	for s.matching && s.unmatched.unseen > maxUnseen && !s.closed {
		s.seen.Wait()
	}
	for since := time.Now(); len(b) > 0 && time.Since(since) < maxHold; {
		n := pieceLen(b)
		s.decoder.decode(b[:n], s.output)
		b = b[n:]
	}
	s.announce()
	if s.closed {
		return nil
	}
	return b
}

// pieceLen returns the length of a piece of output that begins one sequence at most.
func pieceLen(b []byte) int {
	const most = 256
	b = b[:min(most, len(b))]
	if n := bytes.IndexByte(b[1:], escape); n >= 0 {
		return n + 1
	}
	return len(b)
}

func (s *Session) takeEnd(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		err = os.ErrClosed
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO):
		err = io.EOF
	}
	s.decoder.end(s.output)
	s.unmatched.end()
	s.end = err
	s.announce()
}

// waiting returns a context for a wait that begins now.
func (s *Session) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("%w after %v", context.DeadlineExceeded, s.timeout))
}
