package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
)

func newTestLog(to *bytes.Buffer) *lineLog {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	return &lineLog{to: to, source: "out", now: func() time.Time { return at }, writing: new(sync.Mutex)}
}

// logged returns what becomes of the chunks, with "| " or "+ " for the prefixes, on
// a terminal unless its width is 0.
func logged(t *testing.T, columns int, chunks ...string) string {
	t.Helper()
	var to bytes.Buffer
	l := newTestLog(&to)
	if columns > 0 {
		l.columns = func() int { return columns }
	}
	for _, chunk := range chunks {
		if n, err := l.Write([]byte(chunk)); n != len(chunk) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", chunk, n, err)
		}
	}
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("03:04:05.006 out │ ", "| ", "03:04:05.006 out ┆ ", "+ ").Replace(to.String())
}

func TestLogLines(t *testing.T) {
	full := strings.Repeat("x", maxLine)
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"a line", "a\n", "| a\n"},
		{"two lines", "a\nb\n", "| a\n| b\n"},
		{"an empty line", "\n", "| \n"},
		{"empty lines between", "a\n\n\nb\n", "| a\n| \n| \n| b\n"},
		{"no end", "a", "| a\n"},
		{"no end of the last", "a\nb", "| a\n| b\n"},
		{"line ends of two bytes", "a\r\nb\r\n", "| a\n| b\n"},
		{"an empty one of those", "a\r\n\r\nb\r\n", "| a\n| \n| b\n"},
		{"one too many", "a\r\r\nb\n", "| a\n| b\n"},
		{"only an empty one", "\r\n", "| \n"},
		{"a progress bar", "1%\r2%\r100%\ndone\n", "| 1%\n| 2%\n| 100%\n| done\n"},
		{"one that begins by a return", "\r1%\r2%\n", "| 1%\n| 2%\n"},
		{"one that ends by a return", "1%\r", "| 1%\n"},
		{"a return alone", "\r", ""},
		{"just not too long", full + "\nb\n", "| " + full + "\n| b\n"},
		{"too long", full + "y\nb\n", "| " + full + "\n+ y\n| b\n"},
		{"twice too long", full + full, "| " + full + "\n+ " + full + "\n"},
		{"cut before a character", full[1:] + "äb\n", "| " + full[1:] + "\n+ äb\n"},
		{"cut before a long one", full[3:] + "\U0001f600b\n", "| " + full[3:] + "\n+ \U0001f600b\n"},
		{"cut after a character", full[2:] + "äb\n", "| " + full[2:] + "ä\n+ b\n"},
		{"not UTF-8", "\xff\xc3\n\x80", `| \xff\xc3` + "\n" + `| \x80` + "\n"},
		{"escape sequences and NUL", "\x1b[2J\x00\x07\n", `| \x1b[2J\x00\x07` + "\n"},
	} {
		if got := logged(t, 0, test.text); got != test.want {
			t.Errorf("%s: %.200q, want %.200q", test.name, got, test.want)
		}
		if got := logged(t, 0, strings.Split(test.text, "")...); got != test.want {
			t.Errorf("%s, in characters: %.200q, want %.200q", test.name, got, test.want)
		}
	}
}

