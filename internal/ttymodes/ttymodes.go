// Package ttymodes remembers what a program has asked of a terminal, so that
// somebody else can undo it: the alternate screen, a hidden cursor, mouse
// reports, bracketed paste, and the other modes of the DEC private set
// (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
package ttymodes

import (
	"fmt"
	"io"
	"slices"
	"sync"
)

// initially are the modes that a terminal has from the start.
var initially = map[int]bool{7: true, 25: true} // wrap around, show the cursor

// most bounds how many modes are remembered, and how large a number may be.
const most = 1 << 14

// Writer passes everything on, and remembers the modes. Its methods are safe for
// concurrent use.
type Writer struct {
	mu    sync.Mutex
	w     io.Writer
	state state
	modes map[int]bool // those that were set or reset
	given []int        // parameters of the sequence so far
}

// state is how far a sequence has come: ESC [ ? parameters h, or l.
type state int

const (
	text state = iota
	escape
	bracket
	parameters
)

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, modes: map[int]bool{}} }

// Write writes b as it is.
func (w *Writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.w.Write(b)
	for _, c := range b[:n] {
		w.see(c)
	}
	return n, err
}

func (w *Writer) see(c byte) {
	switch {
	case c == 0x1b:
		w.state = escape
	case w.state == escape && c == '[':
		w.state = bracket
	case w.state == bracket && c == '?':
		w.state, w.given = parameters, append(w.given[:0], 0)
	case w.state == parameters && c >= '0' && c <= '9':
		last := &w.given[len(w.given)-1]
		*last = min(*last*10+int(c-'0'), most)
	case w.state == parameters && c == ';' && len(w.given) < 32:
		w.given = append(w.given, 0)
	case w.state == parameters && (c == 'h' || c == 'l'):
		for _, mode := range w.given {
			if mode < most {
				w.modes[mode] = c == 'h'
			}
		}
		w.state = text
	default:
		w.state = text
	}
}

// Suspend gives the terminal back as it was: with its own screen and cursor, and
// colors as usual.
func (w *Writer) Suspend() { w.write(false) }

// Resume asks again for what the program had asked for.
func (w *Writer) Resume() { w.write(true) }

func (w *Writer) write(resume bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var sequences []byte
	for _, mode := range w.changed() {
		end := 'l'
		if w.modes[mode] == resume {
			end = 'h'
		}
		sequences = fmt.Appendf(sequences, "\x1b[?%d%c", mode, end)
	}
	if len(sequences) > 0 {
		_, _ = w.w.Write(append(sequences, "\x1b[0m"...)) // a terminal that is gone needs none
	}
}

// changed lists the modes that are not as they were.
func (w *Writer) changed() (changed []int) {
	for mode, set := range w.modes {
		if set != initially[mode] {
			changed = append(changed, mode)
		}
	}
	slices.Sort(changed)
	return changed
}
