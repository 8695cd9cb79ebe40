package main

import (
	"cmp"
	"io"
	"math"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/netrunner-go/netrunner"
)

const (
	// maxLine is how much of a line is held back until its end comes. A longer
	// one is written in pieces.
	maxLine = 64 << 10

	logTime = "15:04:05.000"

	// minRoom is for terminals that have no room beside the prefix.
	minRoom = maxWidth
)

// outputLog writes a command's standard output and error with a prefix to each
// line. The two are written by one goroutine each.
type outputLog struct{ out, err *lineLog }

func newOutputLog() *outputLog {
	shared := new(sync.Mutex)
	own := shared
	if !sameFile(os.Stdout, os.Stderr) {
		own = new(sync.Mutex) // a reader of one that is slow must not hold up the other
	}
	l := &outputLog{
		out: &lineLog{to: os.Stdout, source: "out", color: faint, writing: shared},
		err: &lineLog{to: os.Stderr, source: "err", color: red, writing: own},
	}
	for stream, file := range map[*lineLog]*os.File{l.out: os.Stdout, l.err: os.Stderr} {
		stream.now = time.Now
		if term.IsTerminal(int(file.Fd())) {
			stream.columns = func() int { return columnsOf(file) }
		}
		if stream.columns == nil || !colorsWanted(os.Getenv) {
			stream.color = ""
		}
	}
	return l
}

// columnsOf returns the width of a terminal, or zero when it doesn't say.
func columnsOf(file *os.File) int {
	size, err := netrunner.WindowSizeOf(file)
	if err != nil {
		return 0
	}
	return int(size.Cols)
}

// colorsWanted is for output to a terminal. See https://no-color.org.
func colorsWanted(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// finish writes the lines that have no end, when the command has ended. A stream
// that could not be written before is not tried again.
func (l *outputLog) finish() error { return cmp.Or(l.out.finish(), l.err.finish()) }

// What a terminal understands (ECMA-48, 8.3.117).
const (
	faint = "\x1b[2m"
	red   = "\x1b[31m"
	plain = "\x1b[0m"
)

// lineLog is one stream of an outputLog. It is written to by one goroutine at a
// time.
//
// A line ends with \n, \r\n, or \r alone, so that each step of a progress bar is
// a line. It is written when its end is there, and its time is that of the
// writing, so that times never go back. The last line gets the end that it lacks.
//
// Lines are the command's text, as appendShown shows it: it can neither move a
// terminal's cursor nor hide. On a terminal no line is longer than a row of it, and
// what follows is a piece with a prefix of its own: by a terminal's own wrapping, the
// command could begin a row with what looks like a prefix.
type lineLog struct {
	to      io.Writer
	source  string
	color   string     // of the prefix; empty for none
	columns func() int // of the terminal that it goes to; nil without one
	now     func() time.Time
	writing *sync.Mutex // held while one writes to a file that both write to

	line      []byte // begun, and without its end
	continued bool   // a piece of the line was written
	returned  returned
	failed    bool

	prefix  []byte // with the time
	room    int    // in columns, for the text of a row
	shown   []byte // of a line, reused
	pending []byte // to be written
}

// returned says what a \n means: what comes right after \r.
type returned int

const (
	notReturned   returned = iota // the end of a line, maybe of an empty one
	returnedEmpty                 // the same: \r had no line to end
	returnedLine                  // nothing more: \r has ended the line
)

// Write takes a part of the stream. Lines whose end is in it have been written when it returns.
func (l *lineLog) Write(b []byte) (int, error) {
	n := len(b)
	l.writing.Lock()
	defer l.writing.Unlock()
	l.stamp()
	for len(b) > 0 {
		text := lineEnd(b)
		if text > 0 {
			l.returned = notReturned
			if len(l.line) == maxLine {
				l.piece() // now that there is more of it
			}
			text = min(text, maxLine-len(l.line))
			l.line = append(l.line, b[:text]...)
			b = b[text:]
		} else {
			l.end(b[0])
			b = b[1:]
		}
		if len(l.pending) >= maxLine {
			if err := l.flush(); err != nil {
				return n - len(b), err
			}
		}
	}
	return n, l.flush()
}

// lineEnd returns the index of the first \n or \r, or the length.
func lineEnd(b []byte) int {
	for i, c := range b {
		if c == '\n' || c == '\r' {
			return i
		}
	}
	return len(b)
}

// end takes a \n or \r.
func (l *lineLog) end(c byte) {
	switch {
	case c == '\r' && len(l.line) > 0:
		l.emit(l.line)
		l.line, l.continued, l.returned = l.line[:0], false, returnedLine
	case c == '\r' && l.returned == notReturned:
		l.returned = returnedEmpty
	case c == '\r': // as before
	case l.returned == returnedLine:
		l.returned = notReturned
	default:
		l.emit(l.line)
		l.line, l.continued, l.returned = l.line[:0], false, notReturned
	}
}

// piece writes what there is of a line that is too long, but not a part of a
// character.
func (l *lineLog) piece() {
	whole := len(l.line)
	for i := whole - 1; i > whole-utf8.UTFMax; i-- {
		if utf8.RuneStart(l.line[i]) {
			if !utf8.FullRune(l.line[i:]) {
				whole = i
			}
			break
		}
	}
	l.emit(l.line[:whole])
	l.line = l.line[:copy(l.line, l.line[whole:])]
	l.continued = true
}

// stamp makes the prefix, up to the bar, and looks how much room is beside it.
func (l *lineLog) stamp() {
	l.prefix = l.now().AppendFormat(append(l.prefix[:0], l.color...), logTime)
	l.prefix = append(append(append(l.prefix, ' '), l.source...), ' ')
	l.room = math.MaxInt
	if l.columns == nil {
		return
	}
	if columns := l.columns(); columns > 0 {
		// Not the last column, where some terminals wrap already.
		l.room = max(columns-1-len(logTime)-len(l.source)-len("  ")-maxWidth-len(" "), minRoom)
	}
}

// emit adds a line, in as many rows as it needs.
func (l *lineLog) emit(text []byte) {
	l.shown = appendShown(l.shown[:0], text)
	for text := l.shown; ; {
		row := rowLen(text, l.room)
		bar := "│"
		if l.continued {
			bar = "┆"
		}
		l.pending = append(append(l.pending, l.prefix...), bar...)
		if l.color != "" {
			l.pending = append(l.pending, plain...)
		}
		l.pending = append(append(append(l.pending, ' '), text[:row]...), '\n')
		if text = text[row:]; len(text) == 0 {
			return
		}
		l.continued = true
	}
}

func (l *lineLog) flush() error {
	if len(l.pending) == 0 {
		return nil
	}
	_, err := l.to.Write(l.pending)
	l.pending = l.pending[:0]
	l.failed = err != nil
	return err
}

func (l *lineLog) finish() error {
	if len(l.line) == 0 || l.failed {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.stamp()
	l.emit(l.line)
	l.line = nil
	return l.flush()
}
