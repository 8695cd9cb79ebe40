package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// terminal is an interactive bash in a tmux: a real terminal, and what a user sees of it.
type terminal struct {
	t      *testing.T
	socket string
}

func newTerminal(t *testing.T) *terminal {
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
	term := &terminal{t, filepath.Join(dir, "tmux")}
	t.Cleanup(func() {
		_ = term.tmux("kill-server").Run() // the test may have done it
		_ = os.RemoveAll(dir)
	})
	out, err := term.tmux("-f", os.DevNull, "new-session", "-d", "-x", "100", "-y", "30",
		"PS1='prompt> ' bash --norc --noprofile -i").CombinedOutput()
	if err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	term.expect(`^prompt>`)
	return term
}

func (term *terminal) tmux(args ...string) *exec.Cmd {
	cmd := exec.Command("tmux", append([]string{"-S", term.socket}, args...)...)
	cmd.Env = append(os.Environ(), "TMUX=", "LC_ALL=C.UTF-8")
	return cmd
}

// keys presses keys by tmux's names for them: C-c, Enter.
func (term *terminal) keys(names ...string) {
	term.t.Helper()
	if out, err := term.tmux(append([]string{"send-keys"}, names...)...).CombinedOutput(); err != nil {
		term.t.Fatalf("tmux send-keys: %v: %s", err, out)
	}
}

// enter types a line.
func (term *terminal) enter(line string) {
	term.t.Helper()
	term.keys("-l", line)
	term.keys("Enter")
}

// expect waits until lines of the screen match.
func (term *terminal) expect(lines string) {
	term.t.Helper()
	want := regexp.MustCompile("(?m)" + lines)
	var screen string
	found := proctest.Eventually(term.t, strconv.Quote(lines)+" on the screen", func() bool {
		screen = term.screen()
		return want.MatchString(screen)
	})
	if !found {
		term.t.Fatalf("the screen:\n%s", screen)
	}
}

func (term *terminal) screen() string {
	term.t.Helper()
	out, err := term.tmux("capture-pane", "-p").Output()
	if err != nil {
		term.t.Fatalf("tmux capture-pane: %v", err)
	}
	return string(out)
}

// netrunner finds the netrunner that runs a marked command, and all below it.
func (term *terminal) netrunner(marker string) (netrunner proctest.Process, below []proctest.Process) {
	term.t.Helper()
	netrunner, ok := program(proctest.Marked(marker), "netrunner")
	if !ok {
		term.t.Fatalf("no netrunner among %v", proctest.Marked(marker))
	}
	return netrunner, proctest.Descendants(netrunner.PID)
}

