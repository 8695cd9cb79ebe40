package ttymodes_test

import (
	"bytes"
	"testing"

	"github.com/netrunner-go/netrunner/internal/ttymodes"
)

func TestModes(t *testing.T) {
	for _, test := range []struct{ name, written, suspend, resume string }{
		{"nothing", "plain text\x1b[31mred", "", ""},
		{"an alternate screen", "\x1b[?1049h", "\x1b[?1049l\x1b[0m", "\x1b[?1049h\x1b[0m"},
		{"left again", "\x1b[?1049h\x1b[?1049l", "", ""},
		{"a hidden cursor", "\x1b[?25l", "\x1b[?25h\x1b[0m", "\x1b[?25l\x1b[0m"},
		{"shown again", "\x1b[?25l\x1b[?25h", "", ""},
		{"several at once", "\x1b[?1000;1006;2004h", "\x1b[?1000l\x1b[?1006l\x1b[?2004l\x1b[0m", "\x1b[?1000h\x1b[?1006h\x1b[?2004h\x1b[0m"},
		{"no private mode", "\x1b[4h\x1b[?1049x", "", ""},
		{"a number without end", "\x1b[?99999999999999999999h", "", ""},
		{"cut off by another", "\x1b[?10\x1b[?1049h", "\x1b[?1049l\x1b[0m", "\x1b[?1049h\x1b[0m"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for size := 1; size <= len(test.written); size++ { // torn in every way
				var out bytes.Buffer
				w := ttymodes.NewWriter(&out)
				for rest := []byte(test.written); len(rest) > 0; rest = rest[min(size, len(rest)):] {
					if _, err := w.Write(rest[:min(size, len(rest))]); err != nil {
						t.Fatal(err)
					}
				}
				if out.String() != test.written {
					t.Fatalf("it has written %q", out.String())
				}
				out.Reset()
				if w.Suspend(); out.String() != test.suspend {
					t.Errorf("suspended by %q, not %q", out.String(), test.suspend)
				}
				out.Reset()
				if w.Resume(); out.String() != test.resume {
					t.Errorf("resumed by %q, not %q", out.String(), test.resume)
				}
			}
		})
	}
}

func FuzzModes(f *testing.F) {
	f.Add([]byte("\x1b[?1049;25h\x1b[?"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		w := ttymodes.NewWriter(&out)
		if n, err := w.Write(b); n != len(b) || err != nil || !bytes.Equal(out.Bytes(), b) {
			t.Errorf("%d, %v, %q", n, err, out.Bytes())
		}
		w.Suspend()
		w.Resume()
	})
}
