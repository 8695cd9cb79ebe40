package netrunner_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
	"github.com/netrunner-go/netrunner/internal/shepherd"
)

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

// helperVariable makes the test binary one of the programs in helperPrograms.
const helperVariable = "NETRUNNER_TEST_PROGRAM"

// detachedVariable is for a program whose watcher is nobody's child.
const detachedVariable = "NETRUNNER_TEST_DETACHED"

// helperPrograms are what the tests run besides the system's own programs. Every
// one of them must be used, see TestMain.
var helperPrograms = map[string]func(args []string){}

func TestMain(m *testing.M) {
	// So that the tests find the watchers, and see that they go. TestDetached is for those that are nobody's child.
	if os.Getenv(detachedVariable) == "" {
		shepherd.Attach()
	}
	if name := os.Getenv(helperVariable); name != "" {
		program, ok := helperPrograms[name]
		if !ok {
			fmt.Fprintf(os.Stderr, "there is no test program %q\n", name)
			os.Exit(125)
		}
		program(os.Args[1:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helperCommand returns a command that runs one of helperPrograms.
func helperCommand(t testing.TB, name string, args ...string) *netrunner.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := netrunner.Command(self, args...)
	// The race detector would wait a second at the exit for races still to be reported.
	cmd.Env = append(os.Environ(), helperVariable+"="+name, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// testContext ends with the test's patience, so that nothing hangs for long.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// leaveNothing checks at the end of a test that this process is as before: no
// child, no descriptor and no goroutine more.
func leaveNothing(t testing.TB) {
	t.Helper()
	netrunner.CloseIdle()
	before := descriptors(t)
	t.Cleanup(func() {
		netrunner.CloseIdle()
		if err := goleak.Find(); err != nil {
			t.Error(err)
		}
		if after := descriptors(t); !slices.Equal(before, after) {
			t.Errorf("descriptors before: %q, after: %q", before, after)
		}
		if pids := children(t, os.Getpid()); len(pids) > 0 {
			t.Errorf("children are left: %v", describe(pids))
		}
	})
}

// descriptors lists this process's open descriptors with what they refer to.
func descriptors(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, entry := range entries {
		// The descriptor of the listing itself is gone by now.
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && !strings.HasPrefix(target, "anon_inode:") {
			open = append(open, entry.Name()+" "+target)
		}
	}
	return open
}

// children lists the children of a process, the dead ones that nobody has waited for included.
func children(_ testing.TB, pid int) []int { return pidsOf(proctest.Children(pid)) }

func parentOf(t testing.TB, pid int) int       { t.Helper(); return proctest.Look(t, pid).Parent }
func processGroupOf(t testing.TB, pid int) int { t.Helper(); return proctest.Look(t, pid).Group }

func pidsOf(processes []proctest.Process) (pids []int) {
	for _, p := range processes {
		pids = append(pids, p.PID)
	}
	return pids
}

// describe adds to pids what is known of them.
func describe(pids []int) (lines []string) {
	for _, pid := range pids {
		p, _ := proctest.Read(pid)
		lines = append(lines, p.String())
	}
	return lines
}

func marker() string { return proctest.Marker() }

// marked lists the processes with a marker in their command line, zombies not
// included: those have none, and are looked for as children.
func marked(_ testing.TB, marker string) []int { return pidsOf(proctest.Marked(marker)) }

// waitGone waits until no process has the marker.
func waitGone(t testing.TB, marker string, within time.Duration) {
	t.Helper()
	left := proctest.AwaitNone(t, within, func() []proctest.Process { return proctest.Marked(marker) })
	if len(left) > 0 {
		t.Fatalf("after %v there are still %v", within, left)
	}
}

// waitDeath waits for the end of any process.
func waitDeath(t testing.TB, pid int, within time.Duration) bool {
	t.Helper()
	return proctest.AwaitDeath(t, pid, within)
}

// readLine reads one line of a command's output, and nothing of the next.
func readLine(t testing.TB, r io.Reader) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatalf("read a line: %v, after %q", err, line)
		}
		if b[0] == '\n' {
			return string(line)
		}
	}
}

// start starts a command whose standard output is piped, and sees to its end.
func start(t testing.TB, cmd *netrunner.Cmd) *netrunner.Process {
	t.Helper()
	if cmd.Stdout == nil {
		cmd.Stdout = netrunner.Pipe
	}
	p, err := cmd.Start(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Kill()
		_, _ = p.Wait()
		_ = p.Stdout().Close()
	})
	return p
}

// endless returns a command that runs until it is stopped, with a child in a session of its own.
func endless(mark string) *netrunner.Cmd {
	return netrunner.Command("sh", "-c", "setsid sleep $0 & sleep $0", mark)
}
