package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
	"github.com/netrunner-go/netrunner/internal/pty"
	"github.com/netrunner-go/netrunner/internal/tmuxtest"
	"github.com/netrunner-go/netrunner/internal/ttymodes"
)

// netrunner run --pty at a real terminal.

func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("cannot drive %s: %v", name, err)
	}
}

func TestPTYShell(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	term.Enter("PS1='inner> ' netrunner run -t -- bash --norc --noprofile -i")
	term.Expect(`^inner>`)
	term.Enter("stty size")
	term.Expect(`^30 100\n`)
	// Its jobs are its own.
	term.Enter("sh " + tmuxtest.Script(t, "echo started; exec cat"))
	term.Expect(`^started`)
	term.Keys("C-z")
	term.Expect(`Stopped +sh`)
	term.Enter("fg")
	term.Keys("C-c")
	term.Expect(`\^C\n`)
	// The window's size is followed.
	if out, err := term.Tmux("resize-window", "-x", "90", "-y", "20").CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	term.Enter("clear; stty size")
	term.Expect(`^20 90\n`)
	term.Enter("exit 8")
	term.Expect(`^prompt>`)
	term.Enter("echo status $?; stty -a | grep -o ' echo '")
	term.Expect(`^status 8\n echo`)
}

func TestPTYEditorSuspendAndResume(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ program, args, first, last string }{
		{"vim", "-u NONE -N", "~\n~", ":q!"},
		{"less", "", `line 1\nline 2`, "q"},
	} {
		t.Run(test.program, func(t *testing.T) {
			needProgram(t, test.program)
			t.Parallel()
			term := tmuxtest.New(t)
			var lines strings.Builder
			for i := 1; i < 200; i++ {
				fmt.Fprintf(&lines, "line %d\n", i)
			}
			path := filepath.Join(t.TempDir(), "text")
			if test.program == "less" {
				if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			term.Enter("echo before")
			term.Expect(`^before`)
			term.Enter("netrunner run -t -- " + test.program + " " + test.args + " " + path)
			term.Expect(test.first)
			term.Keys("C-z")
			term.Expect(`^before\n(.*\n)*.*Stopped +netrunner run`)
			term.Enter("echo in the shell")
			term.Expect(`^in the shell`)
			term.Enter("fg")
			term.Expect(`\A(.*\n)?` + test.first)
			term.Enter(test.last)
			term.Expect(`^prompt>.*\n*\z`)
			term.Enter("echo status $?")
			term.Expect(`^status 0`)
		})
	}
}

