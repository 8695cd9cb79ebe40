package shepherd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// These tests speak the protocol with a real helper and look at what becomes of
// its processes from outside, in /proc. Each runs with every build of the
// helper, and each ends with the owner's hang-up, after which nothing may be
// left: see owner.leaveNothing.

// stranger is a user without privileges who has no process on this machine.
const stranger = 61_184

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("this test runs the helper as another user, and is not run by root")
	}
}

func needProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// ---- a shepherd's life ----

func TestShepherdIsReady(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		if parent := stat(s.pid)[1]; parent != strconv.Itoa(o.pid) {
			t.Errorf("its parent is %s, not the watcher %d", parent, o.pid)
		}
		if group := groupOf(s.pid); group != strconv.Itoa(s.pid) {
			t.Errorf("its process group is %s, not its own", group)
		}
		// SIGKILL and SIGSTOP can't be blocked; SIGCHLD is let through while they wait.
		for _, pid := range []int{s.pid, o.pid} {
			eventually(t, "every signal is blocked", func() (string, bool) {
				blocked := statusLine(t, pid, "SigBlk")
				return blocked, blocked == "fffffffffffafeff" || o.build.emulated
			})
		}
		if session := stat(s.pid)[3]; session != stat(os.Getpid())[3] {
			t.Error("its session is not the owner's")
		}
	})
}

func statusLine(t *testing.T, pid int, name string) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(status), "\n"+name+":\t")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

func TestCommandRuns(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.shell("echo running; exec sleep $M")
		pid := s.start(spec)
		s.says("running")
		if parent := stat(pid)[1]; parent != strconv.Itoa(s.pid) {
			t.Errorf("its parent is %s, not the shepherd %d", parent, s.pid)
		}
		if group := groupOf(pid); group != strconv.Itoa(pid) {
			t.Errorf("its process group is %s, not its own", group)
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

// ---- what a command sees ----

func TestWhatACommandSees(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		// output runs a program and returns what it writes.
		output := func(change func(*Spec), argv ...string) string {
			t.Helper()
			spec := s.spec(argv...)
			r, w, err := os.Pipe()
			must(t, err)
			defer r.Close() //nolint:errcheck // only read
			spec.Descriptors[1] = int(w.Fd())
			if change != nil {
				change(spec)
			}
			s.start(spec)
			must(t, w.Close())
			out, err := io.ReadAll(r)
			must(t, err)
			s.endsWith("0")
			return string(out)
		}

		if got := strings.Fields(output(nil, "ls", "/proc/self/fd")); !slices.Equal(got, []string{"0", "1", "2", "3"}) {
			t.Errorf("its descriptors are %v; 0, 1, 2 were given, 3 is that of ls itself", got)
		}
		more := func(spec *Spec) {
			spec.Descriptors = append(spec.Descriptors, spec.Descriptors[0], spec.Descriptors[2])
		}
		if got := strings.Fields(output(more, "ls", "/proc/self/fd")); len(got) != 6 {
			t.Errorf("its descriptors are %v, and two more were given", got)
		}

		status := output(nil, "cat", "/proc/self/status")
		for _, signals := range []string{"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"} {
			if !strings.Contains(status, signals+":\t0000000000000000\n") {
				t.Errorf("%s is not empty:\n%s", signals, status)
			}
		}

		dir := t.TempDir()
		there := func(spec *Spec) { spec.Directory = int(openFile(t, dir).Fd()) }
		if got := output(there, "pwd", "-P"); got != dir+"\n" {
			t.Errorf("its directory is %q, not %q", got, dir)
		}

		exactly := func(spec *Spec) { spec.Env = []string{"A=1", "A=2", "no equals sign", "B=", "M=" + o.marker} }
		if got, want := output(exactly, "cat", "/proc/self/environ"), "A=1\x00A=2\x00no equals sign\x00B=\x00M="+o.marker+"\x00"; got != want {
			t.Errorf("its environment is %q, not %q", got, want)
		}
		if got := output(func(spec *Spec) { spec.Env = nil }, "cat", "/proc/self/environ"); got != "" {
			t.Errorf("its environment is %q, and none was given", got)
		}
		if got := output(nil, "printf", "[%s]", "", "-", "a  b", "\xff"); got != "[][-][a  b][\xff]" {
			t.Errorf("its arguments are %q", got)
		}

		self, err := os.Executable()
		must(t, err)
		asked := func(spec *Spec) { spec.Env = append(spec.Env, programVariable+"=parent-death-signal") }
		if got := output(asked, self); got != "9\n" {
			t.Errorf("its parent-death signal is %q, not SIGKILL", got)
		}
	})
}

func TestEveryArgumentArrives(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		for _, count := range []int{0, 1, 50, 5_000, 45_000} { // the last are two thirds of what the kernel takes
			spec := s.spec(append([]string{"sh", "-c", `echo $#; eval echo \"\${$#}\"`, "sh"}, slices.Repeat([]string{"twelve bytes"}, count)...)...)
			r, w, err := os.Pipe()
			must(t, err)
			spec.Descriptors[1] = int(w.Fd())
			s.start(spec)
			must(t, w.Close())
			got, err := io.ReadAll(r)
			must(t, err)
			must(t, r.Close())
			last := "twelve bytes"
			if count == 0 {
				last = "sh"
			}
			if want := fmt.Sprintf("%d\n%s\n", count, last); string(got) != want {
				t.Errorf("of %d arguments it sees %q", count, got)
			}
			s.endsWith("0")
		}
	})
}

func TestDescriptorsInAnyOrder(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		// As many as one message can carry, each a file of its own.
		spec := s.spec("sh", "-c", "cat <&0; cat <&3; cat <&9")
		r, w, err := os.Pipe()
		must(t, err)
		dir := t.TempDir()
		for i := range MaxDescriptors {
			path := filepath.Join(dir, strconv.Itoa(i))
			must(t, os.WriteFile(path, fmt.Appendf(nil, "%d\n", i), 0o600))
			fd := int(openFile(t, path).Fd())
			if i < 3 {
				spec.Descriptors[i] = fd
			} else {
				spec.Descriptors = append(spec.Descriptors, fd)
			}
		}
		spec.Descriptors[1] = int(w.Fd())
		s.start(spec)
		must(t, w.Close())
		got, err := io.ReadAll(r)
		must(t, err)
		must(t, r.Close())
		if string(got) != "0\n3\n9\n" {
			t.Errorf("descriptors 0, 3 and 9 say %q", got)
		}
		s.endsWith("0")
		s.goesOn()
	})
}

// ---- what can go wrong before a command runs ----

