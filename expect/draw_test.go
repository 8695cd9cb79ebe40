package expect_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/netrunner-go/netrunner/expect"
)

// draw returns the screen after output that comes at once, and checks that nothing
// of it depends on the pieces it comes in, nor on who looks at it meanwhile.
func draw(t testing.TB, rows, cols int, output string) *expect.Screen {
	t.Helper()
	screen, text, err := expect.Draw(rows, cols, 0, [][]byte{[]byte(output)}, never)
	if err != nil {
		t.Fatal(err)
	}
	var bytes [][]byte
	for i := range len(output) {
		bytes = append(bytes, []byte{output[i]})
	}
	for name, looked := range map[string]func(int) bool{"never": never, "always": func(int) bool { return true }} {
		inBytes, textInBytes, err := expect.Draw(rows, cols, 0, bytes, looked)
		if err != nil {
			t.Fatal(err)
		}
		if text != textInBytes {
			t.Errorf("the text %q is %q when it comes byte by byte", text, textInBytes)
		}
		if difference := differ(screen, inBytes); difference != "" {
			t.Errorf("%q byte by byte, looked at %s: %s", output, name, difference)
		}
	}
	return screen
}

func never(int) bool { return false }

// differ says what is different in two screens.
func differ(a, b *expect.Screen) string {
	if a.Cursor() != b.Cursor() {
		return fmt.Sprintf("cursors %v and %v, in\n%s\n%s", a.Cursor(), b.Cursor(), a.Box(), b.Box())
	}
	if a.Title() != b.Title() {
		return fmt.Sprintf("titles %q and %q", a.Title(), b.Title())
	}
	rows, cols := a.Size()
	for row := range rows {
		for col := range cols {
			if a, b := a.Cell(row, col), b.Cell(row, col); a != b {
				return fmt.Sprintf("at %d,%d: %+v and %+v", row, col, a, b)
			}
		}
	}
	return ""
}

func TestDraw(t *testing.T) {
	for _, test := range []struct{ name, output, screen string }{
		{"lines", "one\r\ntwo\r\n", "one\ntwo"},
		{"a line that wraps", "12345678", "123456\n78"},
		{"scrolled", "1\r\n2\r\n3\r\n4\r\n5", "2\n3\n4\n5"},
		{"a wide character without room", "12345中6", "12345\n中6"},
		{"a wide character with just enough", "1234中56", "1234中\n56"},
		{"wide characters that wrap", "中文字符集合", "中文字\n符集合"},
		{"after an empty column", "12345\x1b[31m\x1b[0m中", "12345\n中"},
		{"a wide character after a full line", "123456中", "123456\n中"},
		{"marks", "e\u0301o\u0308", "e\u0301o\u0308"},
		{"marks alone", "\u0301a", "a"},
		{"flags", "🇩🇪🇫🇷x", "🇩🇪🇫🇷x"},
		{"a family", "👩\u200d👩\u200d👧x", "👩\u200d👩\u200d👧x"},
		{"a mark that widens", "❤\ufe0fx", "❤\ufe0fx"},
		{"a mark that widens the last", "12345❤\ufe0fx", "12345\n❤\ufe0fx"},
		{"broken UTF-8", "a\xe2\x1b[31mb\xff\xc3", "a\ufffdb\ufffd\ufffd"},
		{"8-bit control characters", "a\x9b1mb\u009b1mc", "a\ufffd1mb1\nmc"},
		{"NULs and other noise", "a\x00\x07\x05\x7fb", "ab"},
		{"a title with UTF-8", "\x1b]0;✓ done\aok", "ok"},
		{"strings that mean nothing", "\x1bPq#0\x1b\\\x1b_x\x1b\\\x1b^y\x1b\\\x1bXz\x1b\\ok", "ok"},
		{"a string that is cut off", "\x1b]0;title\x1b[31mok", "ok"},
		{"CAN in a sequence", "\x1b[3\x18ok", "ok"},
		{"a newline in a sequence", "a\x1b[3\n1mb", "a\n b"},
		{"a sequence that makes no sense", "\x1b[1 2mok\x1b[1?hok", "okok"},
		{"the cursor restored", "123456\x1b7\x1b[1;1Hab\x1b8", "ab3456"},
		{"restored from the last column", "ab\x1b7\x1b[2;1H123456\x1b8c", "abc\n123456"},
		{"restored (SCO)", "ab\x1b[s\x1b[3;1Hx\x1b[uc", "abc\n\nx"},
		{"restored from the last column (SCO)", "ab\x1b[s\x1b[2;1H123456\x1b[uc", "abc\n123456"},
		{"next line", "ab\x1bEc", "ab\nc"},
		{"another screen", "main\x1b[?1049halt\x1b[?1049l!", "main!"},
		{"another screen (47)", "main\x1b[?47halt", "    al\nt"},
		{"repeated", "a\x1b[3b|中\x1b[99999999999b", "中中中\n中中中\n中中中\n中"},
		{"lines by SO and SI", "\x1b)0\x0elqk\x0fq", "┌─┐q"},
		{"lines by their set", "\x1b(0lqk\x1b(Bq", "┌─┐q"},
		{"margins below the screen", "\x1b[2;99r\x1b[99;1Ha\r\nb\r\nc", "\na\nb\nc"},
		{"huge numbers", "\x1b[99999999999999999999CA\x1b[4294967297DB", "B    A"},
		{"huge counts", "ab\r\x1b[2147483647@\x1b[2147483647X\x1b[2147483647I\x1b[2147483647Z\x1b[2147483647P", ""},
		{"without wrapping", "\x1b[?7l1234567890", "123450"},
		{"erased at the end of a line", "123456\x1b[Kx", "12345x"},
		{"erased before the cursor", "123\r\n456\r\n789\x1b[2;2H\x1b[1J", "\n  6\n789"},
		{"another screen keeps the cursor", "ab\x1b[?1049hc", "  c"},
		{"a tab", "a\tb", "a    b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := draw(t, 4, 6, test.output).String(); got != test.screen {
				t.Errorf("%q is drawn as\n%s\nwant\n%s", test.output, got, test.screen)
			}
		})
	}
}

