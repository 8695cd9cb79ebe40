package expect

import (
	"bytes"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// maxCluster is how many bytes of a character with its marks are kept. The longest
// emoji take 41.
const maxCluster = 64

// cluster is what a user takes for one character: é may be two runes, a flag is.
type cluster struct {
	bytes []byte
	width int // in columns; 0 when it shows nothing
}

// firstCluster returns the first cluster, and what follows it.
func firstCluster(b []byte) (first cluster, rest []byte) {
	bytes, width := ansi.FirstGraphemeCluster(b, ansi.GraphemeWidth)
	// The emulator ends a cluster before each ASCII character, and so must we.
	for i := 1; i < len(bytes); i++ {
		if bytes[i] < utf8.RuneSelf {
			bytes, width = ansi.FirstGraphemeCluster(b[:i], ansi.GraphemeWidth)
			break
		}
	}
	rest = b[len(bytes):]
	if len(bytes) > maxCluster {
		end := maxCluster
		for !utf8.RuneStart(bytes[end]) {
			end--
		}
		bytes, width = ansi.FirstGraphemeCluster(bytes[:end], ansi.GraphemeWidth)
	}
	return cluster{bytes, width}, rest
}

// print puts printable text on the screen. It comes in any pieces; what begins with
// a mark belongs to the character before.
func (e *emulator) print(text []byte) {
	if len(e.last.bytes) > 0 && text[0] >= utf8.RuneSelf {
		joined, rest := firstCluster(append(bytes.Clone(e.last.bytes), text...))
		if continued := len(e.last.bytes) + len(text) - len(rest); continued > len(e.last.bytes) {
			e.extend(joined)
			text = rest
		}
	}
	for len(text) > 0 {
		if n := asciiPrefix(text); n > 0 {
			e.printNarrow(text[:n], n)
			e.last = cluster{[]byte{text[n-1]}, 1}
			text = text[n:]
			continue
		}
		var next cluster
		next, text = firstCluster(text)
		e.printCluster(next)
	}
}

// asciiPrefix returns how many ASCII characters are at the front, without one that
// may have marks.
func asciiPrefix(text []byte) int {
	for n, c := range text {
		if c >= utf8.RuneSelf {
			return max(n-1, 0)
		}
	}
	return len(text)
}

func (e *emulator) printCluster(c cluster) {
	c.bytes = bytes.Clone(c.bytes)
	switch c.width {
	case 0: // the emulator would make it a cell
	case 1:
		e.printNarrow(c.bytes, 1)
	default:
		e.printWide(c)
	}
	e.last = c
}

// printNarrow prints characters of one column each.
func (e *emulator) printNarrow(text []byte, columns int) {
	at := e.vt.CursorPosition().X
	if e.pendingWrap {
		at = e.cols
	}
	e.writeNarrow(at, text, columns)
	end := at + columns - 1
	e.lastAt = end % e.cols
	if e.noWrap {
		e.lastAt = min(end, e.cols-1)
	}
	e.pendingWrap = !e.noWrap && e.lastAt == e.cols-1
}

// writeNarrow leaves out whole lines of one that is longer than two screens: none
// of them can be seen, and each takes the emulator as long as in skipScrolled.
func (e *emulator) writeNarrow(at int, text []byte, columns int) {
	const screens = 2
	seen := screens * e.rows * e.cols
	if toWrap := e.cols - at; columns-toWrap > seen+e.cols && e.wholeScrolls() && !e.noWrap {
		e.write(text[:toWrap])
		text = text[toWrap:]
		text = text[(len(text)-seen)/e.cols*e.cols:]
	}
	e.write(text)
}

// printWide prints a character of several columns. The emulator loses it at the end
// of a line: it puts blanks where there is no room for it, and where there is just
// enough, the next character on top of its second half.
func (e *emulator) printWide(c cluster) {
	if e.cols < c.width {
		e.printNarrow([]byte{' '}, 1)
		return
	}
	at := e.vt.CursorPosition()
	if !e.noWrap && (e.pendingWrap || at.X+c.width > e.cols) {
		if !e.pendingWrap {
			e.write([]byte{' '})
		}
		e.write([]byte("\r\n"))
		e.pendingWrap = false
		at = e.vt.CursorPosition()
	}
	e.lastAt = at.X
	if e.noWrap || at.X+c.width < e.cols {
		e.write(c.bytes)
		return
	}
	// A blank in the last column makes the next character wrap, and has the colors.
	e.writef("\x1b[%dG ", e.cols)
	e.pendingWrap = true
	e.replace(at.X, e.cols-1, c)
}

// replace puts a cluster in a cell of the cursor's line without moving the cursor,
// in the colors of another cell.
func (e *emulator) replace(x, colors int, c cluster) {
	y := e.vt.CursorPosition().Y
	cell := e.vt.CellAt(colors, y)
	if cell == nil {
		return
	}
	replaced := *cell
	replaced.Content, replaced.Width = string(c.bytes), c.width
	e.vt.SetCell(x, y, &replaced)
}

// extend replaces the last cluster by itself and more marks.
func (e *emulator) extend(c cluster) {
	switch {
	case e.last.width == 0:
		e.printCluster(c)
	case c.width > e.last.width && c.width <= e.cols: // a mark has made it an emoji
		e.replace(e.lastAt, e.lastAt, cluster{[]byte{' '}, 1})
		if !e.pendingWrap {
			e.writef("\x1b[%dG", e.lastAt+1)
		}
		e.printCluster(c)
	default:
		c.bytes = bytes.Clone(c.bytes)
		if c.width > e.cols {
			e.replace(e.lastAt, e.lastAt, cluster{[]byte{' '}, 1})
		} else {
			e.replace(e.lastAt, e.lastAt, c)
		}
		e.last = c
	}
}

// repeat prints a character again (REP), no more often than fills the screen twice.
// The emulator would do it as often as it is told to.
func (e *emulator) repeat(c cluster, times int) {
	if c.width == 0 {
		return
	}
	if len(c.bytes) == 1 {
		e.printNarrow(bytes.Repeat(c.bytes, times), times)
		e.last = c
		return
	}
	for range min(times, e.rows*e.cols/c.width+e.cols) {
		e.printCluster(c)
	}
}
