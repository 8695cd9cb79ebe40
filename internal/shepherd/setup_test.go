package shepherd

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// What the child does before it executes the program, by what /proc says of it then.

func TestSessionOfItsOwn(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.shell("echo running; sleep $M & wait")
		spec.Attributes.Session = true
		pid := s.start(spec)
		s.says("running")
		if p := proctest.Look(t, pid); p.Session != pid || p.Group != pid {
			t.Errorf("session %d, group %d of %d", p.Session, p.Group, pid)
		}
		// Signals go to all of its group.
		o.awaitSleepers(1)
		s.send(signalRequest{Signal: uint32(unix.SIGTERM)}.append(nil))
		s.endsWith("SIGTERM")
	})
}

func TestIdentity(t *testing.T) {
	needRoot(t)
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		for _, test := range []struct {
			name       string
			credential syscall.Credential
			groups     string
		}{
			{"no groups", syscall.Credential{Uid: stranger, Gid: stranger + 1}, ""},
			{"one group", syscall.Credential{Uid: stranger, Gid: stranger + 1, Groups: []uint32{7}}, "7"},
			{"groups", syscall.Credential{Uid: stranger, Gid: stranger + 1, Groups: []uint32{7, 8, 9}}, "7 8 9"},
		} {
			s.in(t)
			spec := s.shell("echo running; exec sleep $M")
			spec.Attributes.Credential = &test.credential
			pid := s.start(spec)
			s.says("running")
			for field, want := range map[string]string{
				"Uid":    strings.Join(strings.Fields(strings.Repeat(fmt.Sprint(stranger, " "), 4)), "\t"),
				"Gid":    strings.Join(strings.Fields(strings.Repeat(fmt.Sprint(stranger+1, " "), 4)), "\t"),
				"Groups": test.groups,
			} {
				if got := proctest.StatusField(t, pid, field); got != want {
					t.Errorf("%s: %s is %q, it should be %q", test.name, field, got, want)
				}
			}
			// It is the stranger's, and goes all the same.
			s.send(killRequest{}.append(nil))
			s.endsWith("SIGKILL")
		}
		s.goesOn()
	})
}

// The kernel forgets the death signal with a change of identity, so it has to be set after it.
func TestAStrangerDiesWithItsShepherd(t *testing.T) {
	needRoot(t)
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		spec := s.shell("echo running; exec sleep $M")
		spec.Attributes.Credential = &syscall.Credential{Uid: stranger, Gid: stranger}
		pid := s.start(spec)
		s.says("running")
		gone := proctest.Watch(t, pid)
		must(t, unix.Kill(s.pid, unix.SIGKILL))
		if !gone(proctest.Patience) {
			t.Error("it lives")
		}
	})
}

func TestRoot(t *testing.T) {
	needRoot(t)
	root := buildDirectoryFor(t)
	// The one program here that needs no other file: without arguments it says what it is.
	proctest.CopyProgram(t, filepath.Join("bin", "shepherd-linux-"+runtime.GOARCH), filepath.Join(root, "program"), 0o755)
	conform(t, func(_ *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.spec("/program")
		spec.Attributes.Root = root
		s.request(spec)
		expect[startedEvent](s.peer, eventStarted)
		s.endsWith("125")
		s.goesOn()
	})
}

// A setup that nobody of ours sends.
func TestMalformedSetups(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		for _, call := range []callPart{
			{Step: 0},
			{Step: uint32(StepExec)},        // no system call
			{Step: uint32(StepSignals) + 1}, // beyond the table
			{Step: ^uint32(0)},
			{Step: uint32(StepRoot), Pointer: 4},
			{Step: uint32(StepRoot), Pointer: ^uint32(0)},
			{Step: uint32(StepRoot), Pointer: 1, First: 56}, // beyond the setup
			{Step: uint32(StepRoot), Pointer: 1, First: ^uint64(0)},
		} {
			t.Run(fmt.Sprintf("%+v", call), func(t *testing.T) {
				o.in(t)
				s := o.shepherd()
				spec := s.spec("true")
				frame := startRequest{
					StopSignal: 15, Descriptors: 4, Calls: 1, Setup: 56, Strings: uint32(len(spec.Path) + 1),
				}.append(nil)
				frame = append(frame, make([]byte, setupHeadSize)...)
				frame = order.AppendUint32(order.AppendUint32(frame, call.Step), call.Pointer)
				for _, argument := range []uint64{call.First, call.Second, call.Third} {
					frame = order.AppendUint64(frame, argument)
				}
				frame = append(append(frame, spec.Path...), 0)
				s.send(frame, append(spec.Descriptors, spec.Directory)...)
				failed := expect[failedEvent](s.peer, eventFailed)
				if Step(failed.Step) != StepStrings || syscall.Errno(failed.Error) != syscall.EPROTO || failed.Reusable != 0 {
					t.Errorf("%v: %v, reusable %d", Step(failed.Step), syscall.Errno(failed.Error), failed.Reusable)
				}
				s.hangsUp()
				s.exits()
			})
		}
	})
}
