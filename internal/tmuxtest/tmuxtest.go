// Package tmuxtest gives tests a real terminal, and what a user sees of it.
package tmuxtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// Terminal is an interactive bash in a tmux.
type Terminal struct {
	t      *testing.T
	socket string
}

// New opens a terminal of 30 lines and 100 columns, whose prompt is "prompt> ", and
// which is gone with the test.
func New(t *testing.T) *Terminal {
	t.Helper()
	for _, name := range []string{"tmux", "bash"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("cannot open a terminal without %s: %v", name, err)
		}
	}
	// A socket's path has to be short (man 7 unix), which that of a test need not be.
	dir, err := os.MkdirTemp("", "nr")
	if err != nil {
		t.Fatal(err)
	}
	term := &Terminal{t, filepath.Join(dir, "tmux")}
	t.Cleanup(func() {
		_ = term.Tmux("kill-server").Run() // the test may have done it
		_ = os.RemoveAll(dir)
	})
	out, err := term.Tmux("-f", os.DevNull, "new-session", "-d", "-x", "100", "-y", "30",
		"PS1='prompt> ' bash --norc --noprofile -i").CombinedOutput()
	if err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	term.Expect(`^prompt>`)
	return term
}

// Tmux is a command of its tmux.
func (term *Terminal) Tmux(args ...string) *exec.Cmd {
	cmd := exec.Command("tmux", append([]string{"-S", term.socket}, args...)...)
	cmd.Env = append(os.Environ(), "TMUX=", "LC_ALL=C.UTF-8")
	return cmd
}

// Keys presses keys by tmux's names for them: C-c, Enter.
func (term *Terminal) Keys(names ...string) {
	term.t.Helper()
	if out, err := term.Tmux(append([]string{"send-keys"}, names...)...).CombinedOutput(); err != nil {
		term.t.Fatalf("tmux send-keys: %v: %s", err, out)
	}
}

// Enter types a line.
func (term *Terminal) Enter(line string) {
	term.t.Helper()
	term.Keys("-l", line)
	term.Keys("Enter")
}

// Expect waits until lines of the screen match.
func (term *Terminal) Expect(lines string) {
	term.t.Helper()
	want := regexp.MustCompile("(?m)" + lines)
	var screen string
	found := proctest.Eventually(term.t, strconv.Quote(lines)+" on the screen", func() bool {
		screen = term.Screen()
		return want.MatchString(screen)
	})
	if !found {
		term.t.Fatalf("the screen:\n%s", screen)
	}
}

// Screen is what is to be seen.
func (term *Terminal) Screen() string {
	term.t.Helper()
	out, err := term.Tmux("capture-pane", "-p").Output()
	if err != nil {
		term.t.Fatalf("tmux capture-pane: %v", err)
	}
	return string(out)
}

// Script writes a shell script, so that what is typed stays short and is never
// taken for what it prints.
func Script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), proctest.Marker())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