func TestStepsThatFail(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(content), mode))
		return path
	}
	plain := file("plain", "no program", 0o644)
	text := file("text", "no interpreter line", 0o755)
	orphan := file("orphan", "#!/no/such/interpreter\n", 0o755)
	tests := []struct {
		name   string
		change func(*Spec)
		step   Step
		errno  syscall.Errno
	}{
		{"program not found", func(s *Spec) { s.Path = filepath.Join(dir, "missing") }, StepExec, syscall.ENOENT},
		{"empty path", func(s *Spec) { s.Path = "" }, StepExec, syscall.ENOENT},
		{"interpreter not found", func(s *Spec) { s.Path = orphan }, StepExec, syscall.ENOENT},
		{"program without permission", func(s *Spec) { s.Path = plain }, StepExec, syscall.EACCES},
		{"a directory", func(s *Spec) { s.Path = dir }, StepExec, syscall.EACCES},
		{"a file in place of a directory", func(s *Spec) { s.Path = plain + "/x" }, StepExec, syscall.ENOTDIR},
		{"no program's format", func(s *Spec) { s.Path = text }, StepExec, syscall.ENOEXEC},
		{"one argument too long", func(s *Spec) { s.Args = append(s.Args, strings.Repeat("x", 128<<10)) }, StepExec, syscall.E2BIG},
		{"arguments too long together", func(s *Spec) { s.Args = slices.Repeat([]string{strings.Repeat("x", 100<<10)}, 80) }, StepExec, syscall.E2BIG},
		{"group that is not there", func(s *Spec) { s.Group = 1 << 22 }, StepGroup, syscall.EPERM},
		{"group below zero", func(s *Spec) { s.Group = -1 }, StepGroup, syscall.EINVAL},
		{"directory that is a file", func(s *Spec) { s.Directory = s.Descriptors[0] }, StepDirectory, syscall.ENOTDIR},
	}
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		s.goesOn()
		before := descriptorsOf(t, s.pid)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				s.in(t)
				spec := s.spec("true")
				test.change(spec)
				s.request(spec)
				failed := expect[failedEvent](s.peer, eventFailed)
				if Step(failed.Step) != test.step || syscall.Errno(failed.Error) != test.errno || failed.Reusable != 1 {
					t.Errorf("%v: %v, reusable %d; it should be %v: %v", Step(failed.Step), syscall.Errno(failed.Error), failed.Reusable, test.step, test.errno)
				}
				s.goesOn()
			})
		}
		s.in(t)
		if now := descriptorsOf(t, s.pid); now != before {
			t.Errorf("the shepherd had %d descriptors, and has %d", before, now)
		}
	})
}

// After these the rest of the request may still be in the socket, so that the
// shepherd can't go on.
func TestStepsThatEndTheShepherd(t *testing.T) {
	limit := func(resource int, to uint64) func(*testing.T, *ward) {
		return func(t *testing.T, s *ward) {
			var limit unix.Rlimit
			must(t, unix.Prlimit(s.pid, resource, nil, &limit))
			limit.Cur = to
			must(t, unix.Prlimit(s.pid, resource, &limit, nil))
		}
	}
	// The shepherd has 0, 1, 2, its socket, and a pidfd of its owner.
	tests := []struct {
		name   string
		start  start
		before func(*testing.T, *ward)
		change func(*startRequest, []byte) []byte // of the strings
		step   Step
		errno  syscall.Errno
	}{
		{
			name:   "strings without an end",
			change: func(_ *startRequest, strings []byte) []byte { return bytes.TrimRight(strings, "\x00") },
			step:   StepStrings, errno: syscall.EPROTO,
		},
		{
			name:   "more strings than counted",
			change: func(r *startRequest, strings []byte) []byte { r.Environment--; return strings },
			step:   StepStrings, errno: syscall.EPROTO,
		},
		{
			name:   "fewer strings than counted",
			change: func(r *startRequest, strings []byte) []byte { r.Arguments++; return strings },
			step:   StepStrings, errno: syscall.EPROTO,
		},
		{name: "no descriptor free for what comes", before: limit(unix.RLIMIT_NOFILE, 6), step: StepDescriptors, errno: syscall.EMFILE},
		{name: "no descriptor free for a pipe", before: limit(unix.RLIMIT_NOFILE, 10), step: StepFork, errno: syscall.EMFILE},
		{name: "no process free", start: start{user: stranger, before: []string{"prlimit", "--nproc=2:2"}}, step: StepFork, errno: syscall.EAGAIN},
		{
			name: "no memory for the strings", before: limit(unix.RLIMIT_AS, 1<<20), step: StepFork, errno: syscall.ENOMEM,
			change: func(_ *startRequest, strings []byte) []byte { return append(make([]byte, 4<<20), strings...) },
		},
	}
	eachBuild(t, func(t *testing.T, b build) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				how := test.start
				if how.user != 0 {
					needRoot(t)
					how.before = append([]string{needProgram(t, how.before[0])}, how.before[1:]...)
				}
				if test.errno == syscall.ENOMEM && (b.emulated || b.sanitized) {
					t.Skip("an address space of 1 MiB is too small for qemu and for AddressSanitizer")
				}
				if test.errno == syscall.EAGAIN && b.emulated {
					t.Skip("qemu's user mode has threads of its own, so that no limit fits")
				}
				if test.errno == syscall.EMFILE && b.emulated {
					t.Skip("qemu's user mode keeps descriptors of its own, so that no limit fits")
				}
				o := startOwner(t, b, &how)
				s := o.shepherd()
				if test.before != nil {
					test.before(t, s)
				}
				s.sendStart(s.spec("true"), test.change)
				failed := expect[failedEvent](s.peer, eventFailed)
				if Step(failed.Step) != test.step || syscall.Errno(failed.Error) != test.errno || failed.Reusable != 0 {
					t.Errorf("%v: %v, reusable %d; it should be %v: %v", Step(failed.Step), syscall.Errno(failed.Error), failed.Reusable, test.step, test.errno)
				}
				s.hangsUp()
				s.exits()
			})
		}
	})
}

// sendStart sends a request that appendStart would not make.
func (s *ward) sendStart(spec *Spec, change func(*startRequest, []byte) []byte) {
	s.t.Helper()
	frame, err := appendStart(nil, spec)
	must(s.t, err)
	var request startRequest
	n, err := binary.Decode(frame[headSize:], order, &request)
	must(s.t, err)
	text := frame[headSize+n:]
	if change != nil {
		text = change(&request, text)
	}
	request.Strings = uint32(len(text))
	err = s.trySend(append(request.append(nil), text...), append(spec.Descriptors[:len(spec.Descriptors):len(spec.Descriptors)], spec.Directory)...)
	if err != nil && !errors.Is(err, syscall.EPIPE) { // it may have had enough before it was all sent
		s.t.Fatal(err)
	}
}

// A descriptor that is in place only after a limit: the child is the one to see it.
func TestNoRoomForADescriptor(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		if b.emulated {
			t.Skip("qemu's user mode keeps descriptors of its own, so that no limit fits")
		}
		o := startOwner(t, b, nil)
		s := o.shepherd()
		spec := s.spec("true")
		spec.Descriptors = slices.Repeat(spec.Descriptors, 4)
		// 0, 1, 2, socket, owner, twelve and the directory, both ends of the pipe, its pidfd: and then twelve more.
		must(t, unix.Prlimit(s.pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 24, Max: 24}, nil))
		s.request(spec)
		failed := expect[failedEvent](s.peer, eventFailed)
		if Step(failed.Step) != StepDescriptors || syscall.Errno(failed.Error) != syscall.EMFILE || failed.Reusable != 1 {
			t.Errorf("%v: %v, reusable %d", Step(failed.Step), syscall.Errno(failed.Error), failed.Reusable)
		}
		s.goesOn()
	})
}

func TestNoShepherdCanBeForked(t *testing.T) {
	needRoot(t)
	eachBuild(t, func(t *testing.T, b build) {
		if b.emulated {
			t.Skip("qemu's user mode has threads of its own, so that no limit fits")
		}
		o := startOwner(t, b, &start{user: stranger, before: []string{needProgram(t, "prlimit"), "--nproc=1:1"}})
		s := o.unreadyShepherd()
		failed := expect[failedEvent](s.peer, eventFailed)
		if Step(failed.Step) != StepShepherd || syscall.Errno(failed.Error) != syscall.EAGAIN {
			t.Errorf("%v: %v", Step(failed.Step), syscall.Errno(failed.Error))
		}
		s.hangsUp()
	})
}