// What the command has written is text, wherever it goes.
func TestLogShowsText(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"text", "grün\t│ 世界 \U0001f600 e\u0301 a\u00a0b", "grün\t│ 世界 \U0001f600 e\u0301 a\u00a0b"},
		{"colors", "\x1b[1;31mred\x1b[0m", `\x1b[1;31mred\x1b[0m`},
		{"concealed", "\x1b[8mhidden", `\x1b[8mhidden`},
		{"as black as its ground", "\x1b[30;40mhidden", `\x1b[30;40mhidden`},
		{"the screen cleared", "a\x1b[2Jb", `a\x1b[2Jb`},
		{"the line before", "\x1b[1A\x1b[2K", `\x1b[1A\x1b[2K`},
		{"a title", "\x1b]0;title\x07", `\x1b]0;title\x07`},
		{"the clipboard", "\x1b]52;c;YQ==\x1b\\", `\x1b]52;c;YQ==\x1b\`},
		{"a question", "\x1b[>4;2m", `\x1b[>4;2m`},
		{"an escape alone", "\x1b", `\x1b`},
		{"controls", "\x00\b\v\f\x7f", `\x00\x08\x0b\x0c\x7f`},
		{"controls of eight bits", "\x9b2J\u009b2J\u0085", `\x9b2J\u009b2J\u0085`},
		{"not UTF-8", "\xff\xe4\xb8", `\xff\xe4\xb8`},
		{"half a surrogate pair", "\xed\xa0\x80", `\xed\xa0\x80`},
		{"the replacement character", "\ufffd", "\ufffd"},
		{"from right to left", "\u202eevil\u202c \u2066x\u2069 \u200f", `\u202eevil\u202c \u2066x\u2069 \u200f`},
		{"no width", "a\u200bb\u200dc\u2060d\ufeffe\u00adf", `a\u200bb\u200dc\u2060d\ufeffe\u00adf`},
		{"other ends of lines", "a\u2028b\u2029c", `a\u2028b\u2029c`},
		{"blank letters", "\u3164\u115f\uffa0\u034f", `\u3164\u115f\uffa0\u034f`},
		{"tags", "\U000e0041", `\U000e0041`},
		{"nobody knows what", "\ue000\U0010fffd", `\ue000\U0010fffd`},
	} {
		for _, columns := range []int{0, 1000} {
			if got, want := logged(t, columns, test.text+"\n"), "| "+test.want+"\n"; got != want {
				t.Errorf("%s, on %d columns: %q, want %q", test.name, columns, got, want)
			}
		}
	}
}

// On a terminal no row begins with what the command has written. How wide text is
// says a table that is not ours.
func TestLogRowsAreNotWrapped(t *testing.T) {
	const prefix = "03:04:05.006 out | " // the bars have room for two columns
	pieces := []string{"a", "ä", "\t", "世", "\U0001f600", "e\u0301", "\xff", "\x1b[2J", "\u202e", strings.Repeat("x", 100), strings.Repeat(" ", 61)}
	const seed = 11
	random := rand.New(rand.NewPCG(seed, seed))
	for range 2000 {
		var text strings.Builder
		for range random.IntN(30) {
			text.WriteString(pieces[random.IntN(len(pieces))])
		}
		columns := len(prefix) + 4 + random.IntN(100)
		got := logged(t, columns, text.String()+"\n")
		for i, row := range strings.Split(strings.TrimSuffix(got, "\n"), "\n") {
			begin := "+ "
			if i == 0 {
				begin = "| "
			}
			if !strings.HasPrefix(row, begin) {
				t.Fatalf("row %d is %q, of %q", i, row, got)
			}
			width := len(prefix) + ansi.StringWidth(strings.ReplaceAll(row[len(begin):], "\t", strings.Repeat(" ", tabWidth)))
			if width >= columns && row[len(begin):] != "\t" { // a tab stays in its row
				t.Fatalf("row %d has %d columns of %d: %q", i, width, columns, row)
			}
		}
		// All of it is there.
		if got, want := strings.NewReplacer("| ", "", "+ ", "", "\n", "").Replace(got), shown(text.String()); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	// One that is too narrow for anything gets all of it too, and an end.
	if got := logged(t, 3, "世\tb\n"); got != "| 世\n+ \t\n+ b\n" {
		t.Errorf("%q", got)
	}
}

// However the stream is cut into parts, the log is the same; and without its
// prefixes it is the stream.
func TestLogInParts(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	pieces := []string{"a", "ä", "\n", "\r", "\r\n", "\xff", "\x1b[1m", strings.Repeat("x", maxLine-2), strings.Repeat("世", 9000)}
	for range 200 {
		var text strings.Builder
		for range random.IntN(20) {
			text.WriteString(pieces[random.IntN(len(pieces))])
		}
		var parts []string
		for rest := text.String(); rest != ""; {
			n := 1 + random.IntN(len(rest))
			parts, rest = append(parts, rest[:n]), rest[n:]
		}
		whole := logged(t, 0, text.String())
		if got := logged(t, 0, parts...); got != whole {
			t.Fatalf("in parts %.300q: %.300q, whole: %.300q", parts, got, whole)
		}
		var back strings.Builder
		for line := range strings.Lines(whole) {
			if len(line) > len("| \n")+maxLine*len(`\xff`) {
				t.Fatalf("a line of %d bytes", len(line))
			}
			if strings.HasPrefix(line, "| ") {
				back.WriteByte('\n')
			}
			back.WriteString(strings.TrimSuffix(line[2:], "\n"))
		}
		drop := strings.NewReplacer("\r", "", "\n", "")
		if got, want := drop.Replace(back.String()), shown(drop.Replace(text.String())); got != want {
			t.Fatalf("%.300q became %.300q", want, got)
		}
	}
}

func TestLogColors(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, true},
		{map[string]string{"NO_COLOR": ""}, true},
		{map[string]string{"NO_COLOR": "1"}, false},
		{map[string]string{"NO_COLOR": "0"}, false},
		{map[string]string{"TERM": "dumb"}, false},
		{map[string]string{"TERM": "xterm"}, true},
	} {
		if got := colorsWanted(func(name string) string { return test.env[name] }); got != test.want {
			t.Errorf("%v: %v, want %v", test.env, got, test.want)
		}
	}
	var to bytes.Buffer
	l := newTestLog(&to)
	l.color = red
	_, _ = l.Write([]byte("text\n"))
	if want := "\x1b[31m03:04:05.006 out │\x1b[0m text\n"; to.String() != want {
		t.Errorf("%q, want %q", to.String(), want)
	}
}

type brokenWriter struct{ calls int }

var errBroken = errors.New("broken")

func (w *brokenWriter) Write([]byte) (int, error) {
	w.calls++
	return 0, errBroken
}

func TestLogThatCannotBeWritten(t *testing.T) {
	var to brokenWriter
	l := newTestLog(nil)
	l.to = &to
	if _, err := l.Write([]byte("a")); err != nil {
		t.Errorf("nothing was to be written: %v", err)
	}
	if _, err := l.Write([]byte("\nb")); !errors.Is(err, errBroken) {
		t.Errorf("Write: %v", err)
	}
	// It was said, and is not tried again.
	if err := l.finish(); err != nil || to.calls != 1 {
		t.Errorf("finish: %v after %d writes", err, to.calls)
	}
	l = newTestLog(nil)
	l.to = &to
	_, _ = l.Write([]byte("a"))
	if err := l.finish(); !errors.Is(err, errBroken) {
		t.Errorf("finish: %v", err)
	}
}

// What is held in memory does not grow with a line, nor with a burst of empty ones.
func TestLogIsBounded(t *testing.T) {
	var to bytes.Buffer
	l := newTestLog(&to)
	chunk := bytes.Repeat([]byte("x"), 32<<10)
	for range 100 {
		_, _ = l.Write(chunk)
		to.Reset()
	}
	for range 100 {
		_, _ = l.Write(bytes.Repeat([]byte("\n"), 32<<10))
		to.Reset()
	}
	if cap(l.line) > 2*maxLine || cap(l.pending) > 4*maxLine {
		t.Errorf("%d and %d bytes are held", cap(l.line), cap(l.pending))
	}
}

func BenchmarkLog(b *testing.B) {
	for _, test := range []struct {
		name     string
		terminal bool
	}{{"file", false}, {"terminal", true}} {
		b.Run(test.name, func(b *testing.B) {
			var to bytes.Buffer
			l := newTestLog(&to)
			if test.terminal {
				l.columns = func() int { return 80 }
			}
			chunk := bytes.Repeat([]byte("compiling a file of forty characters ok\n"), 800)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = l.Write(chunk)
				to.Reset()
			}
		})
	}
}
