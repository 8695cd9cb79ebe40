package expect_test

import (
	"strings"
	"testing"

	"github.com/netrunner-go/netrunner/expect"
)

func TestCells(t *testing.T) {
	screen := draw(t, 3, 20, "\x1b[1;3;4;31;48;5;208ma\x1b[0;7;2;5;8;9;92;44mb\x1b[0;38;2;1;2;255mc\x1b[0md\x1b[4:3me\x1b[0;38:2::9:8:7mf\x1b[0m中\x1b[?25l")
	for col, want := range []expect.Cell{
		{Text: "a", Width: 1, Bold: true, Italic: true, Underline: true, Fg: expect.Palette(1), Bg: expect.Palette(208)},
		{Text: "b", Width: 1, Reverse: true, Faint: true, Blink: true, Concealed: true, StruckOut: true, Fg: expect.Palette(10), Bg: expect.Palette(4)},
		{Text: "c", Width: 1, Fg: expect.RGB(1, 2, 255)},
		{Text: "d", Width: 1},
		{Text: "e", Width: 1, Underline: true},
		{Text: "f", Width: 1, Fg: expect.RGB(9, 8, 7)},
		{Text: "中", Width: 2},
		{Text: "", Width: 0},
		{Text: " ", Width: 1},
	} {
		if got := screen.Cell(0, col); got != want {
			t.Errorf("column %d is %+v, want %+v", col, got, want)
		}
	}
	if want := (expect.Cursor{Row: 0, Col: 8, Hidden: true}); screen.Cursor() != want {
		t.Errorf("the cursor is %+v, want %+v", screen.Cursor(), want)
	}
	for _, outside := range [][2]int{{-1, 0}, {0, -1}, {3, 0}, {0, 20}} {
		if got := screen.Cell(outside[0], outside[1]); got != (expect.Cell{}) {
			t.Errorf("at %v is %+v", outside, got)
		}
	}
}

// Of a wide character that was cut in two neither half is left.
func TestHalvesOfWideCharacters(t *testing.T) {
	for name, output := range map[string]string{
		"left written over":   "中文\x1b[1;1Hx",
		"right written over":  "中文\x1b[1;2Hx",
		"both written over":   "中文\x1b[1;2Hxy",
		"cut by insertion":    "中文\x1b[1;2H\x1b[@",
		"cut by deletion":     "中文\x1b[1;2H\x1b[P",
		"cut at the end":      "12345678中\x1b[1;1H\x1b[@",
		"erased in its midst": "中文\x1b[1;2H\x1b[X",
	} {
		t.Run(name, func(t *testing.T) {
			screen := draw(t, 1, 10, output)
			for col := range 10 {
				cell := screen.Cell(0, col)
				half := cell.Width == 2 && screen.Cell(0, col+1).Width != 0 ||
					cell.Width == 0 && screen.Cell(0, col-1).Width != 2
				if half || cell.Width == 1 && cell.Text == "" {
					t.Errorf("at column %d is %+v, in %q", col, cell, screen)
				}
			}
		})
	}
}

func TestColorString(t *testing.T) {
	for want, color := range map[string]expect.Color{
		"default": {}, "red": expect.Palette(1), "bright white": expect.Palette(15), "palette 208": expect.Palette(208), "#01ff00": expect.RGB(1, 255, 0),
	} {
		if color.String() != want {
			t.Errorf("%q, want %q", color, want)
		}
	}
}

func TestFind(t *testing.T) {
	screen := draw(t, 4, 12, "中文 menu\r\n  menu\x1b[3;12Hx\r\n12345e\u0301x")
	for _, test := range []struct {
		text     string
		row, col int
		found    bool
	}{
		{"menu", 0, 5, true},
		{"  menu", 1, 0, true},
		{"文", 0, 2, true},
		{"x", 2, 11, true},
		{"e\u0301x", 3, 5, true},
		{"", 0, 0, true},
		{"nothing", 0, 0, false},
		{"menu\n", 0, 0, false},
	} {
		if row, col, found := screen.Find(test.text); row != test.row || col != test.col || found != test.found {
			t.Errorf("%q: %d,%d %v", test.text, row, col, found)
		}
	}
	for text, want := range map[string]bool{"menu\n  menu\n": true, "menu ": false, "": true, "x\n123": true} {
		if screen.Contains(text) != want {
			t.Errorf("%q on the screen: %v", text, !want)
		}
	}
	if screen.Line(1) != "  menu" || screen.Line(-1) != "" || screen.Line(4) != "" {
		t.Errorf("the lines are %q", screen)
	}
}

func TestTitle(t *testing.T) {
	for output, want := range map[string]string{
		"\x1b]0;a;b;c\a":        "a;b;c",
		"\x1b]2;✓ done\x1b\\":   "✓ done",
		"\x1b]1;icon\a":         "",
		"\x1b]2;\xff\a":         "\ufffd",
		"\x1b]2;one\a\x1b]2;\a": "",
		"\x1b]2;cut off\x1b[m":  "",
		"\x1b]2;" + strings.Repeat("long", 2000) + "\a": "",
	} {
		if got := draw(t, 1, 5, output).Title(); got != want {
			t.Errorf("after %.30q the title is %q, want %q", output, got, want)
		}
	}
}

// The emulator is fed pieces of characters that are together 100 times too long.
func TestLongCharacter(t *testing.T) {
	screen := draw(t, 1, 5, "e"+strings.Repeat("\u0301", 500)+"x")
	if cell := screen.Cell(0, 0); len(cell.Text) > 64 || !strings.HasPrefix(cell.Text, "e\u0301") {
		t.Errorf("a cell has %d bytes", len(cell.Text))
	}
	if screen.Cell(0, 1).Text != "x" {
		t.Errorf("the screen is %q", screen)
	}
}