func TestNoDescriptorForAShepherd(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		if o.build.emulated {
			t.Skip("qemu's user mode keeps descriptors of its own, so that no limit fits")
		}
		o.shepherd().goesOn()
		must(t, unix.Prlimit(o.pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 5, Max: 20}, nil))
		o.unreadyShepherd().hangsUp()
		must(t, unix.Prlimit(o.pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 20, Max: 20}, nil))
		o.shepherd().goesOn()
	})
}

// The kernel counts the descriptors that a user has sent and that nobody has
// received. Beyond the sender's limit they stay behind, and not the command.
func TestTooManyDescriptorsOnTheirWay(t *testing.T) {
	needRoot(t)
	eachBuild(t, func(t *testing.T, b build) {
		self, err := os.Executable()
		must(t, err)
		program := filepath.Join(buildDirectoryFor(t), "test-program")
		copyFile(t, self, program, 0o755)
		o := startOwner(t, b, &start{user: stranger, before: []string{needProgram(t, "prlimit"), "--nofile=100:100"}})
		s := o.shepherd()
		holder := exec.Command(program)
		holder.Env = []string{programVariable + "=descriptors-in-air", "M=" + o.marker}
		holder.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
		in, err := holder.StdinPipe()
		must(t, err)
		out, err := holder.StdoutPipe()
		must(t, err)
		must(t, holder.Start())
		defer holder.Process.Kill() //nolint:errcheck // it has gone, if all is well
		if _, err := out.Read(make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		s.goesOn()
		if len(s.pidfds) != 0 {
			t.Errorf("%d descriptors came; the test has not made the kernel refuse them", len(s.pidfds))
		}
		must(t, in.Close())
		must(t, holder.Wait())
	})
}

// buildDirectoryFor is a directory that other users may enter.
func buildDirectoryFor(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "netrunner-test-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	content, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, content, 0o600))
	must(t, os.Chmod(to, mode)) // whatever the umask, and set-uid too
}

// ---- signals, stop and kill ----

func TestSignalsReachTheGroup(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		pid := s.start(s.shell("sleep $M & setsid sleep $M & echo running; wait"))
		s.says("running")
		var inGroup, outside int
		for _, sleeper := range o.awaitSleepers(2) {
			if groupOf(sleeper) == strconv.Itoa(pid) {
				inGroup = sleeper
			} else {
				outside = sleeper
			}
		}
		s.send(signalRequest{Signal: uint32(syscall.SIGSTOP)}.append(nil))
		awaitState(t, pid, "T")
		awaitState(t, inGroup, "T")
		if state := stat(outside)[0]; state != "S" {
			t.Errorf("a process outside the group is in state %s", state)
		}
		s.send(signalRequest{Signal: uint32(syscall.SIGCONT)}.append(nil))
		awaitState(t, pid, "S")
		awaitState(t, inGroup, "S")
		s.send(signalRequest{Signal: uint32(syscall.SIGHUP)}.append(nil))
		if ended := s.endsWith("SIGHUP"); ended.Killed != 1 {
			t.Errorf("%d were killed; only the one outside the group was left", ended.Killed)
		}
	})
}

func TestRequestsOneAfterTheOther(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		// All in one message: none is lost, and none overtakes another.
		pid := s.start(s.spec("sleep", o.marker))
		var frames []byte
		frames = signalRequest{Signal: uint32(syscall.SIGSTOP)}.append(frames)
		frames = signalRequest{Signal: uint32(syscall.SIGWINCH)}.append(frames)
		frames = stopRequest{}.append(frames)
		frames = stopRequest{}.append(frames)
		awaitGone := watchExit(t, pid)
		s.send(frames)
		s.endsWith("SIGTERM")
		awaitGone()
		// What comes when nothing runs any more is not for the next command.
		s.send(killRequest{}.append(stopRequest{}.append(signalRequest{Signal: 9}.append(nil))))
		s.goesOn()
	})
}

// A command in its owner's group: the signals are for it alone.
func TestCommandInAGroupOfOthers(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		leader := exec.Command("sleep", o.marker)
		leader.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		must(t, leader.Start())
		s := o.shepherd()
		spec := s.shell("sleep $M & echo running; exec sleep $M")
		spec.Group = leader.Process.Pid
		pid := s.start(spec)
		s.says("running")
		if group := groupOf(pid); group != strconv.Itoa(leader.Process.Pid) {
			t.Errorf("its group is %s, not %d", group, leader.Process.Pid)
		}
		o.awaitSleepers(3)
		s.send(signalRequest{Signal: uint32(syscall.SIGSTOP)}.append(nil))
		awaitState(t, pid, "T")
		if state := stat(leader.Process.Pid)[0]; state != "S" {
			t.Errorf("the group's leader, which is not ours, is in state %s", state)
		}
		s.send(stopRequest{}.append(nil))
		s.endsWith("SIGTERM")
		if left := o.sleepers(); !slices.Equal(left, []int{leader.Process.Pid}) {
			t.Errorf("there are %v, of which %d is not ours", left, leader.Process.Pid)
		}
		must(t, leader.Process.Kill())
		_ = leader.Wait()
	})
}

func TestStop(t *testing.T) {
	const short = 100 * time.Millisecond
	tests := []struct {
		name, script string
		change       func(*Spec)
		status       string
		killed       uint32
		atLeast      time.Duration
	}{
		{"obeyed", "echo running; exec sleep $M", nil, "SIGTERM", 0, 0},
		{"obeyed in its own way", "sleep $M & trap 'exit 7' TERM; echo running; wait", nil, "7", 0, 0},
		{"another signal", "echo running; exec sleep $M", func(s *Spec) { s.StopSignal = syscall.SIGUSR1 }, "SIGUSR1", 0, 0},
		{"by SIGKILL", "trap '' TERM; sleep $M & echo running; wait", func(s *Spec) { s.StopSignal = syscall.SIGKILL }, "SIGKILL", 1, 0},
		{"ignored", "trap '' TERM; sleep $M & echo running; wait", func(s *Spec) { s.Grace = short }, "SIGKILL", 1, short},
		{"without grace", "trap '' TERM; sleep $M & echo running; wait", func(s *Spec) { s.Grace = 0 }, "SIGKILL", 1, 0},
		{"of what is stopped", "sleep $M & echo running; kill -STOP $$; exit 8", nil, "SIGTERM", 0, 0},
		{"obeyed, with a descendant elsewhere that obeys", "setsid sleep $M & echo running; wait", nil, "SIGTERM", 0, 0},
		{
			"obeyed, with a descendant elsewhere that ignores it", "setsid sh -c \"trap '' TERM; exec sleep $M\" & echo running; wait",
			func(s *Spec) { s.Grace = short }, "SIGTERM", 1, short,
		},
	}
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				s.in(t)
				spec := s.shell(test.script)
				if test.change != nil {
					test.change(spec)
				}
				pid := s.start(spec)
				s.says("running")
				if strings.Contains(test.script, "kill -STOP") {
					awaitState(t, pid, "T")
				}
				o.awaitSleepers(1)
				begin := time.Now()
				s.send(stopRequest{}.append(nil))
				ended := s.endsWith(test.status)
				if took := time.Since(begin); took < test.atLeast {
					t.Errorf("it took %v, less than the grace", took)
				}
				if ended.Killed != test.killed || ended.Left != 0 || ended.Reusable != 1 {
					t.Errorf("%+v", ended)
				}
				if left := o.sleepers(); len(left) != 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
		s.in(t)
		s.goesOn()
	})
}

