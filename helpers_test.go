package netrunner_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
)

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

// helperVariable makes the test binary one of the programs in helperPrograms.
const helperVariable = "NETRUNNER_TEST_PROGRAM"

// helperPrograms are what the tests run besides the system's own programs. Every
// one of them must be used, see TestMain.
var helperPrograms = map[string]func(args []string){}

func TestMain(m *testing.M) {
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
func children(t testing.TB, pid int) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that has ended meanwhile
		}
		for field := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}

// stat returns field n of /proc/PID/stat, counted from 1 as in man 5 proc.
func stat(t testing.TB, pid, n int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name, field 2, may contain anything, but no ')' comes after it.
	rest := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
	return rest[n-3]
}

func statInt(t testing.TB, pid, n int) int {
	t.Helper()
	value, err := strconv.Atoi(stat(t, pid, n))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func parentOf(t testing.TB, pid int) int       { return statInt(t, pid, 4) }
func processGroupOf(t testing.TB, pid int) int { return statInt(t, pid, 5) }

// describe adds names to pids.
func describe(pids []int) (lines []string) {
	for _, pid := range pids {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		lines = append(lines, fmt.Sprintf("%d %s %q", pid, bytes.TrimSpace(comm), cmdline))
	}
	return lines
}

var markers atomic.Int64

// marker returns a number of seconds that no other process sleeps for: in a
// command line it is found whatever the process does with its session, group,
// parent, environment or descriptors.
func marker() string { return fmt.Sprintf("%s%06d", markerPrefix(), markers.Add(1)) }

// markerPrefix is what all markers of this process begin with.
func markerPrefix() string { return fmt.Sprintf("86400.%d", os.Getpid()) }

// marked lists the processes with a marker in their command line, zombies not
// included: those have none, and are looked for as children.
func marked(t testing.TB, marker string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && pid != os.Getpid() && bytes.Contains(text, []byte(marker)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// waitGone waits until no process has the marker.
func waitGone(t testing.TB, marker string, within time.Duration) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		pids := marked(t, marker)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			if !waitDeath(t, pid, time.Until(deadline)) {
				t.Fatalf("after %v there are still %q", within, describe(marked(t, marker)))
			}
		}
	}
}

// waitDeath waits for the end of any process.
func waitDeath(t testing.TB, pid int, within time.Duration) bool {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(within)
	for {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err == unix.EINTR {
			continue
		}
		return err == nil && n == 1
	}
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