// script writes a shell script, so that what is typed stays short and is never
// taken for what it prints.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), proctest.Marker())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTerminalKeysReachTheCommand(t *testing.T) {
	for _, test := range []struct{ key, signal string }{{"C-c", "INT"}, {`C-\`, "QUIT"}} {
		t.Run(test.signal, func(t *testing.T) {
			t.Parallel()
			term := newTerminal(t)
			path := script(t, `trap 'echo got `+test.signal+`' `+test.signal+`
echo ready
until read line && [ -n "$line" ]; do :; done
echo "read $line"
exit 5
`)
			term.enter("netrunner run -- sh " + path + "; echo status $?")
			term.expect(`^ready`)
			term.keys(test.key)
			term.expect(`got ` + test.signal)
			term.enter("on")
			term.expect(`^read on\nstatus 5\n`)
		})
	}
}

func TestTerminalInterruptEndsTheCommand(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	path := script(t, "echo ready\nexec sleep 1000\n")
	term.enter("netrunner run -- sh " + path + "; echo status $?")
	term.expect(`^ready`)
	term.keys("C-c")
	term.expect(`status 130\nprompt>`)
	// Nothing is said of it: the line before is what the terminal echoes.
	if strings.Contains(term.screen(), "netrunner: ") {
		t.Errorf("a message on the screen:\n%s", term.screen())
	}
}

func TestTerminalSuspendAndResume(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	path := script(t, "echo ready\nread line\necho \"read $line\"\nexit 6\n")
	marker := filepath.Base(path)
	term.enter("netrunner run -- sh " + path)
	term.expect(`^ready`)
	netrunner, below := term.netrunner(marker)
	command, ok := program(below, "sh")
	if !ok {
		t.Fatalf("no command among %v", below)
	}
	term.keys("C-z")
	term.expect(`Stopped +netrunner run`)
	for _, p := range []proctest.Process{netrunner, command} {
		if now, ok := proctest.Read(p.PID); !ok || now.State != 'T' {
			t.Errorf("not stopped: %v", now)
		}
	}
	term.enter("echo back in the shell")
	term.expect(`^back in the shell`)
	term.enter("fg")
	eventually(t, "the job to go on", func() bool {
		now, ok := proctest.Read(command.PID)
		return ok && now.State != 'T'
	})
	term.enter("again")
	term.expect(`^read again\nprompt>`)
	term.enter("echo status $?")
	term.expect(`^status 6`)
}

func TestTerminalPasswordPrompt(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	path := script(t, `stty -echo </dev/tty
printf 'Password: ' >/dev/tty
read word </dev/tty
stty echo </dev/tty
echo
echo "length ${#word}"
`)
	term.enter("netrunner run -- sh " + path)
	term.expect(`^Password:`)
	term.enter("geheim77")
	term.expect(`^length 8\nprompt>`)
	if strings.Contains(term.screen(), "geheim") {
		t.Errorf("the password is on the screen:\n%s", term.screen())
	}
}

func TestTerminalStopByAnother(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	path := script(t, "trap 'echo got TERM; exit 7' TERM\necho ready\nwhile :; do read line; done\n")
	term.enter("netrunner run -- sh " + path + "; echo status $?")
	term.expect(`^ready`)
	netrunner, _ := term.netrunner(filepath.Base(path))
	if err := unix.Kill(netrunner.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	term.expect(`^got TERM\nstatus 7\nprompt>`)
}

// The terminal's window is closed: even who ignores that goes.
func TestTerminalCloses(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	path := script(t, "trap '' HUP TERM\necho ready\nsleep 1000\n:\n")
	marker := filepath.Base(path)
	term.enter("netrunner run --grace 200ms -- sh " + path)
	term.expect(`^ready`)
	netrunner, below := term.netrunner(marker)
	await := watch(t, append(below, netrunner))
	if out, err := term.tmux("kill-server").CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	await(5 * time.Second)
	if left := proctest.Marked(marker); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A shell with jobs of its own takes the terminal and gives it back.
func TestTerminalShellInside(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	term.enter("PS1='inner> ' netrunner run -- bash --norc --noprofile -i")
	term.expect(`^inner>`)
	path := script(t, "echo started\nread line\necho \"read $line\"\n")
	term.enter("sh " + path)
	term.expect(`^started`)
	term.keys("C-z")
	term.expect(`Stopped +sh`)
	term.enter("fg")
	term.enter("on")
	term.expect(`^read on\ninner>`)
	term.enter("exit 8")
	term.expect(`^exit\n`)
	term.expect(`^prompt>.*\n*\z`)
	term.enter("echo status $?")
	term.expect(`^status 8`)
}

// What the log of a terminal looks like: with colors unless they are not wanted,
// and without what would move the cursor.
func TestTerminalLog(t *testing.T) {
	t.Parallel()
	// As tmux tells the colors, which is not as they were written.
	const off = `(\x1b\[[0-9;]+m)+`
	for _, test := range []struct{ env, out, err string }{
		{"", `\x1b\[2m[\d:.]+ out │` + off + ` text`, `\x1b\[31m[\d:.]+ err │` + off + ` text`},
		{"NO_COLOR=1 ", `(?m)^[\d:.]+ out │ text`, `(?m)^[\d:.]+ err │ text`},
		{"TERM=dumb ", `(?m)^[\d:.]+ out │ text`, `(?m)^[\d:.]+ err │ text`},
	} {
		term := newTerminal(t)
		path := script(t, `echo text; echo text >&2; printf 'no \033[2Jclearing\n'; exit 5`)
		term.enter(test.env + "netrunner run --log -- sh " + path + "; echo status $?")
		term.expect(`^status 5`)
		term.expect(`out │ no \\x1b\[2Jclearing$`)
		out, err := term.tmux("capture-pane", "-p", "-e").Output() // with the sequences for colors
		if err != nil {
			t.Fatalf("tmux capture-pane: %v", err)
		}
		for _, want := range []string{test.out, test.err} {
			if !regexp.MustCompile(want).Match(out) {
				t.Errorf("with %q: no %q in %q", test.env, want, out)
			}
		}
	}
}
