package netrunner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/netrunner-go/netrunner"
)

func TestOutput(t *testing.T) {
	leaveNothing(t)
	for _, test := range []struct {
		name string
		cmd  *netrunner.Cmd
		want string
	}{
		{"a program from PATH", netrunner.Command("echo", "hello"), "hello\n"},
		{"a path", netrunner.Command("/bin/echo", "hello"), "hello\n"},
		{"empty arguments", netrunner.Command("printf", "[%s]", "", "a", ""), "[][a][]"},
		{"no arguments at all", &netrunner.Cmd{Path: "/bin/pwd", Dir: "/"}, "/\n"},
		{"a name of its own", &netrunner.Cmd{Path: "/bin/sh", Args: []string{"me", "-c", "echo $0"}}, "me\n"},
		{"every byte but NUL", netrunner.Command("printf", "%s", allBytes), allBytes},
		{"input", &netrunner.Cmd{Path: "/bin/cat", Stdin: strings.NewReader("in\n")}, "in\n"},
		{"no input", netrunner.Command("cat"), ""},
		{"a directory", &netrunner.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", "pwd; echo $PWD"}, Dir: "/usr"}, "/usr\n/usr\n"},
		{"an environment", &netrunner.Cmd{Path: "/usr/bin/env", Env: []string{"A=1", "B=2", "A=3"}}, "B=2\nA=3\n"},
		{"an empty environment", &netrunner.Cmd{Path: "/usr/bin/env", Env: []string{}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := test.cmd.Output(testContext(t))
			if string(out) != test.want || err != nil {
				t.Errorf("Output() = %q, %v, want %q, nil", out, err, test.want)
			}
		})
	}
}

var allBytes = func() string {
	b := make([]byte, 0, 255)
	for c := 1; c < 256; c++ {
		b = append(b, byte(c))
	}
	return string(b)
}()

func TestTheEnvironmentIsTheOwnersUnlessGiven(t *testing.T) {
	leaveNothing(t)
	t.Setenv("NETRUNNER_TEST", "from the owner")
	out, err := netrunner.Command("env").Output(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Split(strings.TrimSpace(string(out)), "\n"), os.Environ(); !equalSets(got, want) {
		t.Errorf("the command's environment is %q, the owner's %q", got, want)
	}
}

func equalSets(a, b []string) bool {
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

func TestCombinedOutputKeepsTheOrder(t *testing.T) {
	leaveNothing(t)
	out, err := netrunner.Command("sh", "-c", "echo 1; echo 2 >&2; echo 3; exit 4").CombinedOutput(testContext(t))
	if string(out) != "1\n2\n3\n" {
		t.Errorf("output %q", out)
	}
	var exit *netrunner.ExitError
	if !errors.As(err, &exit) || exit.State.ExitCode() != 4 {
		t.Errorf("error %v, want exit status 4", err)
	}
}

func TestOutputRefusesAStdoutThatIsSet(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("true")
	cmd.Stdout = io.Discard
	var refused *netrunner.StartError
	if _, err := cmd.Output(t.Context()); !errors.As(err, &refused) {
		t.Errorf("Output: %v, want a StartError", err)
	}
	if _, err := cmd.CombinedOutput(t.Context()); !errors.As(err, &refused) {
		t.Errorf("CombinedOutput: %v, want a StartError", err)
	}
}

func TestATemplateRunsManyTimesAtOnce(t *testing.T) {
	leaveNothing(t)
	template := netrunner.Command("echo", "a")
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			word := fmt.Sprint(i)
			out, err := template.With("b", word).Output(testContext(t))
			if want := "a b " + word + "\n"; string(out) != want || err != nil {
				t.Errorf("Output() = %q, %v, want %q", out, err, want)
			}
		})
	}
	group.Wait()
	if len(template.Args) != 2 {
		t.Errorf("the template has become %q", template.Args)
	}
}