func TestKillWhileStopping(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		s.start(s.shell("trap 'echo told' TERM; echo running; sleep $M & while :; do wait; done"))
		s.says("running")
		s.send(stopRequest{}.append(nil))
		s.says("told")
		s.send(signalRequest{Signal: uint32(syscall.SIGTERM)}.append(nil)) // it is still relayed
		s.says("told")
		s.send(killRequest{}.append(nil))
		s.endsWith("SIGKILL")
		s.goesOn()
	})
}

// ---- what a command leaves behind ----

// trees are the shapes that what a command starts can have. Each says "running"
// and has some `sleep` of its own.
var trees = []struct {
	name, script string
	sleepers     int
}{
	{"child", "sleep $M & echo running; wait", 1},
	{"ignoring SIGTERM", "trap '' TERM HUP INT; sleep $M & echo running; while :; do wait; done", 1},
	{"new session", "setsid sleep $M & echo running; wait", 1},
	{"daemon", "(setsid sh -c 'cd /; sleep $M & ' </dev/null >/dev/null 2>&1 & ); echo running; sleep $M & wait", 2},
	{"daemon without environment", "(setsid env -i sh -c \"cd /; sleep $M &\" </dev/null >/dev/null 2>&1 & ); echo running; sleep $M & wait", 2},
	{"nohup", "nohup sleep $M >/dev/null 2>&1 & echo running; wait", 1},
	{"stopped", "sh -c 'kill -STOP $$' $M & setsid sh -c 'kill -STOP $$' $M & sleep $M & echo running; wait", 1},
	{"many", "for i in 1 2 3 4 5 6 7 8 9 10; do setsid sleep $M & sleep $M & done; echo running; wait", 20},
}

func TestKillEveryTree(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		for _, tree := range trees {
			t.Run(tree.name, func(t *testing.T) {
				s.in(t)
				s.start(s.shell(tree.script))
				s.says("running")
				o.awaitSleepers(tree.sleepers)
				s.send(killRequest{}.append(nil))
				ended := s.endsWith("SIGKILL")
				if int(ended.Killed) < tree.sleepers || ended.Left != 0 || ended.Reusable != 1 {
					t.Errorf("%+v", ended)
				}
				if left := o.sleepers(); len(left) != 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
		s.in(t)
		s.goesOn()
	})
}

func TestExitClearsEveryTree(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		for _, tree := range trees {
			t.Run(tree.name, func(t *testing.T) {
				s.in(t)
				// Instead of waiting for its children, the command waits for a word and exits.
				r, w, err := os.Pipe()
				must(t, err)
				script := regexp.MustCompile(`wait$|while :; do wait; done$`).ReplaceAllString(tree.script, "read word; exit 5")
				spec := s.shell(script)
				spec.Descriptors[0] = int(r.Fd())
				s.start(spec)
				must(t, r.Close())
				s.says("running")
				o.awaitSleepers(tree.sleepers)
				must(t, w.Close())
				ended := s.endsWith("5")
				if int(ended.Killed) < tree.sleepers || ended.Left != 0 || ended.Reusable != 1 {
					t.Errorf("%+v", ended)
				}
				if left := o.sleepers(); len(left) != 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
	})
}

// Chains of processes, each of which lives only until it has forked the next:
// four in the command's group, four in sessions of their own.
func TestFasterThanItIsKilled(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		chain := "f() { f & }; f"
		s.start(s.shell("for i in 1 2 3 4; do (" + chain + ") & setsid sh -c '" + chain + "' & done; echo running; sleep 0.2; exit 6"))
		s.says("running")
		if ended := s.endsWith("6"); ended.Left != 0 || ended.Killed == 0 {
			t.Errorf("%+v", ended)
		}
		s.goesOn()
	})
}

func TestLeave(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		// One of its children is dead and not reaped when it exits: that one is not left.
		// (A shell reaps when it likes, Perl when it is told to.)
		r, w, err := os.Pipe()
		must(t, err)
		spec := s.shell("setsid sleep $M & sleep $M & " +
			`exec perl -e '$| = 1; my $child = fork || exit; print "$child\n"; <STDIN>; exec "true"'`)
		spec.Descriptors[0] = int(r.Fd())
		spec.Leave = true
		s.start(spec)
		must(t, r.Close())
		line, err := s.out.ReadString('\n')
		must(t, err)
		dead, err := strconv.Atoi(strings.TrimSpace(line))
		must(t, err)
		awaitState(t, dead, "Z")
		o.awaitSleepers(2)
		must(t, w.Close())
		ended := s.endsWith("0")
		if ended.Left != 2 || ended.Killed != 0 || ended.Reusable != 0 {
			t.Errorf("%+v", ended)
		}
		s.hangsUp()
		sleepers := o.awaitSleepers(2)
		for _, pid := range sleepers {
			if !slices.Contains(ended.LeftPids[:2], uint32(pid)) {
				t.Errorf("process %d is left, and is not in %v", pid, ended.LeftPids)
			}
			if parent := stat(pid)[1]; parent != strconv.Itoa(s.pid) {
				t.Errorf("the parent of what is left is %s, not the shepherd", parent)
			}
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.pid))
		must(t, err)
		if strings.TrimSpace(string(comm)) != "netrunner: left" {
			t.Errorf("its parent calls itself %q", comm)
		}
		// The watcher goes, since nothing has to be guarded; what is left stays.
		o.control.close()
		o.watcherExits()
		if left := o.sleepers(); len(left) != 2 {
			t.Errorf("of 2 that are left on purpose there are %v", left)
		}
		for _, pid := range sleepers {
			must(t, syscall.Kill(pid, syscall.SIGKILL))
		}
		s.exits()
	})
}

func TestLeaveWhenNothingIsLeft(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		// The command's child is dead and has not been waited for: it is not left.
		r, w, err := os.Pipe()
		must(t, err)
		spec := s.shell("true & exec cat <&3")
		spec.Descriptors = append(spec.Descriptors, int(r.Fd()))
		spec.Leave = true
		pid := s.start(spec)
		must(t, r.Close())
		eventually(t, "a dead child", func() (string, bool) {
			children := childrenOf(t, pid)
			if len(children) != 1 {
				return fmt.Sprint(children), false
			}
			child, err := strconv.Atoi(children[0])
			must(t, err)
			return stat(child)[0], stat(child)[0] == "Z"
		})
		must(t, w.Close())
		if ended := s.endsWith("0"); ended.Left != 0 || ended.Reusable != 1 {
			t.Errorf("%+v", ended)
		}
		s.goesOn()
	})
}

// What is told to stay is not told so when it is stopped.
func TestStopLeavesNothing(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		spec := s.shell("setsid sleep $M & echo running; exec sleep $M")
		spec.Leave = true
		s.start(spec)
		s.says("running")
		o.awaitSleepers(2)
		s.send(stopRequest{}.append(nil))
		if ended := s.endsWith("SIGTERM"); ended.Left != 0 {
			t.Errorf("%+v", ended)
		}
	})
}