// What has scrolled off before anybody looks is not drawn. Nobody may see that.
func TestDrawSkips(t *testing.T) {
	lines := func(n int, end string) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "\x1b[3%dm%d\x1b[0m中文\x1b[4m%s", i%8, i, end)
		}
		return text.String()
	}
	for _, test := range []struct{ name, output string }{
		{"lines", lines(100, "\r\n")},
		{"lines without CR", lines(100, "\n")},
		{"lines after something below", "\x1b[5;1Hbelow\x1b[1;1H" + lines(100, "\r\n")},
		{"few lines after something below", "\x1b[5;1Hbelow\x1b[1;1H" + lines(6, "\r\n")},
		{"lines within margins", "top\x1b[2;4r" + lines(100, "\r\n")},
		{"lines after margins", "top\x1b[2;4r\x1b[1;5r" + lines(100, "\r\n")},
		{"lines after margins of another screen", "\x1b[2;4r\x1b[?1049h\x1b[r" + lines(50, "\r\n") + "\x1b[?1049l" + lines(50, "\r\n")},
		{"lines between side margins", "\x1b[?69h\x1b[2;5s" + lines(100, "\r\n")},
		{"long lines", strings.Repeat(lines(9, "")+"\r\n", 30)},
		{"a line of many screens", "top\r\n\x1b[3mab" + strings.Repeat("0123456789abc", 40) + "\x1b[0mend"},
		{"a line that ends with the screen", strings.Repeat("0123456789ab", 40) + "x"},
		{"a line of many screens within margins", "top\x1b[2;4r" + strings.Repeat("0123456789abc", 40)},
		{"a line of many screens without wrapping", "top\x1b[?7l" + strings.Repeat("0123456789abc", 40)},
		{"colors from before", "\x1b[41m" + strings.Repeat("x\r\n", 100)},
		{"colors that are kept", "\x1b[7;44m" + lines(3, "\r\n") + "\x1b[45m" + strings.Repeat("\x1b[1mx\r\n", 100)},
	} {
		t.Run(test.name, func(t *testing.T) {
			rows, cols := 5, 12
			drawn, _, err := expect.Draw(rows, cols, 1, pieces(test.output, 1), never)
			if err != nil {
				t.Fatal(err)
			}
			for _, undrawn := range []int{40, 400, 1 << 20} {
				skipped, _, err := expect.Draw(rows, cols, undrawn, [][]byte{[]byte(test.output)}, never)
				if err != nil {
					t.Fatal(err)
				}
				if difference := differ(drawn, skipped); difference != "" {
					t.Errorf("with at most %d undrawn: %s", undrawn, difference)
				}
			}
		})
	}
}

// pieces divides a text.
func pieces(text string, size int) (pieces [][]byte) {
	for b := []byte(text); len(b) > 0; {
		n := min(size, len(b))
		pieces = append(pieces, b[:n])
		b = b[n:]
	}
	return pieces
}
