package netrunner_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

// onTerminal is a shell script on a terminal whose two sides are pipes.
func onTerminal(script string, args ...string) *netrunner.Cmd {
	cmd := netrunner.Command("sh", append([]string{"-c", script}, args...)...)
	cmd.Terminal = &netrunner.Terminal{}
	cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
	return cmd
}

func TestTerminalIsWhatACommandFinds(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", `test -t 0 && test -t 1 && test -t 2 && echo tty; stty size; echo $TERM; ps -o pid=,sid=,pgid=,tpgid= $$; echo here >/dev/tty; stty -a | grep -o ' [-]*echo\>'`)
	cmd.Terminal = &netrunner.Terminal{Size: netrunner.WindowSize{Rows: 33, Cols: 101}, Type: "vt220"}
	out, err := cmd.Output(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.ReplaceAll(string(out), "\r\n", "\n"), "\n")
	ids := strings.Fields(lines[3])
	if lines[0] != "tty" || lines[1] != "33 101" || lines[2] != "vt220" || ids[0] != ids[1] || ids[1] != ids[2] || ids[2] != ids[3] ||
		lines[4] != "here" || lines[5] != " echo" {
		t.Errorf("%q", lines)
	}
}

func TestTerminalType(t *testing.T) {
	for _, test := range []struct {
		env        []string
		kind, want string
	}{
		{[]string{"PATH=" + os.Getenv("PATH")}, "", netrunner.DefaultTERM},
		{[]string{"TERM=dumb"}, "", "dumb"},
		{[]string{"TERM=dumb"}, "vt100", "vt100"},
		{[]string{"TERM="}, "", netrunner.DefaultTERM},
	} {
		cmd := netrunner.Command("sh", "-c", "echo $TERM")
		cmd.Env, cmd.Terminal = test.env, &netrunner.Terminal{Type: test.kind}
		out, err := cmd.Output(testContext(t))
		if string(out) != test.want+"\r\n" || err != nil {
			t.Errorf("%q, %v; not %s", out, err, test.want)
		}
	}
}