// A descendant that has become another user can't be signalled by one without
// privileges. It is reported, and not waited for.
func TestWhatMayNotBeKilled(t *testing.T) {
	needRoot(t)
	setpriv := needProgram(t, "setpriv")
	eachBuild(t, func(t *testing.T, b build) {
		needOrphans(t, b)
		dir := buildDirectoryFor(t)
		become := filepath.Join(dir, "setpriv")
		copyFile(t, setpriv, become, 0o755|os.ModeSetuid)
		var fs unix.Statfs_t
		must(t, unix.Statfs(dir, &fs))
		if fs.Flags&unix.ST_NOSUID != 0 {
			t.Skipf("%s is mounted nosuid", dir)
		}
		script := become + " --reuid=0 sleep $M & while ! pgrep -U 0 -f $M >/dev/null; do :; done; echo running; read word"
		for _, ending := range []string{"killed", "shepherd killed"} {
			t.Run(ending, func(t *testing.T) {
				needProgram(t, "pgrep")
				o := startOwner(t, b, &start{user: stranger})
				s := o.shepherd()
				r, w, err := os.Pipe()
				must(t, err)
				defer w.Close() //nolint:errcheck // never written to
				spec := s.shell(script)
				spec.Descriptors[0] = int(r.Fd())
				s.start(spec)
				must(t, r.Close())
				s.says("running")
				immune := o.awaitSleepers(1)[0]
				if ending == "killed" {
					s.send(killRequest{}.append(nil))
					ended := s.endsWith("SIGKILL")
					if ended.Left != 1 || ended.LeftPids[0] != uint32(immune) || ended.Reusable != 0 {
						t.Errorf("%+v", ended)
					}
					s.hangsUp()
				} else {
					must(t, syscall.Kill(s.pid, syscall.SIGKILL))
					s.hangsUp()
					o.control.send(settleRequest{Shepherd: uint32(s.pid)}.append(nil))
					if settled := expect[settledEvent](o.control, eventSettled); settled.Left != 1 {
						t.Errorf("%+v", settled)
					}
				}
				must(t, syscall.Kill(immune, syscall.SIGKILL))
			})
		}
	})
}

// ---- the owner is gone ----

func TestHangUp(t *testing.T) {
	const obeys, ignores = "echo running; exec sleep $M", "trap '' TERM; echo running; sleep $M & while :; do wait; done"
	tests := []struct {
		name    string
		prepare func(*testing.T, *ward)
	}{
		{"before the first event", func(*testing.T, *ward) {}},
		{"idle", func(_ *testing.T, s *ward) { s.goesOn() }},
		{"after half a head", func(_ *testing.T, s *ward) { s.send([]byte{8, 0, 0}) }},
		{"after half a request", func(_ *testing.T, s *ward) { s.send(startRequest{}.append(nil)[:30]) }},
		{"after half the strings", func(t *testing.T, s *ward) {
			spec := s.spec("sleep", s.owner.marker)
			frame, err := appendStart(nil, spec)
			must(t, err)
			s.send(frame[:len(frame)-10], append(spec.Descriptors, spec.Directory)...)
			eventually(t, "a child that reads", func() (string, bool) { return "", len(childrenOf(t, s.pid)) == 1 })
		}},
		{"after a whole request", func(_ *testing.T, s *ward) { s.request(s.spec("sleep", s.owner.marker)) }},
		{"running", func(_ *testing.T, s *ward) {
			s.start(s.shell(obeys))
			s.says("running")
		}},
		{"running what ignores it", func(_ *testing.T, s *ward) {
			spec := s.shell(ignores)
			spec.Grace = 50 * time.Millisecond
			s.start(spec)
			s.says("running")
		}},
		{"running, without grace", func(_ *testing.T, s *ward) {
			spec := s.shell(ignores)
			spec.Grace = 0
			s.start(spec)
			s.says("running")
		}},
		{"stopping", func(_ *testing.T, s *ward) {
			spec := s.shell("trap 'echo told' TERM; echo running; sleep $M & while :; do wait; done")
			spec.Grace = 100 * time.Millisecond
			s.start(spec)
			s.says("running")
			s.send(stopRequest{}.append(nil))
			s.says("told")
		}},
		{"clearing", func(_ *testing.T, s *ward) {
			s.start(s.shell(trees[len(trees)-1].script))
			s.says("running")
			s.send(killRequest{}.append(nil))
		}},
		{"ended, not yet read", func(t *testing.T, s *ward) {
			s.request(s.spec("true"))
			eventually(t, "both events", func() (string, bool) {
				raw, err := s.conn.SyscallConn()
				must(t, err)
				var n int
				must(t, raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }))
				must(t, err)
				return strconv.Itoa(n), n > 100
			})
		}},
	}
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				o.in(t)
				s := o.shepherd()
				test.prepare(t, s)
				s.close()
				s.exits()
				if left := o.sleepers(); len(left) != 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
		o.in(t)
	})
}

// However early the owner is gone: what runs is told to stop before it is killed.
func TestHangUpWhenItHasJustStarted(t *testing.T) {
	conform(t, func(_ *testing.T, o *owner) {
		for _, unawaited := range []bool{false, true} {
			s := o.shepherd()
			spec := s.shell("trap 'echo told; exit' TERM; echo running; while :; do sleep 0.01; done")
			spec.Unawaited = unawaited
			s.request(spec)
			s.says("running")
			s.close()
			s.says("told")
			s.exits()
		}
	})
}

// The owner's end of every socket has leaked into another process, here the
// test, so that its death hangs nothing up.
func TestOwnersDeathWithoutHangUp(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		needOrphans(t, b)
		if b.emulated && !pidfdUnderQemu(t, b) {
			t.Skip("this qemu-aarch64-static has no pidfd_open")
		}
		self, err := os.Executable()
		must(t, err)
		o := startOwner(t, b, &start{before: []string{self}, env: []string{programVariable + "=owner"}})
		for _, script := range []string{"", "echo running; exec sleep $M", "trap '' TERM; echo running; sleep $M & while :; do wait; done"} {
			s := o.shepherd()
			defer s.exits()
			if script != "" {
				spec := s.shell(script)
				spec.Grace = 10 * time.Millisecond
				s.start(spec)
				s.says("running")
			}
		}
		must(t, syscall.Kill(o.pid, syscall.SIGKILL))
		eventually(t, "nothing is left", func() (string, bool) {
			left := o.processes()
			return fmt.Sprint(left), len(left) == 0
		})
	})
}

// pidfdUnderQemu: whether a watcher has a pidfd of its owner.
func pidfdUnderQemu(t *testing.T, b build) bool {
	t.Helper()
	o := startOwner(t, b, nil)
	o.shepherd()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", o.pid))
	must(t, err)
	return slices.ContainsFunc(links, func(link string) bool {
		target, _ := os.Readlink(link)
		return strings.Contains(target, "pidfd")
	})
}

// ---- the watchdogs themselves die ----

func TestShepherdKilled(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		for _, tree := range trees {
			t.Run(tree.name, func(t *testing.T) {
				o.in(t)
				s := o.shepherd()
				s.start(s.shell(tree.script))
				s.says("running")
				o.awaitSleepers(tree.sleepers)
				must(t, syscall.Kill(s.pid, syscall.SIGKILL))
				s.hangsUp()
				// The answer is the watcher's word that nothing is left.
				o.control.send(settleRequest{Shepherd: uint32(s.pid)}.append(nil))
				if settled := expect[settledEvent](o.control, eventSettled); settled.Left != 0 {
					t.Errorf("%+v", settled)
				}
				if left := o.sleepers(); len(left) != 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
		o.in(t)
		o.shepherd().goesOn()
	})
}

// The owner asks, and is gone before it is told.
func TestSettleForNobody(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		must(t, syscall.Kill(o.pid, syscall.SIGSTOP))
		awaitState(t, o.pid, "T")
		o.control.send(settleRequest{Shepherd: 1}.append(nil))
		o.control.close()
		must(t, syscall.Kill(o.pid, syscall.SIGCONT))
		o.watcherExits()
	})
}

