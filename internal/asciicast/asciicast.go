// Package asciicast writes recordings of terminal sessions in asciinema's format,
// version 2 (https://docs.asciinema.org/manual/asciicast/v2/): a line that
// describes the session, then a line for each event of it.
package asciicast

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// maxLine is the length at which an event is ended, and what follows becomes
// another one: what a Recorder holds does not depend on what it is given.
const maxLine = 64 << 10

// What programs take a terminal to be that does not say.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// Header describes a session.
type Header struct {
	// Width and Height are the columns and rows at the beginning. Zero means 80, and 24.
	Width, Height int
	// Timestamp is when it began, in whole seconds; the zero time means now. The
	// times of events do not depend on it: they are counted from New.
	Timestamp time.Time
	// IdleTimeLimit is the longest pause that a player should make. Zero means as
	// long as it was.
	IdleTimeLimit time.Duration
	// Command and Title are left out when empty.
	Command, Title string
	// Env is some of the environment; nil leaves it out. asciinema itself tells
	// TERM and SHELL, and asks others to tell no more unless the user wants it.
	Env map[string]string
}

// SizeError says that no terminal has this size.
type SizeError struct {
	Columns, Rows int
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("size %dx%d: a terminal has 1 to %d columns and rows", e.Columns, e.Rows, math.MaxUint16)
}

// Recorder writes a recording. An event is in the file when the method that tells
// it returns, and each is written by one call of Write: a recording that is cut
// off can be played up to its last whole line.
//
// Bytes need not be text. Each one that belongs to no UTF-8 character becomes
// U+FFFD, as in a range over a string. A character may come in pieces: its first
// bytes are held back until the rest comes, also over events of another kind. So
// it is recorded where a terminal would show it, and a resize in the middle of it
// comes before it.
//
// The first error of a Write is the last: nothing is written after it, and every
// later call returns it. Who must not be disturbed by that ignores it until Close.
// Methods are safe for concurrent use. They wait for Write.
type Recorder struct {
	mu     sync.Mutex
	w      io.Writer
	now    func() time.Duration // since the beginning
	last   time.Duration        // of the latest event
	line   []byte               // reused
	text   int                  // where the event's text begins in it
	output fragment
	input  fragment
	err    error // the first
	closed bool
}

var errClosed = fmt.Errorf("the recording has been closed: %w", os.ErrClosed)

// New writes the header. It fails with that Write, or with a [*SizeError]. The
// writer stays the caller's to close, after Close.
func New(w io.Writer, h Header) (*Recorder, error) {
	var err error
	if h.Width, h.Height, err = size(h.Width, h.Height); err != nil {
		return nil, err
	}
	start := time.Now()
	if h.Timestamp.IsZero() {
		h.Timestamp = start
	}
	r := &Recorder{w: w, now: func() time.Duration { return time.Since(start) }}
	r.line = h.append(r.line)
	if err := r.write(); err != nil {
		return nil, err
	}
	return r, nil
}

func (h *Header) append(line []byte) []byte {
	line = append(line, `{"version": 2, "width": `...)
	line = strconv.AppendInt(line, int64(h.Width), 10)
	line = append(line, `, "height": `...)
	line = strconv.AppendInt(line, int64(h.Height), 10)
	line = append(line, `, "timestamp": `...)
	line = strconv.AppendInt(line, h.Timestamp.Unix(), 10)
	if h.IdleTimeLimit > 0 {
		line = append(line, `, "idle_time_limit": `...)
		line = strconv.AppendFloat(line, h.IdleTimeLimit.Seconds(), 'f', -1, 64)
	}
	if h.Command != "" {
		line = appendString(append(line, `, "command": `...), h.Command)
	}
	if h.Title != "" {
		line = appendString(append(line, `, "title": `...), h.Title)
	}
	if h.Env != nil {
		line = append(line, `, "env": {`...)
		for i, name := range slices.Sorted(maps.Keys(h.Env)) {
			if i > 0 {
				line = append(line, ", "...)
			}
			line = appendString(line, name)
			line = appendString(append(line, ": "...), h.Env[name])
		}
		line = append(line, '}')
	}
	return append(line, "}\n"...)
}

// size refuses what does not fit in the kernel's struct winsize (man 2 ioctl_tty).
func size(columns, rows int) (c, r int, err error) {
	if min(columns, rows) < 0 || max(columns, rows) > math.MaxUint16 {
		return 0, 0, &SizeError{Columns: columns, Rows: rows}
	}
	if columns == 0 {
		columns = defaultWidth
	}
	if rows == 0 {
		rows = defaultHeight
	}
	return columns, rows, nil
}

// Output records what the session has written to its terminal. It does not keep p.
func (r *Recorder) Output(p []byte) error { return r.record('o', &r.output, p) }

// Input records what was typed, passwords included. The format wants it left out
// unless the user asked for it. It does not keep p.
func (r *Recorder) Input(p []byte) error { return r.record('i', &r.input, p) }

// Resize records the terminal's new size; zero means what it does in a [Header].
// A [*SizeError] does not end the recording.
func (r *Recorder) Resize(columns, rows int) error {
	columns, rows, err := size(columns, rows)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refused(); err != nil {
		return err
	}
	r.begin('r')
	r.line = strconv.AppendInt(r.line, int64(columns), 10)
	r.line = strconv.AppendInt(append(r.line, 'x'), int64(rows), 10)
	return r.end()
}

// Close records what was held back, and returns the first error of the recording.
// Later calls do the same; those of other methods fail with [os.ErrClosed].
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || r.closed {
		return r.err
	}
	r.closed = true
	r.abandon('o', &r.output)
	r.abandon('i', &r.input)
	return r.err
}

// abandon records a character that was never finished.
func (r *Recorder) abandon(kind byte, held *fragment) {
	if held.len == 0 || r.err != nil {
		return
	}
	r.begin(kind)
	for range held.len {
		r.line = appendRune(r.line, utf8.RuneError)
	}
	held.len = 0
	_ = r.end() // Close returns it
}

// refused says why nothing more can be recorded.
func (r *Recorder) refused() error {
	if r.err != nil {
		return r.err
	}
	if r.closed {
		return errClosed
	}
	return nil
}

func (r *Recorder) record(kind byte, held *fragment, p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refused(); err != nil {
		return err
	}
	r.begin(kind)
	r.line, p = held.finish(r.line, p)
	for len(p) > 0 {
		var n int
		if r.line, n = appendText(r.line, p, maxLine); n == 0 {
			held.len = copy(held.bytes[:], p)
			break
		}
		if p = p[n:]; len(r.line) >= maxLine {
			if err := r.end(); err != nil {
				return err
			}
			r.begin(kind)
		}
	}
	if len(r.line) == r.text { // all of it was held back
		return nil
	}
	return r.end()
}

// begin begins an event: a line up to its text.
func (r *Recorder) begin(kind byte) {
	r.last = max(r.last, r.now())
	r.line = appendSeconds(append(r.line[:0], '['), r.last)
	r.line = append(r.line, ", \""...)
	r.line = append(r.line, kind)
	r.line = append(r.line, "\", \""...)
	r.text = len(r.line)
}

func (r *Recorder) end() error {
	r.line = append(r.line, "\"]\n"...)
	return r.write()
}

// write writes the line, by one call.
func (r *Recorder) write() error {
	n, err := r.w.Write(r.line)
	if err == nil && n < len(r.line) {
		err = io.ErrShortWrite
	}
	if err != nil {
		r.err = fmt.Errorf("write the recording: %w", err)
	}
	return r.err
}
