package shepherd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// What can go wrong before a command runs.

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
		{"group that is not there", func(s *Spec) { s.Attributes.Group = 1 << 22 }, StepGroup, syscall.EPERM},
		{"group below zero", func(s *Spec) { s.Attributes.Group = -1 }, StepGroup, syscall.EINVAL},
		{"group of a session of its own", func(s *Spec) { s.Attributes = Attributes{Session: true, Group: 1} }, StepGroup, syscall.EPERM},
		{"terminal that is none", func(s *Spec) { s.Attributes = Attributes{Session: true, Terminal: true} }, StepTerminal, syscall.ENOTTY},
		{"terminal that is not open", func(s *Spec) { s.Attributes = Attributes{Session: true, Terminal: true, Controlling: 1 << 20} }, StepTerminal, syscall.EBADF},
		{"no terminal to give up", func(s *Spec) { s.Attributes.Detach = true }, StepTerminal, syscall.ENOTTY},
		{"root that is not there", func(s *Spec) { s.Attributes.Root = filepath.Join(dir, "missing") }, StepRoot, syscall.ENOENT},
		{"groups without end", func(s *Spec) { s.Attributes.Credential = &syscall.Credential{Groups: make([]uint32, 65537)} }, StepGroups, syscall.EINVAL},
		{"no group id", func(s *Spec) { s.Attributes.Credential = &syscall.Credential{Gid: ^uint32(0)} }, StepGid, syscall.EINVAL},
		{"directory below one that is not there", func(s *Spec) { s.Attributes.Directory = filepath.Join(dir, "missing") }, StepPath, syscall.ENOENT},
		{"directory that is a file, by its path", func(s *Spec) { s.Attributes.Directory = plain }, StepPath, syscall.ENOTDIR},
		{"a signal that nobody can ignore", func(s *Spec) { s.Attributes.Ignored = 1 << (syscall.SIGKILL - 1) }, StepSignals, syscall.EINVAL},
		{"no user id", func(s *Spec) { s.Attributes.Credential = &syscall.Credential{Uid: ^uint32(0)} }, StepUid, syscall.EINVAL},
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
		{name: "no descriptor free for a pipe", before: limit(unix.RLIMIT_NOFILE, 10), step: StepPipe, errno: syscall.EMFILE},
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
	setup, text := frame[headSize+n:][:request.Setup], frame[headSize+n:][request.Setup:]
	if change != nil {
		text = change(&request, text)
	}
	request.Strings = uint32(len(text))
	err = s.trySend(slices.Concat(request.append(nil), setup, text), append(spec.Descriptors[:len(spec.Descriptors):len(spec.Descriptors)], spec.Directory)...)
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
		s.exits() // it could go on, but has another limit than the next command may have
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
		proctest.CopyProgram(t, self, program, 0o755)
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
