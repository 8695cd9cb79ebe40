// Package proctest is what the tests know of processes: the view from outside,
// by /proc and pidfds, which no bookkeeping of netrunner's can mislead.
package proctest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience bounds every wait of a test for what should happen at once. It is
// long because machines are busy; it is not a measure of anything.
const Patience = 30 * time.Second

// interval is for what the kernel reports no event of: the start of a
// stranger's child, a line on another's screen.
const interval = 20 * time.Millisecond

// Process is a process as /proc/PID/stat has it (man 5 proc).
type Process struct {
	PID, Parent, Group, Session int

	State byte // zero when it is gone
	Name  string
	Args  []string // empty for a zombie
}

func (p Process) String() string {
	if p.State == 0 {
		return fmt.Sprintf("%d is gone", p.PID)
	}
	return fmt.Sprintf("%d %s (state %c, parent %d) %q", p.PID, p.Name, p.State, p.Parent, strings.Join(p.Args, " "))
}

// Dead reports whether it only waits to be reaped.
func (p Process) Dead() bool { return p.State == 'Z' || p.State == 'X' }

// Read looks at one process; it is false when there is none.
func Read(pid int) (p Process, ok bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Process{PID: pid}, false
	}
	// The name may hold spaces and parentheses; what follows the last one does not.
	first, last := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[last+1:]))
	p = Process{PID: pid, State: fields[0][0], Name: string(stat[first+1 : last])}
	for i, number := range []*int{&p.Parent, &p.Group, &p.Session} {
		*number, _ = strconv.Atoi(fields[i+1])
	}
	if line, err := os.ReadFile(dir + "/cmdline"); err == nil && len(line) > 0 {
		p.Args = strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	}
	return p, true
}

// Look is Read of a process that has to be there.
func Look(t testing.TB, pid int) Process {
	t.Helper()
	p, ok := Read(pid)
	if !ok {
		t.Fatal(p)
	}
	return p
}

// StatusField returns a line of /proc/PID/status.
func StatusField(t testing.TB, pid int, name string) string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s in /proc/%d/status", name, pid)
	return ""
}

// pids lists all processes there are, by their numbers.
func pids() (all []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic(err) // no test here means anything without it
	}
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			all = append(all, pid)
		}
	}
	slices.Sort(all) // the names were sorted as text
	return all
}

// Processes lists all that are there and of which a test asks for, zombies included.
func Processes(wanted func(Process) bool) (found []Process) {
	for _, pid := range pids() {
		if p, ok := Read(pid); ok && wanted(p) {
			found = append(found, p)
		}
	}
	return found
}

// Children lists the children of a process, zombies included.
func Children(pid int) []Process {
	return Processes(func(p Process) bool { return p.Parent == pid })
}

// Descendants lists the living processes below one.
func Descendants(pid int) (below []Process) {
	children := map[int][]Process{}
	Processes(func(p Process) bool {
		children[p.Parent] = append(children[p.Parent], p)
		return false
	})
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		for _, child := range children[next[0]] {
			next = append(next, child.PID)
			if !child.Dead() {
				below = append(below, child)
			}
		}
	}
	return below
}

var markers atomic.Int64

// Marker returns a number of seconds that no other process sleeps for. On a
// command line it is found whatever the process does with its session, group,
// parent, environment or descriptors.
func Marker() string { return fmt.Sprintf("%s%06d", MarkerPrefix(), markers.Add(1)) }

// MarkerPrefix is what all markers of this process begin with.
func MarkerPrefix() string { return fmt.Sprintf("86400.%d", os.Getpid()) }

// Marked lists the living processes with a marker on their command line, this one excepted.
func Marked(marker string) (found []Process) {
	for _, pid := range pids() {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err != nil || pid == os.Getpid() || !bytes.Contains(line, []byte(marker)) {
			continue
		}
		if p, ok := Read(pid); ok && !p.Dead() {
			found = append(found, p)
		}
	}
	return found
}

// AwaitDeath waits for the end of any process; false says that it still lives.
func AwaitDeath(t testing.TB, pid int, within time.Duration) bool {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH || err == unix.EINVAL { // reaped, or no longer a thread group's leader
		return true
	}
	if err != nil {
		t.Fatalf("pidfd_open %d: %v", pid, err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is lost with it
	return dies(fd, within)
}

// Watch returns what waits for the end of a process, as AwaitDeath does, but of
// the one that has the number now, whoever has it by then.
func Watch(t testing.TB, pid int) (awaitDeath func(within time.Duration) bool) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("pidfd_open %d: %v", pid, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func(within time.Duration) bool { return dies(fd, within) }
}

// dies waits for the end of the process that a pidfd stands for.
func dies(pidfd int, within time.Duration) bool {
	for deadline := time.Now().Add(within); ; {
		left := max(time.Until(deadline), 0) + time.Millisecond - 1 // rounded up
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		return err == nil && n == 1
	}
}

// AwaitNone waits until nothing is found any more, and returns what there is at the end of its time.
func AwaitNone(t testing.TB, within time.Duration, find func() []Process) []Process {
	t.Helper()
	ticker := time.NewTicker(interval) // for those that have died and are not reaped
	defer ticker.Stop()
	for deadline := time.Now().Add(within); ; <-ticker.C {
		found := find()
		for _, p := range found {
			if !p.Dead() && !AwaitDeath(t, p.PID, time.Until(deadline)) {
				return find()
			}
		}
		if len(found) == 0 || time.Now().After(deadline) {
			return found
		}
	}
}

// Eventually waits for what gives no event, and says whether it has come.
func Eventually(t testing.TB, what string, happened func() bool) bool {
	t.Helper()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for deadline := time.Now().Add(Patience); !happened(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Errorf("waited in vain for %s", what)
			return false
		}
	}
	return true
}

// CopyProgram copies a program, by its name in PATH or by its path, whatever the
// umask. It is cp that does it: a file that this process writes may still be open
// for writing in a child of another test when it is to be run, and that fails
// with ETXTBSY.
func CopyProgram(t testing.TB, name, to string, mode os.FileMode) {
	t.Helper()
	from, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(to, mode); err != nil {
		t.Fatal(err)
	}
}

// ReapLost waits until no child is left of a test binary that is a subreaper.
// Those that do not end in time it returns, and kills them with all that is
// below them.
func ReapLost(patience time.Duration) (lost []Process) {
	for deadline := time.Now().Add(patience); ; {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			return lost
		}
		if pid != 0 {
			continue
		}
		if time.Now().After(deadline) {
			for _, p := range Descendants(os.Getpid()) {
				_ = unix.Kill(p.PID, unix.SIGKILL)
				lost = append(lost, p)
			}
		}
		time.Sleep(interval)
	}
}

// AwaitContinued waits until the marked process of that name is stopped no more.
// A shell continues a job when the terminal is the job's: what is typed then, and
// not before, the job gets as a line.
func AwaitContinued(t testing.TB, marker, name string) {
	t.Helper()
	Eventually(t, name+" to go on", func() bool {
		for _, p := range Marked(marker) {
			if p.Name == name && p.State != 'T' {
				return true
			}
		}
		return false
	})
}
