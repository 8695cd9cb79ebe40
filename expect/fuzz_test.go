package expect_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/netrunner-go/netrunner/expect"
)

// Whatever a program writes, the emulator survives it, and the screen and the text
// do not depend on the pieces it comes in, on who looks meanwhile, and on what is
// not drawn because it has scrolled off.
func FuzzOutput(f *testing.F) {
	for _, output := range []string{
		"hello\r\n\x1b[31mworld\x1b[0m",
		"中文\x1b[1;2Hx\r\n👩\u200d👩\u200d👧e\u0301❤\ufe0f\u0301",
		"\x1b[2;3r\x1b[?6h\x1b[5;5H\x1bM\x1bD\x1bE\x1b[3L\x1b[2M\x1b[4S\x1b[4T",
		"\x1b[?69h\x1b[2;4s\x1b[@\x1b[P\x1b[X\x1b[3b\x1b[1J\x1b[1K",
		"\x1b7\x1b[?1049h\x1b[2J\x1b[?25l\x1b8\x1b[?1049l\x1bc",
		"\x1b]0;✓\a\x1b]10;?\a\x1b]8;;x\a\x1bP1$r\x1b\\",
		"\x1b(0\x1b)A\x0elq\x0fx\t\x1bH\x1b[3g\x1b[2I\x1b[Z",
		"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9\n10\n11\n\x1b[41m12\r\n13",
		"\x1b[?7l1234567890\x1b[?7h1234567890",
	} {
		f.Add([]byte(output), uint8(3), uint8(5), uint8(1))
	}
	f.Fuzz(func(t *testing.T, output []byte, rows, cols, size uint8) {
		checkOutput(t, output, int(rows)%8+1, int(cols)%10+1, int(size)%16+1)
	})
}

// The same with what programs do write.
func TestAnyOutput(t *testing.T) {
	token := rapid.OneOf(
		rapid.StringMatching(`[a-z ]{1,30}`),
		rapid.SampledFrom([]string{
			"中", "文字", "e\u0301", "\u0301", "❤", "\ufe0f", "👩", "\u200d", "🇩", "🇪", "한", "\u200b", "\u0600", "\xe4", "\xb8\xad",
			"\r\n", "\r\n", "\r\n\r\n\r\n\r\n\r\n", "\n", "\r", "\t", "\b", "\v", "\x0e", "\x0f", "\x00", "\x7f",
			"\x1b7", "\x1b8", "\x1bD", "\x1bE", "\x1bM", "\x1bH", "\x1bc", "\x1b(0", "\x1b(B", "\x1b)0", "\x1b)B", "\x1b=",
			"\x1b[?1049h", "\x1b[?1049l", "\x1b[?7h", "\x1b[?7l", "\x1b[?6h", "\x1b[?6l", "\x1b[?69h", "\x1b[?69l", "\x1b[20h", "\x1b[20l",
			"\x1b[m", "\x1b[41m", "\x1b[1;7m", "\x1b[38;5;208m", "\x1b[", "\x1b", "\x1b]0;x\a", "\x1b]0;", "\x1b[r", "\x1b[s", "\x1b[u",
		}),
		rapid.StringMatching(`\x1b\[([0-9]|1[0-9]|99999)?(;([0-9]|99))?[@A-HJ-MPSTXZ`+"`"+`abdefgrs]`),
	)
	rapid.Check(t, func(t *rapid.T) {
		output := strings.Join(rapid.SliceOfN(token, 1, 60).Draw(t, "output"), "")
		checkOutput(t, []byte(output), rapid.IntRange(1, 8).Draw(t, "rows"), rapid.IntRange(1, 12).Draw(t, "cols"), rapid.IntRange(1, 16).Draw(t, "size"))
	})
}

// checkOutput checks that it comes to the same in pieces.
func checkOutput(t rapid.TB, output []byte, rows, cols, size int) {
	whole, text, err := expect.Draw(rows, cols, 1<<20, [][]byte{output}, never)
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []struct {
		name    string
		undrawn int
		looked  func(int) bool
	}{
		{"never looked at", 1 << 20, never},
		{"sometimes looked at", 1 << 20, func(piece int) bool { return piece%3 == 0 }},
		{"drawn at once", 1, never},
	} {
		inPieces, textInPieces, err := expect.Draw(rows, cols, how.undrawn, pieces(string(output), size), how.looked)
		if err != nil {
			t.Fatal(err)
		}
		if text != textInPieces {
			t.Errorf("in pieces the text %q is %q", text, textInPieces)
		}
		if difference := differ(whole, inPieces); difference != "" {
			t.Errorf("in pieces, %s: %s", how.name, difference)
		}
	}
}
