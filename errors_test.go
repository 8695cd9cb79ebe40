package netrunner_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/netrunner-go/netrunner"
)

// What a command says, and what others have named their files, is shown so that it
// can only be read.
func TestErrorTextsDoNothingToATerminal(t *testing.T) {
	leaveNothing(t)
	for _, test := range []struct{ name, words, want string }{
		{"plain", "no such héro: 日本", ": no such héro: 日本"},
		{"clipboard", "\x1b]52;c;cm0gLXJm\a", `: "\x1b]52;c;cm0gLXJm\a"`},
		{"cleared screen", "fine\x1b[2J", `: "fine\x1b[2J"`},
		{"carriage return", "bad\rgood", `: "bad\rgood"`},
		{"C1 control", "\u009b2J", `: "\u009b2J"`},
		{"right to left", "\u202egpj.exe", `: "\u202egpj.exe"`},
		{"no width", "a\u200bb", `: "a\u200bb"`},
		{"no UTF-8", "a\xffb", `: "a\xffb"`},
		{"cut within a character", strings.Repeat("é", 128) + "é", ": " + strings.Repeat("é", 128)},
		{"cut one byte later", "x" + strings.Repeat("é", 128), ": x" + strings.Repeat("é", 127)},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := netrunner.Command("sh", "-c", `printf %s "$1" >&2; exit 3`, "sh", test.words).Run(testContext(t))
			var exit *netrunner.ExitError
			if !errors.As(err, &exit) || !strings.HasSuffix(err.Error(), "exit status 3"+test.want) {
				t.Errorf("%q, want it to end in %q", err, test.want)
			}
			if exit != nil && string(exit.Stderr) != test.words {
				t.Errorf("Stderr is %q, want the bytes as they came: %q", exit.Stderr, test.words)
			}
		})
	}
	escape := "\x1b[2J\u202e"
	for name, err := range map[string]error{
		"directory": func() error {
			cmd := netrunner.Command("true")
			cmd.Dir = filepath.Join(t.TempDir(), escape)
			return cmd.Run(testContext(t))
		}(),
		"program":   netrunner.Command("/no/" + escape).Run(testContext(t)),
		"not found": netrunner.Command("no" + escape).Run(testContext(t)),
		"reader": func() error {
			cmd := netrunner.Command("cat")
			cmd.Stdin = failingReader{&os.PathError{Op: "read", Path: escape, Err: os.ErrInvalid}}
			return cmd.Run(testContext(t))
		}(),
		"reader of a command that fails": func() error {
			cmd := netrunner.Command("sh", "-c", "cat; exit 1")
			cmd.Stdin = failingReader{&os.PathError{Op: "read", Path: escape, Err: os.ErrInvalid}}
			return cmd.Run(testContext(t))
		}(),
	} {
		if err == nil || strings.ContainsAny(err.Error(), "\x1b\u202e") {
			t.Errorf("%s: %q, want an error without control and format characters", name, err)
		}
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }
