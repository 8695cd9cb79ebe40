package expect

import (
	"strings"

	uv "github.com/charmbracelet/ultraviolet"
)

// Screen is what a user sees at one moment. Rows and columns count from 0, in the
// upper left corner. It does not change any more, and is safe for concurrent use.
type Screen struct {
	rows, cols int
	cells      []Cell
	cursor     Cursor
	title      string
}

// Cursor is where the next character goes.
type Cursor struct {
	Row, Col int
	Hidden   bool
}

// Cell is one place of the screen. Cells can be compared with ==.
type Cell struct {
	// Text is a character with its marks; " " where there is nothing, and "" in
	// the right half of a wide one.
	Text      string
	Width     int // 1; 2 for a wide one, 0 for its right half
	Fg, Bg    Color
	Bold      bool
	Faint     bool
	Italic    bool
	Underline bool // in any style
	Blink     bool
	Reverse   bool // Fg and Bg are shown the other way round
	Concealed bool // Text cannot be seen
	StruckOut bool
}

// Size returns the number of rows and columns.
func (s *Screen) Size() (rows, cols int) { return s.rows, s.cols }

// Cursor returns the cursor.
func (s *Screen) Cursor() Cursor { return s.cursor }

// Title returns the title that the program has given to the window.
func (s *Screen) Title() string { return s.title }

// Cell returns a cell; the zero Cell outside of the screen.
func (s *Screen) Cell(row, col int) Cell {
	if row < 0 || row >= s.rows || col < 0 || col >= s.cols {
		return Cell{}
	}
	return s.cells[row*s.cols+col]
}

func (s *Screen) row(row int) []Cell { return s.cells[row*s.cols : (row+1)*s.cols] }

// Line returns the text of a row without blanks at its end; "" outside of the screen.
func (s *Screen) Line(row int) string {
	if row < 0 || row >= s.rows {
		return ""
	}
	return strings.TrimRight(textOf(s.row(row)), " ")
}

func textOf(cells []Cell) string {
	var text strings.Builder
	for i := range cells {
		text.WriteString(cells[i].Text)
	}
	return text.String()
}

// String returns the lines without blanks at their ends, and without empty lines
// at the end.
func (s *Screen) String() string {
	lines := make([]string, s.rows)
	for row := range lines {
		lines[row] = s.Line(row)
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// Find returns where a text is first, in one line from left to right.
func (s *Screen) Find(text string) (row, col int, found bool) {
	for row := range s.rows {
		cells, col := s.row(row), 0
		at := strings.Index(textOf(cells), text)
		if at < 0 {
			continue
		}
		for at >= len(cells[col].Text) {
			at -= len(cells[col].Text)
			col++
		}
		return row, col, true
	}
	return 0, 0, false
}

// Contains says whether a text is on the screen, in one line or, with "\n" in it,
// in several. Blanks at the end of a line do not count.
func (s *Screen) Contains(text string) bool {
	return strings.Contains(s.String(), text)
}

// snapshot returns the screen as it is now.
func (e *emulator) snapshot() *Screen {
	e.draw()
	s := &Screen{rows: e.rows, cols: e.cols, cells: make([]Cell, e.rows*e.cols), title: e.title}
	at := e.vt.CursorPosition()
	s.cursor = Cursor{Row: min(max(at.Y, 0), e.rows-1), Col: min(max(at.X, 0), e.cols-1), Hidden: e.cursorHidden}
	for row := range s.rows {
		cells := s.row(row)
		for col := range cells {
			cells[col] = cellOf(e.vt.CellAt(col, row))
		}
		makeWhole(cells)
	}
	return s
}

func cellOf(c *uv.Cell) Cell {
	if c == nil {
		return Cell{Text: " ", Width: 1}
	}
	has := func(attribute uint8) bool { return c.Style.Attrs&attribute != 0 }
	return Cell{
		Text:      c.Content,
		Width:     c.Width,
		Fg:        colorOf(c.Style.Fg),
		Bg:        colorOf(c.Style.Bg),
		Bold:      has(uv.AttrBold),
		Faint:     has(uv.AttrFaint),
		Italic:    has(uv.AttrItalic),
		Underline: c.Style.Underline != uv.UnderlineNone,
		Blink:     has(uv.AttrBlink | uv.AttrRapidBlink),
		Reverse:   has(uv.AttrReverse),
		Concealed: has(uv.AttrConceal),
		StruckOut: has(uv.AttrStrikethrough),
	}
}

// makeWhole replaces halves of wide characters, of which a program has cut off the
// other half, by blanks. The right half gets the colors of the left one.
func makeWhole(cells []Cell) {
	for i := 0; i < len(cells); i++ {
		c := &cells[i]
		if c.Width < 2 {
			if c.Width == 0 || c.Text == "" {
				c.Text, c.Width = " ", 1
			}
			continue
		}
		end := i + c.Width
		whole := end <= len(cells)
		for right := i + 1; whole && right < end; right++ {
			whole = cells[right].Width == 0
		}
		if !whole {
			c.Text, c.Width = " ", 1
			continue
		}
		for i++; i < end; i++ {
			cells[i] = *c
			cells[i].Text, cells[i].Width = "", 0
		}
		i--
	}
}
