package shepherd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// look is what a child inherits that the calling thread would fork at this
// moment, without anybody saying so. A shepherd has it from the moment when its
// watcher was started, so an owner that has changed it since needs another
// watcher. The list, and how each entry is followed, is in docs/adr/0014.
type look struct {
	status string // lines of /proc/thread-self/status, or what system calls say instead
	files  string // whole files: limits, cgroup, …
	calls  string // what only system calls say
}

func (l *look) equal(other *look) bool {
	return l.status == other.status && l.files == other.files && l.calls == other.calls
}

// errLook is the error of a look that could not be completed. Such a look is none:
// what was cut off could be what differs.
func errLook(err error) error { return fmt.Errorf("look at what a command inherits: %w", err) }

// signals of the calling thread, bit 0 for signal 1. They are not inherited from a shepherd, but told to each child.
type signals struct{ ignored, blocked uint64 }

// takeLook looks at the calling thread, which must be locked to the goroutine.
func takeLook() (look, signals, error) {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	l, s, err := b.look()
	if err != nil {
		return look{}, signals{}, errLook(err)
	}
	return l, s, nil
}

// buffer is what a look works with; it grows as needed, and is used again.
type buffer struct{ file, kept []byte }

var buffers = sync.Pool{New: func() any { return &buffer{file: make([]byte, 8192)} }}

func (b *buffer) look() (l look, s signals, err error) {
	thread, err := open(unix.AT_FDCWD, "/proc/thread-self", unix.O_PATH|unix.O_DIRECTORY)
	switch {
	case absent(err): // no /proc, or one of another PID namespace
		if l.status, l.files, err = withoutProc(); err == nil {
			s, err = askSignals()
		}
	case err == nil:
		s, err = b.ofThread(&l, thread)
		_ = unix.Close(thread)
	}
	if err == nil {
		l.calls, err = systemCalls(b.kept[:0])
	}
	return l, s, err
}

// absent tells that a file is not there from a reason to come back later, such as too many open files.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTDIR)
}

// statusLines are in the kernel's order, which does not change; one that this
// kernel does not have is passed over.
var statusLines = []string{
	"Umask", "Uid", "Gid", "Groups", "THP_enabled", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
	"NoNewPrivs", "Seccomp", "Seccomp_filters", "Speculation_Store_Bypass", "SpeculationIndirectBranch",
	"Cpus_allowed", "Mems_allowed",
}

// processFiles say what the whole process has. The mount namespace is not among
// the links: each has other numbers for its mounts, and so for its root.
var (
	processFiles = [...]string{"limits", "oom_score_adj", "coredump_filter"}
	namespaces   = []string{"uts", "ipc", "net", "user", "cgroup", "pid_for_children", "time_for_children"}
)

// unlabelled is set where no security module labels processes.
var unlabelled atomic.Bool

func (b *buffer) ofThread(l *look, thread int) (s signals, err error) {
	text, err := b.read(thread, "status")
	if err != nil {
		return s, err
	}
	b.kept = b.kept[:0]
	if s, err = b.keepStatus(text); err != nil {
		return s, err
	}
	l.status = string(b.kept)
	b.kept = b.kept[:0]
	text, err = b.read(thread, "cgroup")
	if err != nil && !absent(err) {
		return s, err
	}
	b.keepFile("cgroup", text)
	if !unlabelled.Load() {
		text, err := b.read(thread, "attr/current")
		if errors.Is(err, unix.EINVAL) || absent(err) { // it stays so: a security module is there from the start
			unlabelled.Store(true)
		} else if err != nil {
			return s, err
		} else {
			b.keepFile("label", text)
		}
	}
	for i, name := range processFiles {
		text, err := b.readKept(i)
		if err != nil && !absent(err) {
			return s, err
		}
		b.keepFile(name, text)
	}
	for _, name := range namespaces {
		n, err := unix.Readlinkat(thread, "ns/"+name, b.file)
		if err != nil && !absent(err) {
			return s, &os.PathError{Op: "readlink", Path: "ns/" + name, Err: err}
		}
		// Without its first child it is not there yet.
		if own := ownPIDNamespace(); name == "pid_for_children" && own != "" && (err != nil || string(b.file[:n]) != own) {
			return s, errForeignChildren
		}
		b.keepFile(name, b.file[:max(n, 0)])
	}
	l.files = string(b.kept)
	return s, nil
}