func TestExitErrorSaysHowItEnded(t *testing.T) {
	leaveNothing(t)
	for _, test := range []struct {
		script string
		code   int
		signal syscall.Signal
		want   string
	}{
		{"exit 1", 1, 0, `"sh": exit status 1`},
		{"exit 255", 255, 0, `"sh": exit status 255`},
		{"echo first >&2; echo last words >&2; exit 2", 2, 0, `"sh": exit status 2: last words`},
		{"kill -KILL $$", -1, syscall.SIGKILL, `"sh": signal: killed`},
		{"kill -64 $$", -1, syscall.Signal(64), `"sh": signal: signal 64`},
	} {
		err := netrunner.Command("sh", "-c", test.script).Run(testContext(t))
		var exit *netrunner.ExitError
		if !errors.As(err, &exit) {
			t.Errorf("%s: %v, want an ExitError", test.script, err)
			continue
		}
		if exit.State.ExitCode() != test.code || exit.State.Signal() != test.signal || err.Error() != test.want {
			t.Errorf("%s: code %d, signal %d, %q, want %d, %d, %q", test.script,
				exit.State.ExitCode(), exit.State.Signal(), err, test.code, test.signal, test.want)
		}
	}
}

func TestTwoMegabytesOfArguments(t *testing.T) {
	leaveNothing(t)
	args := make([]string, 20)
	for i := range args {
		args[i] = strings.Repeat("x", 100_000)
	}
	out, err := netrunner.Command("/bin/echo", args...).Output(testContext(t))
	if want := 20 * 100_001; len(out) != want || err != nil {
		t.Errorf("%d bytes of output, %v, want %d", len(out), err, want)
	}
}

func TestTooManyArgumentsAreTheKernelsError(t *testing.T) {
	leaveNothing(t)
	for _, test := range []struct {
		name string
		args []string
	}{
		{"one argument of more than 128 KiB", []string{strings.Repeat("x", 1<<18)}},
		{"8 MB in all", strings.Split(strings.Repeat(strings.Repeat("x", 100_000)+" ", 80), " ")},
		{"100 MB in all", strings.Split(strings.Repeat(strings.Repeat("x", 100_000)+" ", 1000), " ")},
	} {
		err := netrunner.Command("/bin/echo", test.args...).Run(testContext(t))
		var refused *netrunner.StartError
		if !errors.As(err, &refused) || !errors.Is(err, syscall.E2BIG) || refused.Step != "exec" {
			t.Errorf("%s: %v, want E2BIG at exec", test.name, err)
		}
		if err := netrunner.Command("true").Run(testContext(t)); err != nil {
			t.Errorf("after %s: %v", test.name, err)
		}
	}
}

