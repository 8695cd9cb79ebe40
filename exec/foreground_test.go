package exec_test

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
	"github.com/netrunner-go/netrunner/internal/tmuxtest"
)

// A program that runs a command by this package, as a user at a terminal sees it.

// launch runs a script by a program that runs it by this package, with arguments.
func launch(t *testing.T, term *tmuxtest.Terminal, program, script string, args ...string) {
	t.Helper()
	path := tmuxtest.Script(t, script)
	start := tmuxtest.Script(t, "exec env GORACE=atexit_sleep_ms=0 "+programVariable+"="+program+" "+self()+" sh "+path+" "+strings.Join(args, " ")+"\n")
	term.Enter("sh " + start)
}

func TestTerminalInterrupt(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	launch(t, term, "run-ignoring", "trap 'echo got INT; exit 4' INT\necho ready\nwhile :; do sleep 0.05; done\n")
	term.Expect(`^ready`)
	term.Keys("C-c")
	term.Expect(`got INT\nended: exit status 4\nprompt>`)
}

func TestTerminalSuspendAndResume(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	marker := proctest.Marker()
	launch(t, term, "run", "echo ready\nread line\necho \"read $line\"\nexit 6\n", marker)
	term.Expect(`^ready`)
	term.Keys("C-z")
	term.Expect(`Stopped +sh`)
	term.Enter("echo back in the shell")
	term.Expect(`^back in the shell`)
	term.Enter("fg")
	proctest.AwaitContinued(t, marker, "sh")
	term.Enter("again")
	term.Expect(`^read again\nended: exit status 6\nprompt>`)
}

func TestTerminalPasswordPrompt(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	launch(t, term, "run", `stty -echo </dev/tty
printf 'Password: ' >/dev/tty
read word </dev/tty
stty echo </dev/tty
echo
echo "length ${#word}"
`)
	term.Expect(`^Password:`)
	term.Enter("geheim77")
	term.Expect(`^length 8\nended: <nil>\nprompt>`)
	if strings.Contains(term.Screen(), "geheim") {
		t.Errorf("the password is on the screen:\n%s", term.Screen())
	}
}

// SysProcAttr.Foreground: a process group of its own, which has the terminal.
func TestTerminalForegroundGroup(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	launch(t, term, "run-foreground", "trap 'echo got INT; exit 4' INT\necho ready\nread line\necho \"read $line\"\nwhile :; do sleep 0.05; done\n")
	term.Expect(`^ready`)
	term.Enter("typed")
	term.Expect(`^read typed`)
	term.Keys("C-c") // for the command alone
	term.Expect(`got INT\nended: exit status 4`)
}

// The window is closed: all of it goes.
func TestTerminalCloses(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	marker := proctest.Marker()
	launch(t, term, "run", "trap '' HUP\nsetsid sleep "+marker+" &\necho ready\nsleep "+marker+"\n:\n")
	term.Expect(`^ready`)
	sleepers := awaitMarked(t, marker, "sleep", 2)
	if out, err := term.Tmux("kill-server").CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	for _, p := range sleepers {
		if !proctest.AwaitDeath(t, p.PID, proctest.Patience) {
			t.Errorf("%v lives", p)
		}
	}
}

// foregroundAttributes are those of a command that takes the terminal.
func foregroundAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Foreground: true, Ctty: unix.Stdin}
}
