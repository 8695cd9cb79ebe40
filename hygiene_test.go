package netrunner_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/netrunner-go/netrunner"
)

// What a long life brings to one shepherd: programs that end well, badly and not
// at all, small and large ones, with leftovers, descriptors and directories.
var lifeOfAShepherd = []struct {
	name  string
	every int // of so many commands one is like this
	cmd   *netrunner.Cmd
	fails bool
}{
	{"exits", 1, netrunner.Command("/bin/true"), false},
	{"fails", 3, netrunner.Command("/bin/false"), true},
	{"can't be executed", 7, netrunner.Command("/etc/hostname"), true},
	{"has large arguments", 11, netrunner.Command("/bin/true", slices.Repeat([]string{strings.Repeat("x", 1000)}, 100)...), false},
	{"has a directory and descriptors", 13, &netrunner.Cmd{
		Path: "/bin/true", Dir: "/usr", ExtraFiles: []*os.File{os.Stdin, os.Stdin, os.Stdin},
	}, false},
	{"leaves others", 41, netrunner.Command("/bin/sh", "-c", "setsid sleep 1000 & sleep 1000 & exit 0"), false},
	{"is stopped", 43, &netrunner.Cmd{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Timeout: time.Millisecond}, true},
}

// Four runners of the same kind left three descriptors and two processes behind
// for every finished run. Here 10 000 runs are flat: one shepherd serves them all.
func TestTenThousandRunsAreFlat(t *testing.T) {
	leaveNothing(t)
	ctx := context.Background()
	run := func(from, to int) {
		for i := from; i < to; i++ {
			life := lifeOfAShepherd[0]
			for _, other := range lifeOfAShepherd[1:] {
				if i%other.every == 0 {
					life = other
				}
			}
			if err := life.cmd.Run(ctx); (err != nil) != life.fails {
				t.Fatalf("run %d, which %s: %v", i, life.name, err)
			}
		}
	}
	run(0, 500) // everything has happened once
	before := takeFootprint(t)
	run(500, 10_000)
	after := takeFootprint(t)
	t.Logf("before: %+v", before)
	t.Logf("after:  %+v", after)
	if before.shepherd != after.shepherd || before.watcher != after.watcher {
		t.Error("they were not served by one shepherd under one watcher")
	}
	for _, flat := range []struct {
		what          string
		before, after int
		slack         int
	}{
		{"descriptors of the shepherd", before.shepherdDescriptors, after.shepherdDescriptors, 0},
		{"private memory of the shepherd, kB", before.shepherdMemory, after.shepherdMemory, 0},
		{"descriptors of the watcher", before.watcherDescriptors, after.watcherDescriptors, 0},
		{"private memory of the watcher, kB", before.watcherMemory, after.watcherMemory, 0},
		{"descriptors of the owner", before.descriptors, after.descriptors, 0},
		{"goroutines of the owner", before.goroutines, after.goroutines, 0},
		{"heap of the owner, kB", before.heap, after.heap, 256},
	} {
		if flat.after > flat.before+flat.slack {
			t.Errorf("%s: %d, and before 9 500 more runs %d", flat.what, flat.after, flat.before)
		}
	}
}

type footprint struct {
	shepherd, watcher                       int
	shepherdDescriptors, watcherDescriptors int
	shepherdMemory, watcherMemory           int // kB, private
	descriptors, goroutines                 int
	heap                                    int // kB
}

func takeFootprint(t *testing.T) (f footprint) {
	t.Helper()
	// Two collections: what a finalizer or a cleanup frees is gone after the second.
	runtime.GC()
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	f.heap = int(memory.HeapAlloc >> 10)
	f.goroutines = runtime.NumGoroutine()
	f.descriptors = descriptorCount(t, os.Getpid())
	f.watcher = only(t, children(t, os.Getpid()))
	f.shepherd = only(t, children(t, f.watcher))
	f.shepherdDescriptors = descriptorCount(t, f.shepherd)
	f.watcherDescriptors = descriptorCount(t, f.watcher)
	f.shepherdMemory = privateMemory(t, f.shepherd)
	f.watcherMemory = privateMemory(t, f.watcher)
	return f
}

func only(t *testing.T, pids []int) int {
	t.Helper()
	if len(pids) != 1 {
		t.Fatalf("there are %q, not one process", describe(pids))
	}
	return pids[0]
}

func descriptorCount(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	check(t, err)
	return len(entries)
}

// privateMemory is what only this process has, in kB (man 5 proc, smaps_rollup).
func privateMemory(t *testing.T, pid int) (sum int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "Private_") {
			kB, err := strconv.Atoi(fields[1])
			check(t, err)
			sum += kB
		}
	}
	return sum
}