func TestWhatCannotStartIsNamed(t *testing.T) {
	leaveNothing(t)
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write("plain", "echo hello\n", 0o755)
	noInterpreter := write("script", "#!/no/such/interpreter -x\n", 0o755)
	forbidden := write("forbidden", "#!/bin/sh\n", 0o644)
	here := write("here", "#!/bin/sh\n", 0o755)
	t.Chdir(dir)
	t.Setenv("PATH", ".:"+os.Getenv("PATH"))
	gone := filepath.Join(dir, "gone")

	for _, test := range []struct {
		name string
		cmd  *netrunner.Cmd
		is   error
		want string
	}{
		{"no command", &netrunner.Cmd{}, nil, `start "": check "Path": no command`},
		{"an empty name", netrunner.Command(""), nil, `start "": check "Path": no command`},
		{"not in PATH", netrunner.Command("no-such-program"), exec.ErrNotFound, `start "no-such-program": find: exec: "no-such-program": executable file not found in $PATH`},
		{"in the current directory", netrunner.Command("here"), exec.ErrDot, `start "here": find: exec: "here": cannot run executable found relative to current directory`},
		{"no such file", netrunner.Command(gone), syscall.ENOENT, `start "` + gone + `": exec "` + gone + `": no such file or directory`},
		{"a directory", netrunner.Command(dir), syscall.EISDIR, `start "` + dir + `": exec "` + dir + `": is a directory`},
		{"no permission", netrunner.Command(forbidden), syscall.EACCES, `start "` + forbidden + `": exec "` + forbidden + `": permission denied`},
		{"a script without #!", netrunner.Command(plain), syscall.ENOEXEC, `start "` + plain + `": exec "` + plain + `": exec format error`},
		{"a missing interpreter", netrunner.Command(noInterpreter), syscall.ENOENT, `start "` + noInterpreter + `": exec "` + noInterpreter + `": its interpreter "/no/such/interpreter" is missing: no such file or directory`},
		{"a missing directory", &netrunner.Cmd{Path: "/bin/true", Dir: gone}, syscall.ENOENT, `start "/bin/true": chdir "` + gone + `": no such file or directory`},
		{"a file as directory", &netrunner.Cmd{Path: "/bin/true", Dir: here}, syscall.ENOTDIR, `start "/bin/true": chdir "` + here + `": not a directory`},
		{"NUL in the path", netrunner.Command("/bin/tr\x00ue"), nil, `start "/bin/tr\x00ue": check "Path": contains a NUL byte`},
		{"NUL in a name", netrunner.Command("tr\x00ue"), nil, ``},
		{"NUL in an argument", netrunner.Command("true", "a", "\x00"), nil, `start "true": check "Args[2]": contains a NUL byte`},
		{"NUL in the environment", &netrunner.Cmd{Path: "/bin/true", Env: []string{"A=\x00"}}, nil, `start "/bin/true": check "Env[0]": contains a NUL byte`},
		{"NUL in the directory", &netrunner.Cmd{Path: "/bin/true", Dir: "/\x00"}, nil, `start "/bin/true": check "Dir": contains a NUL byte`},
		{"a negative timeout", &netrunner.Cmd{Path: "/bin/true", Timeout: -1}, nil, `start "/bin/true": check "Timeout": is negative`},
		{"a negative grace", &netrunner.Cmd{Path: "/bin/true", KillTimeout: -1}, nil, `start "/bin/true": check "KillTimeout": is negative`},
		{"a negative limit", &netrunner.Cmd{Path: "/bin/true", MaxOutput: -1}, nil, `start "/bin/true": check "MaxOutput": is negative`},
		{"no such signal", &netrunner.Cmd{Path: "/bin/true", StopSignal: 65}, nil, `start "/bin/true": check "StopSignal": is no signal`},
		{"a negative signal", &netrunner.Cmd{Path: "/bin/true", StopSignal: -1}, nil, `start "/bin/true": check "StopSignal": is no signal`},
		{"unknown leftovers", &netrunner.Cmd{Path: "/bin/true", Leftovers: 7}, nil, `start "/bin/true": check "Leftovers": is unknown`},
		{"too many extra files", &netrunner.Cmd{Path: "/bin/true", ExtraFiles: make([]*os.File, 250)}, nil, `start "/bin/true": check "ExtraFiles": are too many`},
		{"a closed file", &netrunner.Cmd{Path: "/bin/true", Stdin: closedFile(t)}, os.ErrClosed, `start "/bin/true": pass "Stdin": file already closed`},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaveNothing(t)
			p, err := test.cmd.Start(testContext(t))
			if p != nil {
				t.Fatal("it has started")
			}
			var refused *netrunner.StartError
			if !errors.As(err, &refused) {
				t.Fatalf("%v, want a StartError", err)
			}
			if test.want != "" && err.Error() != test.want {
				t.Errorf("error %q\nwant  %q", err, test.want)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
		})
	}
}

func closedFile(t *testing.T) *os.File {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return f
}

func TestAContextThatHasEndedStartsNothing(t *testing.T) {
	leaveNothing(t)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	mark := filepath.Join(t.TempDir(), "mark")
	if err := netrunner.Command("touch", mark).Run(ctx); !errors.Is(err, why) {
		t.Errorf("%v, want %v", err, why)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the command ran")
	}
}