// As a user of creack/pty knows it: start, copy both ways, Ctrl-D.
func TestTerminalBothWaysAndCtrlD(t *testing.T) {
	leaveNothing(t)
	p := start(t, onTerminal("while read line; do echo got $line; done; echo end"))
	if _, err := io.WriteString(p.Stdin(), "one\ntwo\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stdin().Close(); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(p.Stdout())
	if err != nil {
		t.Fatal(err)
	}
	// What is echoed comes in between.
	for _, want := range []string{"one\r\n", "got one\r\n", "two\r\n", "got two\r\n", "end\r\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if _, err := p.Stdin().Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	if err := p.Stdin().Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// An open line takes two: the first hands it on, the second is the end.
func TestTerminalEndOfInputInALine(t *testing.T) {
	p := start(t, onTerminal("stty -echo; echo ready; cat"))
	if line := readLine(t, p.Stdout()); line != "ready\r" {
		t.Fatalf("%q", line)
	}
	if _, err := io.WriteString(p.Stdin(), "no newline"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stdin().Close(); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(p.Stdout())
	if string(out) != "no newline" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

func TestTerminalModes(t *testing.T) {
	cmd := onTerminal(`read line; printf 'a\nb\n'`)
	cmd.Terminal.Modes = netrunner.NoEcho
	p := start(t, cmd)
	if _, err := io.WriteString(p.Stdin(), "hidden\n"); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(p.Stdout()); string(out) != "a\r\nb\r\n" || err != nil {
		t.Errorf("without echo %q, %v", out, err)
	}

	cmd = onTerminal(`echo ready; head -c 3 | od -An -tx1; printf 'a\nb\n'`)
	cmd.Terminal.Modes = netrunner.RawMode
	p = start(t, cmd)
	if line := readLine(t, p.Stdout()); line != "ready" {
		t.Fatalf("%q", line)
	}
	if modes, err := p.TerminalModes(); err != nil || modes.Lflag&unix.ICANON != 0 {
		t.Errorf("%+v, %v", modes, err)
	}
	if err := p.Stdin().Close(); !errors.Is(err, netrunner.ErrNoEndOfInput) {
		t.Errorf("Close in raw mode: %v", err)
	}
	if _, err := p.Stdin().Write([]byte{3, 4, '\r'}); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(p.Stdout()); string(out) != " 03 04 0d\na\nb\n" || err != nil {
		t.Errorf("raw %q, %v", out, err)
	}
}

// Input that is copied ends as a user would end it.
func TestTerminalCopiedInput(t *testing.T) {
	for _, input := range []string{"", "a\nb\n", "a\nb"} {
		cmd := netrunner.Command("sh", "-c", "stty -echo; cat; echo end")
		cmd.Terminal = &netrunner.Terminal{Modes: netrunner.NoEcho}
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.Output(testContext(t))
		if want := strings.ReplaceAll(input, "\n", "\r\n") + "end\r\n"; string(out) != want || err != nil {
			t.Errorf("%q: %q, %v", input, out, err)
		}
	}
}

func TestTerminalResize(t *testing.T) {
	leaveNothing(t)
	p := start(t, onTerminal("trap 'stty size' WINCH; stty size; while :; do sleep 0.02; done"))
	if line := readLine(t, p.Stdout()); line != "24 80\r" {
		t.Errorf("%q", line)
	}
	size := netrunner.WindowSize{Rows: 50, Cols: 132, XPixels: 1000, YPixels: 500}
	if err := p.Resize(size); err != nil {
		t.Fatal(err)
	}
	if line := readLine(t, p.Stdout()); line != "50 132\r" {
		t.Errorf("%q", line)
	}
	if got, err := p.WindowSize(); got != size || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = p.Wait()
	_ = p.HangUp()
	if err := p.Resize(size); !errors.Is(err, os.ErrClosed) {
		t.Errorf("of a closed one: %v", err)
	}
}

// As creack/pty's InheritSize.
func TestTerminalInheritsSize(t *testing.T) {
	outer := start(t, onTerminal("sleep 1000"))
	if err := outer.Resize(netrunner.WindowSize{Rows: 7, Cols: 9}); err != nil {
		t.Fatal(err)
	}
	size, err := outer.WindowSize()
	if err != nil {
		t.Fatal(err)
	}
	cmd := netrunner.Command("stty", "size")
	cmd.Terminal = &netrunner.Terminal{Size: size}
	if out, err := cmd.Output(testContext(t)); string(out) != "7 9\r\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := netrunner.WindowSizeOf(os.Stdin); err == nil && !isTerminal(os.Stdin) {
		t.Error("what is no terminal has a size")
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Not a byte is lost, however soon the command exits, and however late one reads.
func TestTerminalLosesNothing(t *testing.T) {
	leaveNothing(t)
	for range runtime.NumCPU() {
		start(t, netrunner.Command("sh", "-c", "while :; do :; done"))
	}
	for i := range 1000 {
		want := fmt.Sprintf("hello %d", i)
		cmd := netrunner.Command("/bin/echo", want)
		cmd.Terminal = &netrunner.Terminal{}
		var out []byte
		var err error
		if i%2 == 0 {
			out, err = cmd.Output(testContext(t))
		} else {
			cmd.Stdout = netrunner.Pipe
			p, startErr := cmd.Start(testContext(t))
			if startErr != nil {
				t.Fatal(startErr)
			}
			_, err = p.Wait() // before a byte was read
			var readErr error
			out, readErr = io.ReadAll(p.Stdout())
			err = errors.Join(err, readErr, p.Stdout().Close())
		}
		if string(out) != want+"\r\n" || err != nil {
			t.Fatalf("run %d: %q, %v", i, out, err)
		}
	}
}

// More than the terminal holds waits for the reader, and comes whole.
func TestTerminalLargeOutput(t *testing.T) {
	cmd := netrunner.Command("seq", "200000")
	cmd.Terminal = &netrunner.Terminal{Modes: netrunner.RawMode}
	out, err := cmd.Output(testContext(t))
	want, wantErr := exec.Command("seq", "200000").Output()
	if !bytes.Equal(out, want) || err != nil || wantErr != nil {
		t.Errorf("%d bytes of %d, %v, %v", len(out), len(want), err, wantErr)
	}
}

func TestTerminalStderrApart(t *testing.T) {
	cmd := netrunner.Command("sh", "-c", "test -t 1 && echo out; test -t 2 || echo err >&2")
	cmd.Terminal = &netrunner.Terminal{}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if stdout.String() != "out\r\n" || stderr.String() != "err\n" {
		t.Errorf("%q and %q", stdout.String(), stderr.String())
	}
	out, err := func() ([]byte, error) {
		cmd := netrunner.Command("sh", "-c", "echo out; test -t 2 && echo err >&2")
		cmd.Terminal = &netrunner.Terminal{}
		return cmd.CombinedOutput(testContext(t))
	}()
	if string(out) != "out\r\nerr\r\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

// What is left with the terminal open keeps nobody waiting.
func TestTerminalLeftOpen(t *testing.T) {
	mark := proctest.Marker()
	cmd := netrunner.Command("sh", "-c", "trap '' HUP; sleep $0 & echo out", mark)
	cmd.Terminal, cmd.Leftovers = &netrunner.Terminal{}, netrunner.LeaveLeftovers
	out, err := cmd.Output(testContext(t))
	if string(out) != "out\r\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	var left []proctest.Process
	proctest.Eventually(t, "what was left", func() bool { // between fork and exec it is not to be seen
		left = proctest.Marked(mark)
		return len(left) == 1 && left[0].Name == "sleep"
	})
	if err := unix.Kill(left[0].PID, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	waitDeath(t, left[0].PID, proctest.Patience)
	// And one that ends all the same.
	cmd.Leftovers = netrunner.KillLeftovers
	out, err = cmd.Output(testContext(t))
	if string(out) != "out\r\n" || err != nil || len(proctest.Marked(mark)) > 0 {
		t.Errorf("%q, %v, %v", out, err, proctest.Marked(mark))
	}
}

// A command may close the terminal and open it again.
func TestTerminalClosedByTheCommand(t *testing.T) {
	cmd := netrunner.Command("sh", "-c", "exec </dev/null >/dev/null 2>&1; sleep 0.1; echo back >/dev/tty")
	cmd.Terminal = &netrunner.Terminal{}
	if out, err := cmd.Output(testContext(t)); string(out) != "back\r\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

func TestTerminalHangUp(t *testing.T) {
	leaveNothing(t)
	for name, close := range map[string]func(*netrunner.Process) error{
		"HangUp": (*netrunner.Process).HangUp,
		"Close":  func(p *netrunner.Process) error { return p.Stdout().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			fifo := filepath.Join(t.TempDir(), "said")
			p := start(t, onTerminal(`trap 'echo hung up >"$0"; exit 9' HUP; echo ready; while :; do sleep 0.02; done`, fifo))
			readLine(t, p.Stdout())
			if err := close(p); err != nil {
				t.Fatal(err)
			}
			state, _ := p.Wait()
			said, _ := os.ReadFile(fifo)
			if state.ExitCode() != 9 || string(said) != "hung up\n" {
				t.Errorf("%v, %q", state, said)
			}
			if _, err := p.Stdin().Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
				t.Errorf("write: %v", err)
			}
		})
	}
	// By default it ends the command.
	p := start(t, onTerminal("echo ready; exec sleep 1000"))
	readLine(t, p.Stdout())
	if err := p.HangUp(); err != nil {
		t.Fatal(err)
	}
	if state, _ := p.Wait(); state.Signal() != syscall.SIGHUP {
		t.Error(state)
	}
}

func TestTerminalJobControl(t *testing.T) {
	leaveNothing(t)
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skipf("cannot have a shell with job control: %v", err)
	}
	cmd := netrunner.Command("bash", "--norc", "--noprofile", "-i")
	cmd.Env = append(os.Environ(), "PS1=prompt> ", "TERM=dumb")
	cmd.Terminal = &netrunner.Terminal{Modes: netrunner.NoEcho}
	cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
	p := start(t, cmd)
	out := bufio.NewReader(p.Stdout())
	for _, step := range []struct{ send, expect string }{
		{"", "prompt> "},
		{"cat\n", ""},
		{"one\n", "one"}, // from it: by then it is there, and can be stopped
		{"\x1a", "Stopped"},
		{"jobs\n", "Stopped +cat"},
		{"fg\nhello\n", "hello"},
		{"\x03", "prompt> "},
		{"exit 5\n", "exit"},
	} {
		if _, err := io.WriteString(p.Stdin(), step.send); err != nil {
			t.Fatal(err)
		}
		expectIn(t, out, step.expect)
	}
	if state, _ := p.Wait(); state.ExitCode() != 5 {
		t.Error(state)
	}
}

// expectIn reads until a pattern has come.
func expectIn(t *testing.T, r *bufio.Reader, pattern string) {
	t.Helper()
	want := regexp.MustCompile(pattern)
	var got []byte
	for !want.Match(got) {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatalf("%q and no %q: %v", got, pattern, err)
		}
		got = append(got, b)
	}
}

func TestTerminalRecording(t *testing.T) {
	var recording bytes.Buffer
	cmd := onTerminal("read line; echo got $line; read line")
	cmd.Terminal.Record, cmd.Terminal.RecordInput = &recording, true
	p := start(t, cmd)
	if _, err := io.WriteString(p.Stdin(), "höhe\n"); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(readLine(t, p.Stdout()), "got") {
	}
	if err := p.Resize(netrunner.WindowSize{Rows: 10, Cols: 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(p.Stdin(), "\n"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(p.Stdout())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(recording.String()), "\n")
	var header struct{ Version, Width, Height int }
	if err := json.Unmarshal([]byte(lines[0]), &header); err != nil || header.Version != 2 || header.Width != 80 || header.Height != 24 {
		t.Errorf("%s: %v", lines[0], err)
	}
	texts := map[string]string{}
	last := 0.0
	for _, line := range lines[1:] {
		var event []any
		if err := json.Unmarshal([]byte(line), &event); err != nil || event[0].(float64) < last {
			t.Errorf("%s: %v", line, err)
		}
		last = event[0].(float64)
		texts[event[1].(string)] += event[2].(string)
	}
	if texts["o"] != "höhe\r\ngot höhe\r\n"+string(rest) || texts["i"] != "höhe\n\n" || texts["r"] != "20x10" {
		t.Errorf("%q", texts)
	}
}

// A recording that can't be written disturbs nothing, and is said.
func TestTerminalRecordingFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := netrunner.Command("echo", "hello")
	cmd.Terminal = &netrunner.Terminal{Record: full}
	if err := cmd.Run(testContext(t)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("from the start: %v", err)
	}
	cmd.Terminal.Record = &failsLater{}
	out, err := cmd.Output(testContext(t))
	if string(out) != "hello\r\n" || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("later: %q, %v", out, err)
	}
}

type failsLater struct{ calls atomic.Int32 }

func (w *failsLater) Write(b []byte) (int, error) {
	if w.calls.Add(1) > 1 {
		return 0, unix.ENOSPC
	}
	return len(b), nil
}

// What fails leaves no terminal open.
func TestTerminalRefusals(t *testing.T) {
	leaveNothing(t)
	terminal := func(change func(*netrunner.Cmd)) *netrunner.Cmd {
		cmd := netrunner.Command("true")
		cmd.Terminal = &netrunner.Terminal{}
		change(cmd)
		return cmd
	}
	for _, test := range []struct {
		cmd  *netrunner.Cmd
		want string
	}{
		{terminal(func(c *netrunner.Cmd) { c.Foreground = true }), `start "true": check "Foreground": contradicts Terminal, which comes with a session of its own`},
		{terminal(func(c *netrunner.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }), `start "true": check "SysProcAttr.Setsid": contradicts Terminal, which comes with a session of its own`},
	} {
		if err := test.cmd.Run(testContext(t)); err == nil || err.Error() != test.want {
			t.Errorf("%v\nnot %v", err, test.want)
		}
	}
	cmd := terminal(func(*netrunner.Cmd) {})
	if _, err := (netrunner.Pipeline{cmd, netrunner.Command("cat")}).Output(testContext(t)); err == nil || !strings.Contains(err.Error(), "Terminal") {
		t.Errorf("in a pipeline: %v", err)
	}
	p := start(t, netrunner.Command("true"))
	if err := errors.Join(p.Resize(netrunner.WindowSize{}), p.HangUp()); err == nil {
		t.Error("a command without a terminal is resized")
	}
	missing := netrunner.Command("/no/such/program")
	missing.Terminal = &netrunner.Terminal{}
	if err := missing.Run(testContext(t)); !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
}

// A limit, a timeout and lines, as without a terminal.
func TestTerminalWithTheRest(t *testing.T) {
	cmd := netrunner.Command("yes")
	cmd.Terminal, cmd.MaxOutput = &netrunner.Terminal{}, 10000
	if out, err := cmd.Output(testContext(t)); len(out) != 10000 || !errors.Is(err, netrunner.ErrOutputLimit) {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	cmd = netrunner.Command("sh", "-c", "echo one; echo two; exec sleep 1000")
	cmd.Terminal, cmd.Timeout = &netrunner.Terminal{}, 300*time.Millisecond
	var lines []string
	var last error
	for line, err := range cmd.Lines(testContext(t)) {
		if last = err; err == nil {
			lines = append(lines, string(line))
		}
	}
	if fmt.Sprint(lines) != "[one two]" || !errors.Is(last, netrunner.ErrTimeout) {
		t.Errorf("%q, %v", lines, last)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	p, err := onTerminal("echo ready; exec sleep 1000").Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	readLine(t, p.Stdout())
	cancel()
	if _, err := p.Wait(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_ = p.HangUp()
}
