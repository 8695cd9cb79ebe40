package expect

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
)

// maxNumber is the largest number of an escape sequence that is let through, but
// for counts, which end at the screen's size. There is a mode for every number,
// and the emulator keeps all that were ever set.
const maxNumber = 9999

// emulator is the screen as the program has drawn it: the library's emulator, and
// what has to be kept from it or done for it. A panic in there breaks it, and nothing else.
// It is not safe for concurrent use, but for replies.
type emulator struct {
	vt         *vt.Emulator
	rows, cols int
	broken     error // it has panicked

	// undrawn is output that nobody has looked at yet: text, "\n" and the like,
	// and colors. Most of it has scrolled off when somebody does, see skipScrolled.
	undrawn []byte
	most    int // of undrawn
	lines   int // in there that nobody has asked about, see bound

	title             string
	applicationCursor bool // cursor keys send something else
	cursorHidden      bool
	noWrap            bool
	partly            [2]bool // of the main and the alternate screen, not all rows scroll
	sideMargins       bool
	charsets          [2]byte // for SI and SO
	shifted           bool    // by SO

	// pendingWrap says that the last column has been written to, and that the next
	// character goes to the next line. The emulator knows it, but does not tell.
	pendingWrap bool
	last        cluster // empty when something else has come since
	lastAt      int     // its column
}

func newEmulator(rows, cols int) *emulator {
	e := &emulator{vt: vt.NewEmulator(cols, rows), charsets: [2]byte{'B', 'B'}}
	e.setSize(rows, cols)
	e.vt.SetScrollbackSize(1) // nobody can see it, and 0 is not possible
	e.vt.SetCallbacks(vt.Callbacks{
		EnableMode:  func(mode ansi.Mode) { e.setMode(mode, true) },
		DisableMode: func(mode ansi.Mode) { e.setMode(mode, false) },
	})
	return e
}

func (e *emulator) setSize(rows, cols int) {
	e.rows, e.cols = rows, cols
	e.most = 64<<10 + 4*rows*cols // room for more lines than a screen's, twice
}

func (e *emulator) setMode(mode ansi.Mode, on bool) {
	switch mode {
	case ansi.ModeCursorKeys:
		e.applicationCursor = on
	case ansi.ModeTextCursorEnable:
		e.cursorHidden = !on
	case ansi.ModeAutoWrap:
		e.noWrap = !on
	}
}

// Read reads what the program is to be told. It may be called at any time, and
// has to be: the emulator waits for it.
func (e *emulator) Read(b []byte) (int, error) { return e.vt.Read(b) }

// closeReplies ends Read. The emulator's own Close would race with it.
func (e *emulator) closeReplies() {
	if pipe, ok := e.vt.InputPipe().(io.Closer); ok {
		_ = pipe.Close() // cannot fail
	}
}

// safely calls f, and survives its panic.
func (e *emulator) safely(f func()) {
	if e.broken != nil {
		return
	}
	defer func() {
		if value := recover(); value != nil {
			e.broken = fmt.Errorf("the terminal emulator has panicked: %v", value)
			e.undrawn = nil
		}
	}()
	f()
}

// write gives the emulator something whole.
func (e *emulator) write(b []byte) { _, _ = e.vt.Write(b) } // fails only when closed

func (e *emulator) writef(format string, args ...any) { e.write(fmt.Appendf(nil, format, args...)) }

// text, control and sequence are those of a sink.
func (e *emulator) text(b []byte) { e.later(b) }

func (e *emulator) control(c byte) {
	switch c {
	case '\n', '\v', '\f', '\r', '\t', '\b':
		e.later([]byte{c})
		if isLineFeed(c) {
			e.bound()
		}
	case ansi.SO, ansi.SI:
		e.now(func() { e.shift(c == ansi.SO) })
	}
}

func (e *emulator) sequence(seq []byte) {
	if isColor(seq) {
		e.later(seq)
		return
	}
	e.now(func() { e.apply(seq) })
}