// Not every SIGCHLD is for a child that has died.
func TestSIGCHLDForNoDeath(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		for _, unawaited := range []bool{false, true} {
			s := o.shepherd()
			must(t, syscall.Kill(s.pid, syscall.SIGCHLD))
			must(t, syscall.Kill(o.pid, syscall.SIGCHLD))
			spec := s.shell("echo running; exec sleep $M")
			spec.Unawaited = unawaited
			frame, err := appendStart(nil, spec)
			must(t, err)
			s.send(frame[:len(frame)-10], append(spec.Descriptors, spec.Directory)...)
			eventually(t, "a child that reads", func() (string, bool) { return "", len(childrenOf(t, s.pid)) == 1 })
			for range 10 {
				must(t, syscall.Kill(s.pid, syscall.SIGCHLD))
			}
			s.send(frame[len(frame)-10:])
			expect[startedEvent](s.peer, eventStarted)
			s.says("running")
			must(t, syscall.Kill(s.pid, syscall.SIGCHLD))
			s.send(stopRequest{}.append(nil))
			s.endsWith("SIGTERM")
		}
	})
}

// While the child still reads its strings, its shepherd is killed, and the
// watcher happens not to get to it: the program does not run.
func TestShepherdKilledBeforeExec(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.shell("echo running; exec sleep $M")
		frame, err := appendStart(nil, spec)
		must(t, err)
		s.send(frame[:len(frame)-10], append(spec.Descriptors, spec.Directory)...)
		var child int
		eventually(t, "a child that reads", func() (string, bool) {
			children := childrenOf(t, s.pid)
			if len(children) == 1 {
				child, err = strconv.Atoi(children[0])
				must(t, err)
			}
			return fmt.Sprint(children), len(children) == 1
		})
		childExits := watchExit(t, child)
		must(t, syscall.Kill(o.pid, syscall.SIGSTOP))
		awaitState(t, o.pid, "T")
		must(t, syscall.Kill(s.pid, syscall.SIGKILL))
		s.exits()
		s.send(frame[len(frame)-10:])
		childExits()
		if sleepers := o.sleepers(); len(sleepers) != 0 {
			t.Errorf("%v run", sleepers)
		}
		must(t, syscall.Kill(o.pid, syscall.SIGCONT))
	})
}

// A process that is dead and still counts, since its debugger has not seen it
// yet, does not go when it is killed. The shepherd waits two seconds for it.
func TestWhatDoesNotGo(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		if o.build.sanitized {
			t.Skip("two seconds with the embedded helper are enough")
		}
		runtime.LockOSThread() // a debugger is a thread
		defer runtime.UnlockOSThread()
		s := o.shepherd()
		pid := s.start(s.shell("echo running; exec sleep $M"))
		s.says("running")
		o.awaitSleepers(1)
		debug(t, pid)
		s.send(killRequest{}.append(nil))
		if ended := s.ended(); ended.Left != 1 || ended.LeftPids[0] != uint32(pid) || ended.Status != 0xffff || ended.Reusable != 0 {
			t.Errorf("%+v", ended)
		}
		s.hangsUp()
		letGo(t, pid)
		s.exits()

		// The watcher has nobody to whom it could report it, and goes on.
		s = o.shepherd()
		pid = s.start(s.shell("echo running; exec sleep $M"))
		s.says("running")
		o.awaitSleepers(1)
		debug(t, pid)
		must(t, syscall.Kill(s.pid, syscall.SIGKILL))
		s.hangsUp()
		o.control.send(settleRequest{Shepherd: uint32(s.pid)}.append(nil))
		must(t, o.control.conn.SetReadDeadline(time.Now().Add(250*time.Millisecond)))
		if ev, err := o.control.receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("event %d, %v: and it is still there", ev.kind, err)
		}
		must(t, o.control.conn.SetReadDeadline(time.Now().Add(patience)))
		letGo(t, pid)
		if settled := expect[settledEvent](o.control, eventSettled); settled.Left != 0 || int(settled.Shepherd) != s.pid {
			t.Errorf("%+v", settled)
		}
	})
}

func debug(t *testing.T, pid int) {
	t.Helper()
	if err := unix.PtraceSeize(pid); err != nil {
		t.Skipf("no process can be debugged here: %v", err)
	}
}

// letGo sees the end of what it has debugged, so that its parent does, too.
func letGo(t *testing.T, pid int) {
	t.Helper()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		if err == unix.EINTR || err == nil && status.Stopped() {
			continue
		}
		must(t, err)
		return
	}
}

func TestSettleOfAnotherIsAnsweredAtOnce(t *testing.T) {
	conform(t, func(_ *testing.T, o *owner) {
		s := o.shepherd()
		s.start(s.shell("echo running; exec sleep $M"))
		s.says("running")
		o.control.send(settleRequest{Shepherd: uint32(os.Getpid())}.append(nil))
		expect[settledEvent](o.control, eventSettled)
	})
}

func TestWatcherKilled(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		s.start(s.shell("setsid sleep $M & echo running; exec sleep $M"))
		s.says("running")
		o.awaitSleepers(2)
		must(t, syscall.Kill(o.pid, syscall.SIGKILL))
		o.control.hangsUp()
		// The shepherd and its command go on, and so does what they promise.
		s.send(stopRequest{}.append(nil))
		if ended := s.endsWith("SIGTERM"); ended.Left != 0 || ended.Reusable != 1 {
			t.Errorf("%+v", ended)
		}
		s.start(s.shell("echo running; exec sleep $M"))
		s.says("running")
		s.close()
		s.exits()
	})
}

func TestWatcherStaysWhileItGuards(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		s.start(s.shell("setsid sleep $M & echo running; exec sleep $M"))
		s.says("running")
		o.awaitSleepers(2)
		o.control.close()
		// The owner has hung up on the watcher alone. The shepherd is still guarded.
		must(t, syscall.Kill(s.pid, syscall.SIGKILL))
		o.watcherExits()
		if left := o.sleepers(); len(left) != 0 {
			t.Errorf("%v are left", left)
		}
	})
}

// ---- frames that nobody of ours sends ----

func frameOf(kind uint32, fields ...uint32) []byte {
	b := headOnly(uint32(headSize+4*len(fields)), kind)
	for _, field := range fields {
		b = binary.NativeEndian.AppendUint32(b, field)
	}
	return b
}

