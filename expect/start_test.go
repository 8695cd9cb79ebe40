package expect_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/expect"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

// Real programs on real terminals.

// drive starts a program that the machine has to have.
func drive(t *testing.T, name string, args ...string) (*expect.Session, *netrunner.Process) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("cannot drive %s: %v", name, err)
	}
	s, p, err := expect.Start(testContext(t), netrunner.Command(name, args...), expect.Options{Timeout: proctest.Patience})
	must(t, err)
	t.Cleanup(func() {
		_ = s.Close() // the test may have done it
		_ = p.Kill()
		_, _ = p.Wait()
		netrunner.CloseIdle()
	})
	return s, p
}

// A REPL, spoken to.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, p, err := expect.Start(ctx, netrunner.Command("python3", "-q"), expect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // it hangs up

	steps := []error{
		s.Expect(ctx, ">>> "),
		s.SendLine("6 * 7"),
	}
	answer, err := s.ExpectRegexp(ctx, regexp.MustCompile(`\n(\d+)\n>>> `))
	steps = append(steps, err, s.Press(expect.Ctrl('d')), s.ExpectEOF(ctx))
	if err := errors.Join(steps...); err != nil {
		log.Fatal(err) // and it shows the screen as it stood
	}
	state, _ := p.Wait()
	fmt.Println(answer[1], state)
	// Output: 42 exit status 0
}

// A password prompt, answered.
func ExampleSession_SendLine() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	login := netrunner.Command("sh", "-c", `stty -echo; printf "user@host's password: "; read word; stty echo; echo; echo "Welcome, it has ${#word} letters."`)
	s, p, err := expect.Start(ctx, login, expect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // it hangs up
	if err := errors.Join(
		s.Expect(ctx, "password: "),
		s.SendLine("secret"),
		s.Expect(ctx, "Welcome"),
		s.ExpectEOF(ctx),
	); err != nil {
		log.Fatal(err)
	}
	_, err = p.Wait()
	fmt.Println(s.Screen().Line(1), err)
	// Output: Welcome, it has 6 letters. <nil>
}

func TestShell(t *testing.T) {
	s, p := drive(t, "env", "PS1=ready> ", "bash", "--norc", "--noprofile", "-i")
	must(t, s.Expect(testContext(t), "ready> "))
	must(t, s.SendLine("sh -c 'echo star''ted; exec cat'"))
	must(t, s.Expect(testContext(t), "started\n")) // what is typed before that, the shell would read
	must(t, s.SendLine("one"))
	must(t, s.Expect(testContext(t), "one\none\n"))
	must(t, s.Press(expect.Ctrl('c')))
	must(t, s.Expect(testContext(t), "ready> "))
	must(t, s.SendLine("exit 3"))
	must(t, s.ExpectEOF(testContext(t)))
	if state, _ := p.Wait(); state.ExitCode() != 3 {
		t.Error(state)
	}
}

func TestPagerResized(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	var lines strings.Builder
	for i := 1; i <= 300; i++ {
		fmt.Fprintf(&lines, "line %d\n", i)
	}
	must(t, os.WriteFile(path, []byte(lines.String()), 0o600))
	s, p := drive(t, "less", path)
	must(t, s.ExpectOnScreen(testContext(t), "line 23\n"))
	must(t, s.Resize(10, 40))
	must(t, s.Send("g")) // less may notice its new size only at the next key
	must(t, s.ExpectScreen(testContext(t), func(screen *expect.Screen) bool {
		return screen.Line(8) == "line 9" && !screen.Contains("line 10")
	}))
	// The cursor keys are those of the mode that it has set.
	must(t, s.Press(expect.Down, expect.Down))
	must(t, s.ExpectScreen(testContext(t), func(screen *expect.Screen) bool { return screen.Line(0) == "line 3" }))
	must(t, s.Send("G"))
	must(t, s.ExpectOnScreen(testContext(t), "line 300"))
	must(t, s.Send("q"))
	must(t, s.ExpectEOF(testContext(t)))
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func TestEditor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	s, p := drive(t, "vim", "-u", "NONE", "-N", path)
	must(t, s.ExpectOnScreen(testContext(t), "~\n~"))
	must(t, s.Send("ihello, wörld"))
	must(t, s.Press(expect.Esc))
	must(t, s.ExpectOnScreen(testContext(t), "hello, wörld"))
	must(t, s.SendLine(":wq"))
	must(t, s.ExpectEOF(testContext(t)))
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); string(text) != "hello, wörld\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestTop(t *testing.T) {
	s, p := drive(t, "top")
	must(t, s.ExpectOnScreen(testContext(t), "PID"))
	must(t, s.Send("q"))
	must(t, s.ExpectEOF(testContext(t)))
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// Close hangs up.
func TestCloseHangsUp(t *testing.T) {
	s, p := drive(t, "sleep", "1000")
	must(t, s.Close())
	if state, _ := p.Wait(); state.String() != "signal: hangup" {
		t.Error(state)
	}
}

func TestStartRefuses(t *testing.T) {
	cmd := netrunner.Command("true")
	cmd.Stdout = os.Stdout
	if _, _, err := expect.Start(testContext(t), cmd, expect.Options{}); err == nil {
		t.Error("Stdout is taken")
	}
	if _, _, err := expect.Start(testContext(t), netrunner.Command("true"), expect.Options{Rows: 1 << 20}); err == nil {
		t.Error("a size that no terminal has")
	}
	if _, _, err := expect.Start(testContext(t), netrunner.Command("/no/such/program"), expect.Options{}); err == nil {
		t.Error("no program")
	}
}