// isColor says whether a sequence sets colors and the like (SGR).
func isColor(seq []byte) bool {
	return seq[1] == '[' && seq[len(seq)-1] == 'm' && (seq[2] < '<' || seq[2] > '?') && seq[len(seq)-2] >= '0'
}

func (e *emulator) later(b []byte) {
	if e.broken != nil {
		return
	}
	if e.undrawn = append(e.undrawn, b...); len(e.undrawn) > e.most {
		e.draw()
	}
}

// bound draws when another line has made the undrawn ones too many. Whoever draws
// holds the session's lock meanwhile, and to draw some screens has to do.
func (e *emulator) bound() {
	most := 4 * e.rows
	if e.lines++; e.lines < most || e.broken != nil {
		return
	}
	e.lines = 0
	lines := 0
	for _, c := range e.undrawn[e.scrolled(e.undrawn):] {
		if isLineFeed(c) {
			lines++
		}
	}
	if lines >= most {
		e.draw()
	}
}

func isLineFeed(c byte) bool { return c == '\n' || c == '\v' || c == '\f' }

func (e *emulator) now(f func()) {
	e.draw()
	e.safely(f)
}

// draw draws what is undrawn.
func (e *emulator) draw() {
	e.safely(func() {
		b := e.skipScrolled(e.undrawn)
		for len(b) > 0 {
			n := 1
			switch c := b[0]; {
			case c == escape:
				n = bytes.IndexByte(b, 'm') + 1
				e.write(b[:n])
			case c < ' ':
				e.write(b[:n])
				e.last = cluster{}
				e.pendingWrap = e.pendingWrap && c == '\t'
			default:
				if n = bytes.IndexFunc(b, func(r rune) bool { return r < ' ' }); n < 0 {
					n = len(b)
				}
				e.print(b[:n])
			}
			b = b[n:]
		}
		e.undrawn, e.lines = e.undrawn[:0], 0
	})
}

// skipScrolled returns what there is still to be drawn. To scroll by a line costs
// the emulator ten microseconds, and "yes" would be slowed down to 200 KB/s. But
// of lines at the bottom of the screen only as many can be seen as it has rows.
//
// With b in two halves, the first of which ends in "\r\n", and a screen's worth of
// lines in each: wherever the cursor was, after the first it is at the start of
// the last row, and after the second nothing is left of what there was before.
func (e *emulator) skipScrolled(b []byte) []byte {
	half := e.scrolled(b)
	if half == 0 {
		return b
	}
	skipped := b[:half]
	if reset := max(bytes.LastIndex(skipped, []byte("\x1b[m")), bytes.LastIndex(skipped, []byte("\x1b[0m"))); reset > 0 {
		skipped = skipped[reset:]
	}
	for {
		_, after, found := bytes.Cut(skipped, []byte{escape})
		if !found {
			break
		}
		end := bytes.IndexByte(after, 'm') + 1
		e.writef("\x1b%s", after[:end])
		skipped = after[end:]
	}
	e.writef("\x1b[%dH", e.rows)
	e.pendingWrap = false
	e.last = cluster{}
	return b[half:]
}

// scrolled returns the length of the first half, or zero when there are no two.
func (e *emulator) scrolled(b []byte) int {
	if !e.wholeScrolls() || bytes.Count(b, []byte("\n")) < 2*e.rows {
		return 0
	}
	half := len(b)
	for range e.rows {
		half = bytes.LastIndexByte(b[:half], '\n')
	}
	half = bytes.LastIndex(b[:half], []byte("\r\n")) + len("\r\n")
	if half < len("\r\n") || bytes.Count(b[:half], []byte("\n")) < e.rows {
		return 0
	}
	return half
}

// wholeScrolls says whether all of the screen scrolls.
func (e *emulator) wholeScrolls() bool { return !e.partly[e.screen()] && !e.sideMargins }

func (e *emulator) screen() int {
	if e.vt.IsAltScreen() {
		return 1
	}
	return 0
}