func TestMalformedFramesToAShepherd(t *testing.T) {
	valid := startRequest{StopSignal: 15, Descriptors: 4, Arguments: 1, Environment: 0, Strings: 10}
	changed := func(change func(*startRequest)) []byte {
		r := valid
		change(&r)
		return append(r.append(nil), "/bin/true\x00"...)
	}
	tests := []struct {
		name        string
		frame       []byte
		descriptors int
	}{
		{"length of zero", headOnly(0, requestStop), 0},
		{"length below the head's", headOnly(7, requestStop), 0},
		{"length beyond the frame's", headOnly(9, requestStop), 0},
		{"largest length", append(headOnly(0xffffffff, requestSignal), make([]byte, 8)...), 0},
		{"kind zero", headOnly(8, 0), 0},
		{"kind that does not exist", headOnly(8, 7), 0},
		{"largest kind", headOnly(8, 0xffffffff), 0},
		{"no frame at all", []byte("GET / HTTP/1.1\r\n\r\n"), 0},
		{"signal 0", frameOf(requestSignal, 0, 0), 0},
		{"signal 65", frameOf(requestSignal, 65, 0), 0},
		{"largest signal", frameOf(requestSignal, 0xffffffff, 0), 0},
		{"signal without its fields", headOnly(8, requestSignal), 0},
		{"stop with a descriptor", stopRequest{}.append(nil), 1},
		{"a watcher's request: spawn", spawnRequest{}.append(nil), 1},
		{"a watcher's request: settle", settleRequest{Shepherd: 5}.append(nil), 0},
		{"start without descriptors", changed(func(*startRequest) {}), 0},
		{"start with one too few", changed(func(*startRequest) {}), 3},
		{"start with one too many", changed(func(*startRequest) {}), 5},
		{"start without 0, 1, 2 and a directory", changed(func(r *startRequest) { r.Descriptors = 3 }), 3},
		{"start with more than a message can carry", changed(func(r *startRequest) { r.Descriptors = 1 << 31 }), 4},
		{"start with stop signal 0", changed(func(r *startRequest) { r.StopSignal = 0 }), 4},
		{"start with stop signal 65", changed(func(r *startRequest) { r.StopSignal = 65 }), 4},
		{"start with more arguments than bytes", changed(func(r *startRequest) { r.Arguments = 0xffffffff }), 4},
		{"start with more environment than bytes", changed(func(r *startRequest) { r.Environment = 0xffffffff }), 4},
		{"start with counts that overflow together", changed(func(r *startRequest) { r.Arguments, r.Environment = 1<<31, 1<<31 }), 4},
		{"start with one string too many", changed(func(r *startRequest) { r.Arguments = 10 }), 4},
		{"start without strings", startRequest{StopSignal: 15, Descriptors: 4}.append(nil), 4},
		{"start of a wrong length", append(headOnly(60, requestStart), changed(func(*startRequest) {})[headSize:]...), 4},
	}
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		null := int(openFile(t, os.DevNull).Fd())
		for _, running := range []bool{false, true} {
			for _, test := range tests {
				t.Run(fmt.Sprintf("%s, running %t", test.name, running), func(t *testing.T) {
					o.in(t)
					s := o.shepherd()
					if running {
						s.start(s.shell("trap '' TERM; setsid sleep $M & echo running; exec sleep $M"))
						s.says("running")
						o.awaitSleepers(2)
					}
					s.send(test.frame, slices.Repeat([]int{null}, test.descriptors)...)
					s.hangsUp()
					s.exits()
					if left := o.sleepers(); len(left) != 0 {
						t.Errorf("%v are left", left)
					}
				})
			}
		}
		o.in(t)
		o.shepherd().goesOn()
	})
}

func TestStartWhileRunning(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		for _, script := range []string{
			"trap '' TERM; setsid sleep $M & echo running; exec sleep $M",
			"trap 'echo told' TERM; sleep $M & sleep $M & echo running; while :; do wait; done", // and is being stopped
		} {
			s := o.shepherd()
			s.start(s.shell(script))
			s.says("running")
			o.awaitSleepers(2)
			if strings.Contains(script, "told") {
				s.send(stopRequest{}.append(nil))
				s.says("told")
			}
			spec := s.spec("true")
			frame, err := appendStart(nil, spec)
			must(t, err)
			if err := s.trySend(frame, append(spec.Descriptors, spec.Directory)...); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Fatal(err)
			}
			s.hangsUp()
			s.exits()
			if left := o.sleepers(); len(left) != 0 {
				t.Errorf("%v are left", left)
			}
		}
	})
}

// A descriptor among the strings is not the command's. They are not read beyond it.
func TestDescriptorAmongTheStrings(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.spec("true", "one", "two", "three")
		frame, err := appendStart(nil, spec)
		must(t, err)
		s.send(frame[:len(frame)-20], append(spec.Descriptors, spec.Directory)...)
		s.send(frame[len(frame)-20:len(frame)-10], spec.Directory)
		failed := expect[failedEvent](s.peer, eventFailed)
		if Step(failed.Step) != StepStrings || syscall.Errno(failed.Error) != syscall.ECONNRESET || failed.Reusable != 0 {
			t.Errorf("%v: %v, reusable %d", Step(failed.Step), syscall.Errno(failed.Error), failed.Reusable)
		}
		s.hangsUp()
		s.exits()
	})
}

// An owner's socket may add other things to what comes, such as credentials.
func TestOtherControlMessages(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		p, theirs := newPeer(t)
		must(t, unix.SetsockoptInt(int(theirs.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
		o.control.send(spawnRequest{}.append(nil), int(theirs.Fd()))
		must(t, theirs.Close())
		expect[readyEvent](p, eventReady)
		s := &ward{peer: p, owner: o}
		s.goesOn()
	})
}

// More descriptors than one message can carry come in two.
func TestMoreDescriptorsThanFit(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		before := descriptorsOf(t, s.pid)
		null := slices.Repeat([]int{int(openFile(t, os.DevNull).Fd())}, MaxDescriptors+1)
		frame := startRequest{StopSignal: 15, Descriptors: 300, Arguments: 1, Strings: 10}.append(nil)
		s.send(frame[:headSize], null...)
		s.send(frame[headSize:40], null...)
		eventually(t, "the shepherd has taken what fits, and closed the rest", func() (string, bool) {
			now := descriptorsOf(t, s.pid)
			return strconv.Itoa(now), now == before+len(null)
		})
		s.send(frame[40:])
		s.hangsUp()
		s.exits()
	})
}

// However small the pieces are in which it comes.
func TestRequestInPieces(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.shell("echo running; exec sleep $M")
		frame, err := appendStart(nil, spec)
		must(t, err)
		descriptors := append(spec.Descriptors, spec.Directory)
		for i := range frame {
			if i < len(descriptors) {
				s.send(frame[i:i+1], descriptors[i])
			} else {
				s.send(frame[i : i+1])
			}
		}
		expect[startedEvent](s.peer, eventStarted)
		s.says("running")
		for _, b := range (stopRequest{}).append(nil) {
			s.send([]byte{b})
		}
		s.endsWith("SIGTERM")
		s.goesOn()
	})
}

func TestWatchersRequestInPieces(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		o.shepherd().close()
		eventually(t, "only the watcher is there", func() (string, bool) {
			left := o.processes()
			return fmt.Sprint(left), len(left) == 1
		})
		before := descriptorsOf(t, o.pid)
		p, theirs := newPeer(t)
		frame := spawnRequest{}.append(nil)
		o.control.send(frame[:3], int(theirs.Fd()))
		must(t, theirs.Close())
		eventually(t, "the watcher has taken them", func() (string, bool) {
			now := descriptorsOf(t, o.pid)
			return strconv.Itoa(now), now == before+1
		})
		o.control.send(frame[3:])
		expect[readyEvent](p, eventReady)
	})
}

