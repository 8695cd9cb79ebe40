package shepherd

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// A shepherd's life: it is ready, runs one command after the other, and tells how each has ended.

func TestShepherdIsReady(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		if parent := proctest.Look(t, s.pid).Parent; parent != o.pid {
			t.Errorf("its parent is %d, not the watcher %d", parent, o.pid)
		}
		if group := proctest.Look(t, s.pid).Group; group != s.pid {
			t.Errorf("its process group is %d, not its own", group)
		}
		// SIGKILL and SIGSTOP can't be blocked; SIGCHLD is let through while they wait.
		for _, pid := range []int{s.pid, o.pid} {
			eventually(t, "every signal is blocked", func() (string, bool) {
				blocked := proctest.StatusField(t, pid, "SigBlk")
				return blocked, blocked == "fffffffffffafeff" || o.build.emulated
			})
		}
		if session := proctest.Look(t, s.pid).Session; session != proctest.Look(t, os.Getpid()).Session {
			t.Error("its session is not the owner's")
		}
	})
}

func TestCommandRuns(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.shell("echo running; exec sleep $M")
		pid := s.start(spec)
		s.says("running")
		if parent := proctest.Look(t, pid).Parent; parent != s.pid {
			t.Errorf("its parent is %d, not the shepherd %d", parent, s.pid)
		}
		if group := proctest.Look(t, pid).Group; group != pid {
			t.Errorf("its process group is %d, not its own", group)
		}
		switch {
		case len(s.pidfds) == 1:
			info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", s.pidfds[0]))
			must(t, err)
			if !strings.Contains(string(info), fmt.Sprintf("\nPid:\t%d\n", pid)) {
				t.Errorf("the descriptor that came with it is no pidfd of process %d: %s", pid, info)
			}
		case o.build.emulated:
			t.Log("no pidfd came: qemu's user mode refuses clone with CLONE_PIDFD")
		default:
			t.Errorf("%d descriptors came with it", len(s.pidfds))
		}
		s.send(stopRequest{}.append(nil))
		s.endsWith("SIGTERM")
		s.goesOn()
	})
}

func TestStatus(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		for script, status := range map[string]string{
			"exit 0":        "0",
			"exit 3":        "3",
			"exit 255":      "255",
			"kill -KILL $$": "SIGKILL",
			"kill -HUP $$":  "SIGHUP",
			"kill -SEGV $$": "SIGSEGV",
		} {
			s.start(s.shell(script))
			if ended := s.endsWith(status); ended.Reusable != 1 || ended.Left != 0 || ended.Killed != 0 {
				t.Errorf("%s: %+v", script, ended)
			}
		}
	})
}

// An owner that waits only for the end may be told late that its command runs;
// everything else is as it is for the others.
func TestUnawaited(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.spec("true")
		spec.Unawaited = true
		for range 3 {
			s.start(spec)
			s.endsWith("0")
		}
		spec = s.spec("no such program")
		spec.Unawaited = true
		s.request(spec)
		if failed := expect[failedEvent](s.peer, eventFailed); Step(failed.Step) != StepExec || failed.Reusable != 1 {
			t.Errorf("%+v", failed)
		}
		// Requests that come before that word are not lost.
		for request, status := range map[string]string{
			string(killRequest{}.append(nil)):            "SIGKILL",
			string(stopRequest{}.append(nil)):            "SIGTERM",
			string(signalRequest{Signal: 1}.append(nil)): "SIGHUP",
		} {
			spec = s.spec("sleep", o.marker)
			spec.Unawaited = true
			s.request(spec)
			s.send([]byte(request))
			expect[startedEvent](s.peer, eventStarted)
			s.endsWith(status)
		}
		s.goesOn()
		// Nor is a hang-up.
		s.request(spec)
		s.close()
		s.exits()
	})
}

func TestUseOfTheWholeTree(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		// Whoever uses it, and whether its parent has waited for it or not.
		s.start(s.shell("i=0; (while [ $i -lt 30000 ]; do i=$((i+1)); done) & wait; exec setsid true"))
		busy := s.endsWith("0")
		if used := busy.UserTime + busy.SystemTime; used < 5_000 {
			t.Errorf("%d µs of processor time for a long loop", used)
		}
		if busy.MinorFaults == 0 || busy.VoluntarySwitches == 0 {
			t.Errorf("no page faults or no context switches: %+v", busy)
		}
		s.start(s.spec("true"))
		idle := s.endsWith("0")
		if idle.UserTime >= busy.UserTime || idle.MinorFaults >= busy.MinorFaults {
			t.Errorf("the next command's use contains that of the one before: %+v, %+v", busy, idle)
		}
		if o.build.product && idle.MaxRss > 8<<10 {
			t.Errorf("the largest resident set of `true` is %d KiB", idle.MaxRss)
		}
	})
}

func TestReuseLeavesNothing(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		s.goesOn()
		shepherd, watcher := descriptorsOf(t, s.pid), descriptorsOf(t, o.pid)
		spec := s.spec("true")
		times := 1000
		if !o.build.product { // the others are slow
			times = 100
		}
		for range times {
			s.start(spec)
			s.endsWith("0")
			for _, fd := range s.pidfds {
				must(t, unix.Close(fd))
			}
			s.pidfds = nil
		}
		if now := descriptorsOf(t, s.pid); now != shepherd {
			t.Errorf("the shepherd had %d descriptors, and has %d", shepherd, now)
		}
		if now := descriptorsOf(t, o.pid); now != watcher {
			t.Errorf("the watcher had %d descriptors, and has %d", watcher, now)
		}
		if !o.build.product {
			return // its memory is that of the sanitizers, or of qemu
		}
		// While a command runs, after others that were large.
		large := s.spec("true")
		large.Args = append(large.Args, strings.Split(strings.Repeat(strings.Repeat("x", 1000)+" ", 1000), " ")...)
		s.start(large)
		s.endsWith("0")
		s.start(s.shell("echo running; exec sleep $M"))
		s.says("running")
		if private := privateKiB(t, s.pid); private > 32 {
			t.Errorf("%d kB of private memory while a command runs", private)
		}
	})
}

func privateKiB(t *testing.T, pid int) (sum int) {
	t.Helper()
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	must(t, err)
	for _, match := range regexp.MustCompile(`Private_\w+: +(\d+) kB`).FindAllSubmatch(rollup, -1) {
		n, err := strconv.Atoi(string(match[1]))
		must(t, err)
		sum += n
	}
	return sum
}
