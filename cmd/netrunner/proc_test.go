package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What /proc tells about processes: the view from outside, which no bookkeeping
// of netrunner's can mislead.

// pollInterval is for what the kernel reports no event of: the start of a
// stranger's child, a line on another's screen.
const pollInterval = 10 * time.Millisecond

// patience bounds every wait of the tests; it is not a measure of anything.
const patience = 30 * time.Second

// proc is a process as /proc/PID/stat has it (man 5 proc).
type proc struct {
	pid, ppid int
	state     byte
	args      []string // empty for a zombie
}

func (p proc) String() string {
	return fmt.Sprintf("%d (state %c, parent %d) %q", p.pid, p.state, p.ppid, strings.Join(p.args, " "))
}

func (p proc) dead() bool { return p.state == 'Z' || p.state == 'X' }

func readProc(pid int) (p proc, ok bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return proc{}, false
	}
	// The name may hold spaces and parentheses; what follows the last one does not.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	ppid, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return proc{}, false
	}
	p = proc{pid: pid, ppid: ppid, state: fields[0][0]}
	if line, err := os.ReadFile(dir + "/cmdline"); err == nil && len(line) > 0 {
		p.args = strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	}
	return p, true
}

// processes lists all that live, or are not yet reaped.
func processes() (all []proc) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic(err) // no test here means anything without it
	}
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			if p, ok := readProc(pid); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

// descendants lists the living processes below one.
func descendants(pid int) (below []proc) {
	children := map[int][]proc{}
	for _, p := range processes() {
		children[p.ppid] = append(children[p.ppid], p)
	}
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		for _, child := range children[next[0]] {
			next = append(next, child.pid)
			if !child.dead() {
				below = append(below, child)
			}
		}
	}
	return below
}

// marked lists the living processes with an argument that contains the marker.
func marked(marker string) (found []proc) {
	for _, p := range processes() {
		if strings.Contains(strings.Join(p.args, " "), marker) {
			found = append(found, p)
		}
	}
	return found
}

// program finds a process by the base name of its program.
func program(among []proc, name string) (p proc, ok bool) {
	for _, p := range among {
		if len(p.args) > 0 && filepath.Base(p.args[0]) == name {
			return p, true
		}
	}
	return proc{}, false
}

// newMarker returns a word that no other process has on its command line, short
// enough for a suffix of gzip's.
func newMarker() string {
	return "mark" + strconv.FormatInt(time.Now().UnixNano(), 36)
}

// death lets a test wait for the end of a process that is no child of its own.
type death struct {
	proc  proc
	pidfd int
}

// watch opens what await waits for. Call it while the processes live.
func watch(t *testing.T, all []proc) (deaths []death) {
	t.Helper()
	for _, p := range all {
		fd, err := unix.PidfdOpen(p.pid, 0)
		if err != nil {
			t.Fatalf("pidfd_open %v: %v", p, err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		deaths = append(deaths, death{p, fd})
	}
	return deaths
}

// await returns when all of them are dead, and fails the test when one is not in time.
func await(t *testing.T, deaths []death, within time.Duration) {
	t.Helper()
	deadline := time.Now().Add(within)
	for _, d := range deaths {
		for {
			left := max(time.Until(deadline), 0)
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(d.pidfd), Events: unix.POLLIN}}, int(left.Milliseconds()))
			if err == unix.EINTR {
				continue
			}
			if n == 0 {
				t.Errorf("still alive after %v: %v", within, d.proc)
			}
			break
		}
	}
}

// eventually waits for what gives no event.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// statusField returns a line of /proc/PID/status.
func statusField(t *testing.T, pid int, name string) string {
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
