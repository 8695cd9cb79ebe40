package shepherd

import (
	"encoding/binary"
	"slices"
	"syscall"
	"time"
)

// Spec says what to start. The descriptors stay the caller's.
type Spec struct {
	Path        string
	Args        []string // the first is the command's own name
	Env         []string
	Descriptors []int // become 0, 1, 2, …; NullDevice stands for /dev/null
	Directory   int   // descriptor of the directory in which the command begins; NullDevice when Attributes.Directory needs none
	StopSignal  syscall.Signal
	Grace       time.Duration
	Leave       bool // what the command leaves behind stays
	Attributes  Attributes
	Unawaited   bool // the caller has nothing to do before the end: Start may return some milliseconds late
}

// NullDevice as a descriptor of a Spec is /dev/null, open for reading and writing.
const NullDevice = -1

// descriptors are all that go with the request: the command's, then those that
// are gone when the program runs, the directory last.
func (spec *Spec) descriptors(null int) []int {
	all := make([]int, 0, len(spec.Descriptors)+2)
	for _, fd := range spec.Descriptors {
		if fd == NullDevice {
			fd = null
		}
		all = append(all, fd)
	}
	if spec.Attributes.Foreground {
		all = append(all, spec.Attributes.Foremost)
	}
	if spec.Directory == NullDevice {
		return append(all, null)
	}
	return append(all, spec.Directory)
}

// setup is that of the command; it has to know where the descriptors will be.
func (spec *Spec) setup() (s *setup, descriptors int) {
	descriptors = len(spec.Descriptors) + 1
	if spec.Attributes.Foreground {
		descriptors++
	}
	directory := descriptors - 1
	if spec.Directory == NullDevice {
		directory = -1
	}
	return setupOf(&spec.Attributes, directory, len(spec.Descriptors)), descriptors
}

// MaxDescriptors is how many descriptors a command can be given: what one
// message can carry (SCM_MAX_FD, man 7 unix), less its directory; one less with
// Attributes.Foreground.
const MaxDescriptors = 252

// maxStrings is more than any kernel takes for arguments and environment: three
// quarters of an 8 MiB stack (man 2 execve).
const maxStrings = 64 << 20

// Bits of startRequest.Flags.
const (
	flagLeave     = 1 << 0
	flagAlone     = 1 << 1
	flagUnawaited = 1 << 2
)

// appendStart appends the request and its strings.
func appendStart(b []byte, spec *Spec) ([]byte, error) {
	size := len(spec.Path) + 1
	for _, list := range [][]string{spec.Args, spec.Env} {
		for _, s := range list {
			size += len(s) + 1
		}
	}
	if size > maxStrings {
		return nil, &StartError{StepExec, syscall.E2BIG}
	}
	flags := uint32(0)
	if spec.Leave {
		flags |= flagLeave
	}
	if spec.Attributes.alone() {
		flags |= flagAlone
	}
	if spec.Unawaited {
		flags |= flagUnawaited
	}
	setup, descriptors := spec.setup()
	b = slices.Grow(b, headSize+binary.Size(startRequest{})+setup.size()+size)
	b = startRequest{
		Grace:       uint64(max(spec.Grace, 0)),
		StopSignal:  uint32(spec.StopSignal),
		Flags:       flags,
		Descriptors: uint32(descriptors),
		Arguments:   uint32(len(spec.Args)),
		Environment: uint32(len(spec.Env)),
		Calls:       uint32(len(setup.calls)),
		Setup:       uint32(setup.size()),
		Strings:     uint32(size),
	}.append(b)
	b = setup.append(b)
	b = append(append(b, spec.Path...), 0)
	for _, list := range [][]string{spec.Args, spec.Env} {
		for _, s := range list {
			b = append(append(b, s...), 0)
		}
	}
	return b, nil
}