// It is killed while it is suspended: what continues is only netrunner's end.
func TestPTYKilledWhileSuspended(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	marker := proctest.Marker()
	term.Enter("echo before")
	term.Enter("netrunner run -t -- sh " + tmuxtest.Script(t, `printf '\033[?1049hother screen'; exec sleep `+marker))
	term.Expect(`^other screen`)
	term.Keys("C-z")
	term.Expect(`Stopped +netrunner run`)
	for _, p := range proctest.Marked(marker) {
		if p.Name == "sleep" {
			if err := unix.Kill(p.PID, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	term.Enter("fg")
	term.Expect(`^prompt> fg\n(.*\n)*prompt>.*\n*\z`)
	term.Enter("clear; stty -a | grep -o ' icanon '")
	term.Expect(`^ icanon`)
	if out, err := term.Tmux("display-message", "-p", "#{alternate_on}").CombinedOutput(); string(out) != "0\n" || err != nil {
		t.Errorf("alternate screen: %q, %v", out, err)
	}
}

// Whatever still wants the keys when the command has ended does not get them: the
// terminal has been given back.
func TestPTYIsGivenBackOnce(t *testing.T) {
	pair, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	modes := func() unix.Termios {
		modes, err := unix.IoctlGetTermios(pair.Slave, unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return *modes
	}
	var screen bytes.Buffer
	w := &window{in: pair.Master, out: ttymodes.NewWriter(&screen), finished: make(chan struct{})}
	before := modes()
	if err := w.raw(); err != nil || modes() == before {
		t.Fatalf("not raw: %v", err)
	}
	if _, err := io.WriteString(w.out, "\x1b[?1049h"); err != nil {
		t.Fatal(err)
	}
	w.restore(false)
	if modes() != before {
		t.Error("it is not as it was while suspended")
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	screen.Reset()
	w.restore(false) // of one that suspends too late
	if err := w.raw(); err == nil || modes() != before || screen.Len() > 0 {
		t.Errorf("it is raw again: %v, %q", err, screen.String())
	}
}

// The window is closed: all of it goes.
func TestPTYCloses(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	marker := proctest.Marker()
	term.Enter("netrunner run -t -- bash --norc --noprofile -i -c 'echo rea''dy; sleep " + marker + "; :'")
	term.Expect(`^ready`)
	netrunner, below := netrunnerOf(t, marker)
	await := watch(t, append(below, netrunner))
	if out, err := term.Tmux("kill-server").CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	await(4 * time.Second) // without the grace: the command's terminal hangs up too
}

// Whatever ends the command, the terminal is as it was.
func TestPTYRestoresTheTerminal(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	marker := proctest.Marker()
	term.Enter("echo before")
	path := tmuxtest.Script(t, `stty raw -echo; printf '\033[?1049h\033[?25lother screen'; exec sleep `+marker)
	for _, signal := range []syscall.Signal{unix.SIGKILL, unix.SIGTERM} {
		term.Enter("netrunner run -t -- sh " + path)
		term.Expect(`^other screen`)
		var sleeper proctest.Process
		proctest.Eventually(t, "the command", func() bool {
			for _, p := range proctest.Marked(marker) {
				if p.Name == "sleep" {
					sleeper = p
				}
			}
			return sleeper.PID != 0
		})
		if err := unix.Kill(sleeper.PID, signal); err != nil {
			t.Fatal(err)
		}
		term.Expect(`^before\n(.*\n)*prompt>.*\n*\z`)
		term.Enter("clear; stty -a | grep -o ' echo '")
		term.Expect(`^ echo`)
		term.Enter("clear; echo before")
		out, err := term.Tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}").CombinedOutput()
		if string(out) != "0 1\n" || err != nil {
			t.Errorf("alternate screen and cursor: %q, %v", out, err)
		}
	}
}

// Without a terminal on either side it has one all the same.
func TestPTYWithoutOne(t *testing.T) {
	cmd := command(t, "netrunner", "run", "-t", "--", "sh", "-c", "test -t 0 && test -t 1 && stty size; cat; exit 3")
	cmd.Stdin = strings.NewReader("typed\n")
	out, err := cmd.Output()
	if got := strings.ReplaceAll(string(out), "\r\n", "\n"); got != "24 80\ntyped\ntyped\n" && got != "typed\n24 80\ntyped\n" || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("%q, %v", out, err)
	}
}

// A recording is one that asciinema plays.
func TestPTYRecord(t *testing.T) {
	needProgram(t, "asciinema")
	path := filepath.Join(t.TempDir(), "session.cast")
	want, err := command(t, "netrunner", "run", "--record", path, "--", "sh", "-c", `printf '\033[1mbold\033[0m höhe\n'; tput cols`).Output()
	if err != nil {
		t.Fatal(err)
	}
	// It wants a terminal itself, and a locale.
	player := command(t, "netrunner", "run", "-t", "--env", "LC_ALL=C.UTF-8", "--", "sh", "-c", `asciinema cat "$0" >"$0".played`, path)
	if out, err := player.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	played, err := os.ReadFile(path + ".played")
	if string(played) != string(want) || !strings.Contains(string(want), "höhe\r\n80\r\n") || err != nil {
		t.Errorf("%q, not %q, %v", played, want, err)
	}
}
