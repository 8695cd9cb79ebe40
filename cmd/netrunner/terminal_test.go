package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
	"github.com/netrunner-go/netrunner/internal/tmuxtest"
)

// netrunnerOf finds the netrunner that runs a marked command, and all below it.
func netrunnerOf(t *testing.T, marker string) (netrunner proctest.Process, below []proctest.Process) {
	t.Helper()
	netrunner, ok := program(proctest.Marked(marker), "netrunner")
	if !ok {
		t.Fatalf("no netrunner among %v", proctest.Marked(marker))
	}
	return netrunner, proctest.Descendants(netrunner.PID)
}

func TestTerminalKeysReachTheCommand(t *testing.T) {
	for _, test := range []struct{ key, signal string }{{"C-c", "INT"}, {`C-\`, "QUIT"}} {
		t.Run(test.signal, func(t *testing.T) {
			t.Parallel()
			term := tmuxtest.New(t)
			path := tmuxtest.Script(t, `trap 'echo got `+test.signal+`' `+test.signal+`
echo ready
until read line && [ -n "$line" ]; do :; done
echo "read $line"
exit 5
`)
			term.Enter("netrunner run -- sh " + path + "; echo status $?")
			term.Expect(`^ready`)
			term.Keys(test.key)
			term.Expect(`got ` + test.signal)
			term.Enter("on")
			term.Expect(`^read on\nstatus 5\n`)
		})
	}
}

func TestTerminalInterruptEndsTheCommand(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	path := tmuxtest.Script(t, "echo ready\nexec sleep 1000\n")
	term.Enter("netrunner run -- sh " + path + "; echo status $?")
	term.Expect(`^ready`)
	term.Keys("C-c")
	term.Expect(`status 130\nprompt>`)
	// Nothing is said of it: the line before is what the terminal echoes.
	if strings.Contains(term.Screen(), "netrunner: ") {
		t.Errorf("a message on the screen:\n%s", term.Screen())
	}
}

func TestTerminalSuspendAndResume(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	path := tmuxtest.Script(t, "echo ready\nread line\necho \"read $line\"\nexit 6\n")
	marker := filepath.Base(path)
	term.Enter("netrunner run -- sh " + path)
	term.Expect(`^ready`)
	netrunner, below := netrunnerOf(t, marker)
	command, ok := program(below, "sh")
	if !ok {
		t.Fatalf("no command among %v", below)
	}
	term.Keys("C-z")
	term.Expect(`Stopped +netrunner run`)
	for _, p := range []proctest.Process{netrunner, command} {
		if now, ok := proctest.Read(p.PID); !ok || now.State != 'T' {
			t.Errorf("not stopped: %v", now)
		}
	}
	term.Enter("echo back in the shell")
	term.Expect(`^back in the shell`)
	term.Enter("fg")
	eventually(t, "the job to go on", func() bool {
		now, ok := proctest.Read(command.PID)
		return ok && now.State != 'T'
	})
	term.Enter("again")
	term.Expect(`^read again\nprompt>`)
	term.Enter("echo status $?")
	term.Expect(`^status 6`)
}

func TestTerminalPasswordPrompt(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	path := tmuxtest.Script(t, `stty -echo </dev/tty
printf 'Password: ' >/dev/tty
read word </dev/tty
stty echo </dev/tty
echo
echo "length ${#word}"
`)
	term.Enter("netrunner run -- sh " + path)
	term.Expect(`^Password:`)
	term.Enter("geheim77")
	term.Expect(`^length 8\nprompt>`)
	if strings.Contains(term.Screen(), "geheim") {
		t.Errorf("the password is on the screen:\n%s", term.Screen())
	}
}

func TestTerminalStopByAnother(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	path := tmuxtest.Script(t, "trap 'echo got TERM; exit 7' TERM\necho ready\nwhile :; do read line; done\n")
	term.Enter("netrunner run -- sh " + path + "; echo status $?")
	term.Expect(`^ready`)
	netrunner, _ := netrunnerOf(t, filepath.Base(path))
	if err := unix.Kill(netrunner.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	term.Expect(`^got TERM\nstatus 7\nprompt>`)
}

// The terminal's window is closed: even who ignores that goes.
func TestTerminalCloses(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	path := tmuxtest.Script(t, "trap '' HUP TERM\necho ready\nsleep 1000\n:\n")
	marker := filepath.Base(path)
	term.Enter("netrunner run --grace 200ms -- sh " + path)
	term.Expect(`^ready`)
	netrunner, below := netrunnerOf(t, marker)
	await := watch(t, append(below, netrunner))
	if out, err := term.Tmux("kill-server").CombinedOutput(); err != nil {
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
	term := tmuxtest.New(t)
	term.Enter("PS1='inner> ' netrunner run -- bash --norc --noprofile -i")
	term.Expect(`^inner>`)
	path := tmuxtest.Script(t, "echo started\nread line\necho \"read $line\"\n")
	term.Enter("sh " + path)
	term.Expect(`^started`)
	term.Keys("C-z")
	term.Expect(`Stopped +sh`)
	term.Enter("fg")
	proctest.AwaitContinued(t, filepath.Base(path), "sh")
	term.Enter("on")
	term.Expect(`^read on\ninner>`)
	term.Enter("exit 8")
	term.Expect(`^exit\n`)
	term.Expect(`^prompt>.*\n*\z`)
	term.Enter("echo status $?")
	term.Expect(`^status 8`)
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
		term := tmuxtest.New(t)
		path := tmuxtest.Script(t, `echo text; echo text >&2; printf 'no \033[2Jclearing\n'; exit 5`)
		term.Enter(test.env + "netrunner run --log -- sh " + path + "; echo status $?")
		term.Expect(`^status 5`)
		term.Expect(`out │ no \\x1b\[2Jclearing$`)
		out, err := term.Tmux("capture-pane", "-p", "-e").Output() // with the sequences for colors
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

// Each row of a log on a terminal begins with netrunner's own words, whatever the
// command writes, and however wide the terminal is.
func TestTerminalLogCannotBeForged(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	path := tmuxtest.Script(t, `i=0
while [ $i -lt 250 ]; do printf '%*s00:00:00.000 err | forged\n' $i ''; i=$((i+10)); done
printf '\rforged\033[1A\033[2K00:00:00.000 forged\033[1;1Hforged\033[8m\nlast\n'
`)
	term.Enter("clear; netrunner run --log -- sh " + path + "; echo status $?")
	term.Expect(` last\nstatus 0\n`)
	row := regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d\d\d out [│┆]`)
	rows := strings.Split(strings.Split(term.Screen(), "\nstatus 0")[0], "\n")
	forged := 0
	for _, line := range rows {
		forged += strings.Count(line, "forged")
		if !row.MatchString(line) && !strings.Contains(line, "clear; ") {
			t.Errorf("a row is %q", line)
		}
	}
	if forged < 3 {
		t.Errorf("the screen is not that of the command:\n%s", term.Screen())
	}
}

// Ctrl-C is the command's, and netrunner's own way to disregard it is none that a
// command could inherit.
func TestTerminalIgnoresNoSignal(t *testing.T) {
	t.Parallel()
	term := tmuxtest.New(t)
	term.Enter("clear; sh -c 'exec netrunner run -- grep SigIgn /proc/$$/status'; echo status $?")
	term.Expect(`^SigIgn:\s+0000000000000000\nstatus 0\n`)
}