// What a command had in its arguments and its environment is in no helper's
// memory once its program runs, and not after its end.
func TestNoSecretStaysInAHelper(t *testing.T) {
	leaveNothing(t)
	for _, test := range []struct {
		name string
		size int // of another entry of the environment
	}{
		{"small", 10},
		{"large", 100_000}, // more than the shepherd has room for without asking the kernel
	} {
		t.Run(test.name, func(t *testing.T) {
			secret := fmt.Sprintf("secret-%x", time.Now().UnixNano())
			cmd := netrunner.Command("/bin/sh", "-c", "echo running; read word", secret)
			cmd.Env = []string{"PASSWORD=" + secret, "LONG=" + strings.Repeat("y", test.size)}
			cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
			p := start(t, cmd)
			readLine(t, p.Stdout())
			shepherd := parentOf(t, p.PID())
			helpers := map[string]int{"shepherd": shepherd, "watcher": parentOf(t, shepherd)}
			if !bytes.Contains(memoryOf(t, p.PID()), []byte(secret)) {
				t.Fatal("the secret is not in the memory of the command, so the test sees nothing")
			}
			for _, when := range []string{"while its command runs", "after its command"} {
				if when == "after its command" {
					check(t, p.Stdin().Close())
					_, _ = p.Wait() // read fails at the end of its input
				}
				for name, pid := range helpers {
					if bytes.Contains(memoryOf(t, pid), []byte(secret)) {
						t.Errorf("%s the %s has the secret in its memory", when, name)
					}
				}
			}
			// A program that can't be executed has had its strings read, too.
			cmd = netrunner.Command("/etc/hostname", secret)
			if err := cmd.Run(testContext(t)); err == nil {
				t.Error("/etc/hostname is a program here")
			}
			if bytes.Contains(memoryOf(t, shepherd), []byte(secret)) {
				t.Error("after a failed exec the shepherd has the secret in its memory")
			}
		})
	}
}

// memoryOf reads all that a process may write to: heap, stack and static data.
func memoryOf(t *testing.T, pid int) (all []byte) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	check(t, err)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Skipf("this user may not read the memory of its own processes: %v", err)
	}
	defer memory.Close() //nolint:errcheck // only read
	for line := range strings.Lines(string(maps)) {
		if !strings.HasPrefix(strings.Fields(line)[1], "rw") {
			continue
		}
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		part, err := io.ReadAll(io.NewSectionReader(memory, from, to-from))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, part...)
	}
	if len(all) == 0 {
		t.Fatalf("process %d has no memory", pid)
	}
	return all
}

// surroundings prints all that a process has from its parent and could have from
// the command before it.
const surroundings = `
for fd in /proc/self/fd/*; do readlink $fd | sed "s|^|${fd##*/} |; s/:.*//"; done
pwd; umask; env; cat /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj /proc/self/timerslack_ns
grep -E '^(Sig(Blk|Ign|Cgt)|NoNewPrivs|Seccomp|Cpus_allowed_list|Uid|Gid|Groups|Cap...|THP_enabled|Speculation)' /proc/self/status
cut -d ' ' -f 18,19,40,41 /proc/self/stat # priority, nice, real-time priority, policy
readlink /proc/self/ns/*`

// A command that changes all it can of itself leaves nothing of it to the next one.
func TestTheNextCommandFindsNothingChanged(t *testing.T) {
	leaveNothing(t)
	look := netrunner.Command("/bin/sh", "-c", surroundings)
	look.Env = []string{"PATH=" + os.Getenv("PATH"), "KEPT=yes"}
	take := func() string {
		out, err := look.Output(testContext(t))
		check(t, err)
		return string(out)
	}
	before := take()
	if !strings.Contains(before, "Max open files") || !strings.Contains(before, "SigIgn") {
		t.Fatalf("too little is looked at:\n%s", before)
	}
	shepherd := only(t, children(t, only(t, children(t, os.Getpid()))))
	extra, err := os.Open("/dev/zero")
	check(t, err)
	defer extra.Close() //nolint:errcheck // only passed on
	for _, change := range []struct{ name, script string }{
		{"limits", "ulimit -n 7; ulimit -c 0; ulimit -s 100; ulimit -t 1000; ulimit -f 1"},
		{"umask and directory", "umask 777; cd /usr"},
		{"signals", "trap '' HUP INT TERM USR1 USR2 CHLD PIPE; exec true"},
		{"niceness", "exec nice -n 19 true"},
		{"processors", "exec taskset -c 0 true"},
		{"scheduling", "exec chrt --batch 0 true"},
		{"out of memory score", "echo 999 >/proc/self/oom_score_adj"},
		{"privileges", "exec setpriv --no-new-privs true"},
		{"descriptors", "exec 5</dev/null 6</dev/null 7<&3; exec true"},
		{"session", "exec setsid true"},
		{"a namespace", "unshare --user --mount true || :"},
		{"killed", "kill -KILL $$"},
		{"aborted", "kill -ABRT $$"},
	} {
		t.Run(change.name, func(t *testing.T) {
			if program, ok := strings.CutPrefix(change.script, "exec "); ok {
				if name := strings.Fields(program)[0]; name != "5</dev/null" {
					if _, err := exec.LookPath(name); err != nil {
						t.Skipf("%s is not installed", name)
					}
				}
			}
			cmd := netrunner.Command("/bin/sh", "-c", change.script)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GONE=yes"}
			cmd.Dir = "/"
			cmd.ExtraFiles = []*os.File{extra}
			if err := cmd.Run(testContext(t)); err != nil && !strings.HasPrefix(change.script, "kill") {
				t.Error(err)
			}
			if now := only(t, children(t, only(t, children(t, os.Getpid())))); now != shepherd {
				t.Fatal("another shepherd serves the next command, so that nothing is shown")
			}
			if after := take(); after != before {
				t.Errorf("the next command finds\n%s", difference(before, after))
			}
		})
	}
}

// difference returns the lines that only one of two texts has.
func difference(before, after string) string {
	var text strings.Builder
	old, now := strings.Split(before, "\n"), strings.Split(after, "\n")
	for i := range max(len(old), len(now)) {
		a, b := line(old, i), line(now, i)
		if a != b {
			fmt.Fprintf(&text, "-%s\n+%s\n", a, b)
		}
	}
	return cmp.Or(text.String(), "no difference")
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}