// shift selects a character set. The emulator does not know SO and SI, by which
// TERM=screen and vt100 draw lines.
func (e *emulator) shift(out bool) {
	e.shifted = out
	set := e.charsets[0]
	if out {
		set = e.charsets[1]
	}
	e.writef("\x1b(%c", set)
}

// apply obeys a sequence. The emulator's position is looked at afterwards, since
// after a Resize a saved one may be outside.
func (e *emulator) apply(seq []byte) {
	last := e.last
	e.last = cluster{}
	switch seq[1] {
	case 'P', 'X', '^', '_': // strings that mean nothing to the emulator
		return
	case ']':
		e.osc(seq)
	case '[':
		e.csi(seq, last)
	default:
		e.esc(seq)
	}
	if at := e.vt.CursorPosition(); at.X >= e.cols || at.Y >= e.rows {
		e.writef("\x1b[%d;%dH", min(at.Y, e.rows-1)+1, min(at.X, e.cols-1)+1)
		e.pendingWrap = false
	}
}

func (e *emulator) osc(seq []byte) {
	command, argument, _ := strings.Cut(string(seq[2:]), ";")
	switch command {
	case "0", "2":
		e.title = strings.ToValidUTF8(argument, "\ufffd")
	case "10", "11", "12", "110", "111", "112": // default colors, which programs ask for
		if strings.IndexFunc(argument, func(r rune) bool { return r > '~' }) < 0 {
			e.writef("%s\x1b\\", seq)
		}
	}
}

func (e *emulator) esc(seq []byte) {
	switch final := seq[len(seq)-1]; {
	case len(seq) == 3 && (seq[1] == '(' || seq[1] == ')'):
		if final == '0' || final == 'A' || final == 'B' {
			e.charsets[seq[1]-'('] = final
			e.shift(e.shifted)
		}
		return
	case len(seq) > 2:
	case final == '8':
		e.restoreCursor()
		return
	case final == 'c':
		e.charsets, e.shifted = [2]byte{'B', 'B'}, false
		e.partly, e.sideMargins = [2]bool{}, false
		e.pendingWrap = false
	case final == 'D' || final == 'M':
		e.pendingWrap = e.pendingWrap && final == 'M'
	case final == 'E': // the emulator does not know it
		seq = []byte("\r\n")
		e.pendingWrap = false
	}
	e.write(seq)
}

// restoreCursor restores the saved cursor, and makes the emulator forget that it
// was to wrap where the cursor was before.
func (e *emulator) restoreCursor() {
	e.writef("\x1b8")
	e.unwrap()
}

func (e *emulator) unwrap() {
	e.writef("\x1b[%dG", e.vt.CursorPosition().X+1)
	e.pendingWrap = false
}

// csi obeys a control sequence. It may follow a character that is to be repeated.
func (e *emulator) csi(seq []byte, last cluster) {
	final := seq[len(seq)-1]
	if seq[2] >= '<' && seq[2] <= '?' || seq[len(seq)-2] < '0' { // private ones
		e.private(seq)
		return
	}
	switch final {
	case 'L', 'M', 'S', 'T':
		seq = limitNumbers(seq, 1, e.rows)
	case '@', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'P', 'X', 'Z', '`', 'a', 'd', 'e', 'f':
		seq = limitNumbers(seq, 1, max(e.rows, e.cols))
	case 'b':
		e.repeat(last, firstNumber(limitNumbers(seq, 1, e.rows*e.cols), 1))
		return
	case 'J':
		if firstNumber(seq, 0) == 1 {
			e.eraseAbove()
			return
		}
	case 'r':
		// The emulator trusts what it gets. A margin below the screen would make it panic.
		seq = limitNumbers(seq, 0, e.rows)
		e.partly[e.screen()] = !e.isWhole(seq)
	case 's':
		seq = limitNumbers(seq, 0, e.cols)
		e.sideMargins = e.sideMargins || len(seq) > len("\x1b[s")
	case 'u': // the emulator does not know it
		e.restoreCursor()
		return
	case 'n', 't':
		if answer := e.answer(string(seq)); answer != "" {
			_, _ = io.WriteString(e.vt.InputPipe(), answer) // fails only when closed
			return
		}
		seq = limitNumbers(seq, 0, maxNumber)
	default:
		seq = limitNumbers(seq, 0, maxNumber)
	}
	e.write(seq)
	switch final {
	case 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'X', '`', 'a', 'd', 'e', 'f':
		e.pendingWrap = false
	case 'K', 'r': // it may have done so by itself
		e.unwrap()
	case 's':
		if e.sideMargins {
			e.unwrap()
		}
	}
}