func TestMalformedFramesToAWatcher(t *testing.T) {
	tests := []struct {
		name        string
		frame       []byte
		descriptors int
	}{
		{"kind zero", headOnly(8, 0), 0},
		{"kind that does not exist", headOnly(8, 99), 0},
		{"length beyond the frame's", headOnly(16, requestSpawn), 1},
		{"spawn without a socket", spawnRequest{}.append(nil), 0},
		{"spawn with two", spawnRequest{}.append(nil), 2},
		{"settle of nothing", settleRequest{}.append(nil), 0},
		{"settle of no pid", settleRequest{Shepherd: 0xffffffff}.append(nil), 0},
		{"settle with a descriptor", settleRequest{Shepherd: 1}.append(nil), 1},
		{"a shepherd's request: stop", stopRequest{}.append(nil), 0},
		{"a shepherd's request: kill", killRequest{}.append(nil), 0},
		{"a shepherd's request: signal", signalRequest{Signal: 15}.append(nil), 0},
		{"a shepherd's request: start", startRequest{StopSignal: 15, Descriptors: 4, Strings: 1}.append(nil), 4},
	}
	eachBuild(t, func(t *testing.T, b build) {
		null := int(openFile(t, os.DevNull).Fd())
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				o := startOwner(t, b, nil)
				s := o.shepherd()
				s.start(s.shell("echo running; exec sleep $M"))
				s.says("running")
				o.control.send(test.frame, slices.Repeat([]int{null}, test.descriptors)...)
				o.control.hangsUp()
				// Its shepherds go on, and it stays for them.
				s.send(stopRequest{}.append(nil))
				s.endsWith("SIGTERM")
				s.close()
				o.watcherExits()
			})
		}
	})
}

// A socket that is no owner's: a shepherd is forked, can't speak, and goes.
func TestSpawnForADeadSocket(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		null := openFile(t, os.DevNull)
		o.control.send(spawnRequest{}.append(nil), int(null.Fd()))
		p, theirs := newPeer(t)
		p.close()
		o.control.send(spawnRequest{}.append(nil), int(theirs.Fd()))
		must(t, theirs.Close())
		o.shepherd().goesOn()
		eventually(t, "only the watcher and its one shepherd", func() (string, bool) {
			now := o.processes()
			return fmt.Sprint(now), len(now) == 2
		})
	})
}

// ---- where the helper is started ----

func TestStartedByHand(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		for _, args := range [][]string{nil, {"--help"}} {
			cmd := exec.Command(b.argv[0], append(b.argv[1:len(b.argv):len(b.argv)], args...)...)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 125 || !strings.Contains(string(out), "helper of netrunner") {
				t.Errorf("%v: %v, %q", args, err, out)
			}
		}
	})
}

// withoutCalls starts a watcher for which these system calls fail.
func withoutCalls(t *testing.T, b build, denials ...proctest.Denial) *owner {
	t.Helper()
	if b.emulated {
		t.Skip("the filter is for the helper's calls, not for those of qemu")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the filter knows the numbers of amd64's calls")
	}
	self, err := os.Executable()
	must(t, err)
	return startOwner(t, b, &start{before: []string{self}, env: denying(denials...)})
}

// Without close_range and without pidfds, as on Linux 5.2 and in containers
// whose seccomp filter is older than that.
func TestOldKernel(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		o := withoutCalls(t, b,
			proctest.Denial{Call: unix.SYS_CLOSE_RANGE, Errno: unix.ENOSYS},
			proctest.Denial{Call: unix.SYS_PIDFD_OPEN, Errno: unix.ENOSYS})
		s := o.shepherd()
		s.goesOn()
		if now := descriptorsOf(t, o.pid); now != 5 {
			t.Errorf("the watcher has %d descriptors, not 0, 1, 2, its socket and the list of its children", now)
		}
		s.start(s.shell(trees[3].script))
		s.says("running")
		o.awaitSleepers(2)
	})
}

// An emulator may know fork and threads, and nothing between them.
func TestOnlyFork(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		o := withoutCalls(t, b, proctest.Denial{Call: unix.SYS_CLONE, Has: unix.CLONE_PIDFD, Errno: unix.EINVAL})
		s := o.shepherd()
		s.goesOn()
		if len(s.pidfds) != 0 {
			t.Errorf("%d descriptors came", len(s.pidfds))
		}
		s.start(s.shell(trees[3].script))
		s.says("running")
		o.awaitSleepers(2)
	})
}

// The limit of descriptors may be lowered after they have come: EBADF in man 2 dup.
func TestDescriptorBeyondTheLimit(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		o := withoutCalls(t, b, proctest.Denial{Call: dup2Call, Errno: unix.EBADF})
		s := o.shepherd()
		s.request(s.spec("true"))
		failed := expect[failedEvent](s.peer, eventFailed)
		if Step(failed.Step) != StepDescriptors || syscall.Errno(failed.Error) != syscall.EBADF || failed.Reusable != 1 {
			t.Errorf("%v: %v, reusable %d", Step(failed.Step), syscall.Errno(failed.Error), failed.Reusable)
		}
	})
}

// Where it can't keep its promise, the watcher does nothing at all.
func TestNoPromiseWithoutItsMeans(t *testing.T) {
	for _, test := range []struct {
		name   string
		denial proctest.Denial
		status int
	}{
		{"no subreaper", proctest.Denial{Call: unix.SYS_PRCTL, Is: unix.PR_SET_CHILD_SUBREAPER, Errno: unix.EINVAL}, 0},
		{"no root directory", proctest.Denial{Call: unix.SYS_CHDIR, Errno: unix.EACCES}, 125},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				o := withoutCalls(t, b, test.denial)
				o.status = test.status
				o.control.hangsUp()
				o.watcherExits()
			})
		})
	}
}

// A /proc that knows other numbers than ours, or none, must not make the helper
// kill a stranger, nor miss what it has to kill.
func TestPIDNamespace(t *testing.T) {
	needRoot(t)
	unshare := needProgram(t, "unshare")
	if out, err := exec.Command(unshare, "--pid", "--fork", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("no PID namespace can be made here: %v: %s", err, out)
	}
	for _, test := range []struct {
		name   string
		before []string
	}{
		{"its own /proc", []string{unshare, "--pid", "--fork", "--kill-child", "--mount-proc"}},
		{"the /proc of another namespace", []string{unshare, "--pid", "--fork", "--kill-child"}},
		{"no /proc", []string{unshare, "--pid", "--fork", "--kill-child", "--mount", "sh", "-c", `umount -l /proc && exec "$@"`, "sh"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				needOrphans(t, b)
				trees := trees[:4]
				if test.name != "its own /proc" {
					// To ask for each pid there can be takes some seconds: once is enough.
					if b.name == "sanitized" || testing.Short() {
						t.Skip("the embedded helper is tested so, unless -short says that there is no time")
					}
					trees = trees[3:]
				}
				o := startOwner(t, b, &start{before: test.before})
				s := o.namespacedShepherd()
				for _, tree := range trees {
					s.start(s.shell(tree.script))
					s.says("running")
					o.awaitSleepers(tree.sleepers)
					s.send(killRequest{}.append(nil))
					if ended := s.endsWith("SIGKILL"); int(ended.Killed) < tree.sleepers || ended.Left != 0 {
						t.Errorf("%s: %+v", tree.name, ended)
					}
				}
				s.goesOn()
			})
		})
	}
}

// namespacedShepherd asks for a shepherd whose pid means nothing outside.
func (o *owner) namespacedShepherd() *ward {
	o.t.Helper()
	s := o.unreadyShepherd()
	expect[readyEvent](s.peer, eventReady)
	return s
}