// ownPIDNamespace can't change in the life of a process (man 7 pid_namespaces).
var ownPIDNamespace = sync.OnceValue(func() string {
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return link
})

// errForeignChildren refuses what can't be followed: a watcher would be the first
// process of the new namespace, and its owner would be a stranger there.
var errForeignChildren = fmt.Errorf("children of this thread get another PID namespace: %w", errors.ErrUnsupported)

func (b *buffer) keepFile(name string, text []byte) {
	b.kept = append(append(append(append(b.kept, name...), ' '), text...), '\n')
}

// keepStatus keeps the lines that are inherited; those of the signals are returned.
func (b *buffer) keepStatus(text []byte) (s signals, err error) {
	next := 0
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		for i := next; i < len(statusLines); i++ {
			if string(name) != statusLines[i] {
				continue
			}
			next = i + 1
			switch statusLines[i] {
			case "SigBlk":
				s.blocked, err = strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
			case "SigIgn":
				s.ignored, err = strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
			default:
				b.kept = append(b.kept, line...)
			}
			break
		}
		if err != nil {
			return s, fmt.Errorf("/proc/thread-self/status: %w", err)
		}
	}
	if !bytes.HasSuffix(text, []byte("\n")) || next == 0 {
		return s, errCut
	}
	return s, nil
}

var errCut = errors.New("/proc/thread-self/status: it was cut")

// read reads a whole file of a directory. The text is valid until the next call.
func (b *buffer) read(dir int, name string) ([]byte, error) {
	fd, err := open(dir, name, unix.O_RDONLY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/proc/thread-self/" + name, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	for n := 0; ; {
		more, err := unix.Read(fd, b.file[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: "/proc/thread-self/" + name, Err: err}
		case more == 0:
			return b.file[:n], nil
		default:
			if n += more; n == len(b.file) {
				b.file = append(b.file, make([]byte, len(b.file))...)
			}
		}
	}
}

// keptFiles are those of processFiles, which stay open: that halves the cost of
// a look. Zero is a file that is not open.
var keptFiles struct {
	sync.RWMutex
	open [3]int
}

// readKept is read of one of processFiles.
func (b *buffer) readKept(i int) ([]byte, error) {
	for {
		keptFiles.RLock()
		fd := keptFiles.open[i]
		if fd > 0 {
			n, err := unix.Pread(fd, b.file, 0)
			for err == nil && n == len(b.file) { // it may be longer
				b.file = make([]byte, 2*len(b.file))
				n, err = unix.Pread(fd, b.file, 0)
			}
			keptFiles.RUnlock()
			if err == unix.EINTR {
				continue
			}
			return b.file[:max(n, 0)], os.NewSyscallError("pread", err)
		}
		keptFiles.RUnlock()
		if err := openKept(i); err != nil {
			return nil, err
		}
	}
}

func openKept(i int) error {
	keptFiles.Lock()
	defer keptFiles.Unlock()
	if keptFiles.open[i] > 0 {
		return nil
	}
	path := "/proc/self/" + processFiles[i]
	fd, err := open(unix.AT_FDCWD, path, unix.O_RDONLY)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	if fd == 0 { // of an owner that has closed its standard input
		defer unix.Close(fd) //nolint:errcheck // only read
		if fd, err = unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 1); err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
	keptFiles.open[i] = fd
	return nil
}

func closeKept() {
	keptFiles.Lock()
	defer keptFiles.Unlock()
	for i, fd := range keptFiles.open {
		if fd > 0 {
			_ = unix.Close(fd)
		}
		keptFiles.open[i] = 0
	}
}

func open(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// lines returns those of a status with these names.
func lines(status string, names ...string) string {
	var kept strings.Builder
	for line := range strings.Lines(status) {
		name, _, _ := strings.Cut(line, ":")
		for _, wanted := range names {
			if name == wanted {
				kept.WriteString(line)
			}
		}
	}
	return kept.String()
}