func TestTheOwnersDirectoryCountsAtTheStart(t *testing.T) {
	leaveNothing(t)
	pwd := netrunner.Command("/bin/pwd", "-P")
	for _, dir := range []string{"/usr", "/etc"} {
		t.Chdir(dir)
		if out, err := pwd.Output(testContext(t)); string(out) != dir+"\n" || err != nil {
			t.Errorf("in %s: %q, %v", dir, out, err)
		}
	}
	gone := t.TempDir()
	t.Chdir(gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if err := netrunner.Command("true").Run(testContext(t)); err != nil {
		t.Errorf("in a directory that was removed: %v", err)
	}
}

func TestTheOwnersUmaskAndLimitsCountAtTheStart(t *testing.T) {
	leaveNothing(t)
	look := netrunner.Command("sh", "-c", "umask; ulimit -Sc")
	look2 := func() string {
		out, err := look.Output(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before := syscall.Umask(0o22)
	defer syscall.Umask(before)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	if got, want := look2(), fmt.Sprintf("0022\n%d\n", limit.Cur/512); limit.Cur != ^uint64(0) && got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	syscall.Umask(0o77)
	if got := look2(); !strings.HasPrefix(got, "0077\n") {
		t.Errorf("after a change of the umask: %q", got)
	}
}

// The shell's own descriptors are no others than those it was given.
func TestNothingElseIsInherited(t *testing.T) {
	leaveNothing(t)
	// A descriptor that every child of this process would get.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), syscall.F_SETFD, 0); errno != 0 {
		t.Fatal(errno)
	}
	cmd := helperCommand(t, "list-descriptors")
	out, err := cmd.Output(testContext(t))
	if string(out) != "0 1 2" || err != nil {
		t.Errorf("without extra files the command has %q, %v", out, err)
	}
	cmd.ExtraFiles = []*os.File{r, w, r}
	out, err = cmd.Output(testContext(t))
	if string(out) != "0 1 2 3 4 5" || err != nil {
		t.Errorf("with three extra files the command has %q, %v", out, err)
	}
	many := make([]*os.File, 249)
	for i := range many {
		many[i] = r
	}
	cmd.ExtraFiles = many
	out, err = cmd.Output(testContext(t))
	if got := len(bytes.Fields(out)); got != 252 || err != nil {
		t.Errorf("with 249 extra files the command has %d, %v", got, err)
	}
}

func init() {
	helperPrograms["list-descriptors"] = func([]string) {
		var open []string
		// Without listing a directory, which would be one more. What Go's runtime
		// opens for itself is left out: its poller, and the limits of its cgroup.
		for fd := range 1024 {
			if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0); errno == 0 {
				link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
				if !strings.HasPrefix(link, "anon_inode:") && !strings.HasPrefix(link, "/sys/fs/cgroup/") {
					open = append(open, fmt.Sprint(fd))
				}
			}
		}
		fmt.Print(strings.Join(open, " "))
	}
}

// A command ignores what its owner ignores, as under nohup, and nothing else: no
// signal is blocked or caught, as with os/exec.
func TestACommandIgnoresWhatItsOwnerIgnores(t *testing.T) {
	leaveNothing(t)
	for _, test := range []struct{ ignored, mask string }{
		{"", "0000000000000000"},
		{"trap '' INT HUP USR1;", "0000000000000003"}, // Go itself catches SIGUSR1,
	} {
		cmd := netrunner.Command("sh", "-c", test.ignored+` exec "$0"`, helperCommand(t, "").Path)
		cmd.Env = append(os.Environ(), helperVariable+"=owner-of-cat")
		out, err := cmd.Output(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"SigBlk": "0000000000000000", "SigIgn": test.mask, "SigCgt": "0000000000000000"} {
			if !strings.Contains(string(out), name+":\t"+want+"\n") {
				t.Errorf("%s is not %s in\n%s", name, want, out)
			}
		}
	}
}

func init() {
	helperPrograms["owner-of-cat"] = func([]string) {
		cmd := netrunner.Command("cat", "/proc/self/status")
		cmd.Env = []string{}
		cmd.Stdout = os.Stdout
		if err := cmd.Run(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
}
