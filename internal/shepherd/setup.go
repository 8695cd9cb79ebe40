package shepherd

import (
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

// Attributes are what a command has that its shepherd hasn't. The zero value is
// a process group of its own, in the owner's session, with the owner's identity.
type Attributes struct {
	Session bool // a session of its own, and so a process group
	Group   int  // process group to join; zero for one of its own

	// Terminal makes the descriptor Controlling of the command's its controlling
	// terminal, for which it needs Session.
	Terminal    bool
	Controlling int
	// Detach gives up the controlling terminal, which descriptor 0 has to be.
	Detach bool
	// Foreground makes its process group the foreground one of the terminal that
	// descriptor Foremost of the owner's is.
	Foreground bool
	Foremost   int

	Closed []int // descriptors of the command's that it does not have, whatever stands for them

	Root       string              // chroot; empty for none
	Directory  string              // seen from that of the Spec, and below the root; empty for that of the Spec
	Ignored    uint64              // signals that the program finds ignored, bit 0 for signal 1
	Blocked    uint64              // signals that it finds blocked
	Credential *syscall.Credential // nil for the owner's
}

// alone reports whether the command leads no process group.
func (a *Attributes) alone() bool { return !a.Session && a.Group != 0 }

// setup is the part of a start request that says what the child does before it
// executes the program.
type setup struct {
	head  setupPart
	calls []callPart
	data  []byte // what the calls point to, but for its own pid
}

// setupOf lists what the attributes ask for, in os/exec's order: what needs
// privileges comes before they are given up. The directory is a descriptor of the
// command's, or negative.
func setupOf(a *Attributes, directory, foremost int) *setup {
	s := &setup{head: setupPart{Ignored: a.Ignored, Blocked: a.Blocked}, calls: make([]callPart, 0, 8)}
	if a.Session {
		s.call(StepSession, 0, 0, 0)
	}
	if !a.Session || a.Group != 0 { // the leader of a session leads a group
		s.call(StepGroup, 0, uint64(a.Group), 0)
	}
	if a.Foreground {
		if a.Group == 0 {
			s.callWith(StepTerminal, 3, uint64(foremost), unix.TIOCSPGRP, ownPID)
		} else {
			s.callWith(StepTerminal, 3, uint64(foremost), unix.TIOCSPGRP, s.keep(order.AppendUint32(nil, uint32(a.Group))))
		}
		s.call(StepTerminal, uint64(foremost), fioclex, 0)
	}
	for _, descriptor := range a.Closed {
		s.call(StepTerminal, uint64(descriptor), fioclex, 0)
	}
	// Before the root and the identity change, as a child of the owner's would have it.
	if directory >= 0 {
		s.call(StepDirectory, uint64(directory), 0, 0)
	}
	if a.Root != "" {
		s.callWith(StepRoot, 1, s.keep(append([]byte(a.Root), 0)), 0, 0)
	}
	if c := a.Credential; c != nil {
		if !c.NoSetGroups {
			var list []byte
			for _, group := range c.Groups {
				list = order.AppendUint32(list, group)
			}
			s.callWith(StepGroups, 2, uint64(len(c.Groups)), s.keep(list), 0)
		}
		s.call(StepGid, uint64(c.Gid), 0, 0)
		s.call(StepUid, uint64(c.Uid), 0, 0)
	}
	if a.Directory != "" {
		s.callWith(StepPath, 1, s.keep(append([]byte(a.Directory), 0)), 0, 0)
	}
	if a.Detach {
		s.call(StepTerminal, 0, unix.TIOCNOTTY, 0)
	}
	if a.Terminal {
		// 1: also from a session that has it; root alone may do that (man 2 ioctl_tty).
		s.call(StepTerminal, uint64(a.Controlling), unix.TIOCSCTTY, 1)
	}
	return s
}

// fioclex closes a descriptor on exec (asm-generic/ioctls.h; x/sys has no name for it).
const fioclex = 0x5451

// ownPID is where the child puts its pid, as an offset into what is kept.
const ownPID = ^uint64(0)

func (s *setup) call(step Step, first, second, third uint64) {
	s.callWith(step, 0, first, second, third)
}

// callWith is a call one of whose arguments is an offset into what is kept.
func (s *setup) callWith(step Step, pointer uint32, first, second, third uint64) {
	s.calls = append(s.calls, callPart{uint32(step), pointer, first, second, third})
}

// keep returns the offset of what calls point to.
func (s *setup) keep(data []byte) uint64 {
	offset := len(s.data)
	s.data = append(s.data, data...)
	s.data = append(s.data, make([]byte, -len(s.data)&7)...) // aligned, and never empty
	if len(s.data) == offset {
		s.data = append(s.data, make([]byte, 8)...)
	}
	return uint64(offset)
}

var (
	setupHeadSize = binary.Size(setupPart{})
	callSize      = binary.Size(callPart{})
)

func (s *setup) size() int { return setupHeadSize + len(s.calls)*callSize + len(s.data) }

func (s *setup) append(b []byte) []byte {
	b = order.AppendUint32(order.AppendUint32(b, s.head.Command), s.head.Reserved)
	b = order.AppendUint64(order.AppendUint64(b, s.head.Ignored), s.head.Blocked)
	data := uint64(setupHeadSize + len(s.calls)*callSize)
	for _, call := range s.calls {
		arguments := [4]uint64{0, call.First, call.Second, call.Third}
		switch {
		case call.Pointer == 0:
		case arguments[call.Pointer] == ownPID:
			arguments[call.Pointer] = 0
		default:
			arguments[call.Pointer] += data
		}
		b = order.AppendUint32(order.AppendUint32(b, call.Step), call.Pointer)
		for _, argument := range arguments[1:] {
			b = order.AppendUint64(b, argument)
		}
	}
	return append(b, s.data...)
}