// eraseAbove erases all before the cursor and below it. The emulator would take
// the rest of the line with it.
func (e *emulator) eraseAbove() {
	e.write([]byte("\x1b[1K"))
	at := e.vt.CursorPosition()
	blank := e.vt.CellAt(0, at.Y) // with the color that it has to have
	if blank == nil {
		return
	}
	erased := *blank
	for y := range at.Y {
		for x := range e.cols {
			e.vt.SetCell(x, y, &erased)
		}
	}
}

// answer is for questions that the emulator answers wrongly, or not at all.
func (e *emulator) answer(question string) string {
	switch question {
	case "\x1b[5n": // is all well?
		return "\x1b[0n"
	case "\x1b[18t":
		return fmt.Sprintf("\x1b[8;%d;%dt", e.rows, e.cols)
	}
	return ""
}

// isWhole says whether margins are those of the screen.
func (e *emulator) isWhole(margins []byte) bool {
	top, bottom, _ := strings.Cut(string(margins[2:len(margins)-1]), ";")
	return (top == "" || top == "0" || top == "1") && (bottom == "" || bottom == "0" || bottom == strconv.Itoa(e.rows))
}

// private is for what is not in the standard (ECMA-48).
func (e *emulator) private(seq []byte) {
	if bytes.HasPrefix(seq, []byte("\x1b[?47")) && len(seq) == len("\x1b[?47h") {
		seq = fmt.Appendf(nil, "\x1b[?1047%c", seq[len(seq)-1]) // the emulator does not know it
	}
	was, at := e.screen(), e.vt.CursorPosition()
	e.write(limitNumbers(seq, 0, maxNumber))
	if e.screen() > was { // the emulator goes to its corner, a terminal stays
		e.writef("\x1b[%d;%dH", at.Y+1, at.X+1)
	}
	if bytes.Contains(seq, []byte("104")) { // to the other screen, or to a saved cursor
		e.unwrap()
	}
}

// limitNumbers returns a sequence with each number in it at least the lowest and
// at most the highest.
func limitNumbers(seq []byte, lowest, highest int) []byte {
	limited := make([]byte, 0, len(seq))
	for i := 0; i < len(seq); {
		if seq[i] < '0' || seq[i] > '9' {
			limited = append(limited, seq[i])
			i++
			continue
		}
		n := 0
		for ; i < len(seq) && seq[i] >= '0' && seq[i] <= '9'; i++ {
			n = min(n*10+int(seq[i]-'0'), highest)
		}
		limited = strconv.AppendInt(limited, int64(max(n, lowest)), 10)
	}
	return limited
}

// firstNumber returns the first number of a sequence.
func firstNumber(seq []byte, otherwise int) int {
	digits, _, _ := strings.Cut(string(seq[2:len(seq)-1]), ";")
	if n, err := strconv.Atoi(digits); err == nil {
		return n
	}
	return otherwise
}

// resize gives the screen another size. As with xterm, the line of the cursor stays.
func (e *emulator) resize(rows, cols int) {
	e.now(func() {
		at := e.vt.CursorPosition()
		if hidden := at.Y - rows + 1; hidden > 0 && e.screen() == 0 {
			e.writef("\x1b[r\x1b[%dS\x1b[%d;%dH", hidden, rows, at.X+1)
		}
		e.vt.Resize(cols, rows)
		e.setSize(rows, cols)
		e.partly, e.sideMargins = [2]bool{}, false
		e.pendingWrap = false
		e.last = cluster{}
	})
}
