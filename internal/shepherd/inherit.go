package shepherd

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// inheritance tells what a command inherits from its owner without anybody
// saying so: identity, capabilities, umask, affinity, limits, niceness, cgroup.
// A shepherd has them from the moment when its watcher was started, so that an
// owner that has changed them since (dropped its privileges, say) needs a new
// watcher.
//
// The namespaces of the owner are inherited too. They are not looked at: that
// would cost more than all the rest.
//
// The zero value is ready to use. It is not safe for concurrent use.
type inheritance struct {
	files   [len(inheritedFiles)]int // kept open, since that halves the cost of a look; 0 or -1 when not
	content [8192]byte
	now     []byte
}

// All of them as seen by the process (man 5 proc); of the first, only some lines.
var inheritedFiles = [...]string{"/proc/self/status", "/proc/self/limits", "/proc/self/cgroup"}

var inheritedLines = [][]byte{
	[]byte("Umask:"), []byte("Uid:"), []byte("Gid:"), []byte("Groups:"),
	[]byte("CapInh:"), []byte("CapPrm:"), []byte("CapEff:"), []byte("CapBnd:"), []byte("CapAmb:"),
	[]byte("NoNewPrivs:"), []byte("Seccomp:"), []byte("Cpus_allowed:"), []byte("Mems_allowed:"),
}

// look describes it as it is now, as bytes to compare with an earlier look. They
// are valid until the next one. Without /proc it knows identity and niceness.
func (in *inheritance) look() []byte {
	in.open()
	in.now = in.now[:0]
	for i, fd := range in.files {
		n, err := unix.Pread(fd, in.content[:], 0)
		switch {
		case err != nil:
			in.now = fmt.Append(in.now, unix.Getuid(), unix.Geteuid(), unix.Getgid(), unix.Getegid())
		case i == 0:
			in.keepLines(in.content[:n])
		default:
			in.now = append(in.now, in.content[:n]...)
		}
	}
	nice, _ := unix.Getpriority(unix.PRIO_PROCESS, 0) // can't fail for oneself
	in.now = append(in.now, byte(nice))
	return in.now
}

// keepLines relies on the order of the lines, which the kernel does not change;
// one that this kernel does not have is passed over.
func (in *inheritance) keepLines(status []byte) {
	next := 0
	for line := range bytes.Lines(status) {
		for i := next; i < len(inheritedLines); i++ {
			if line[0] == inheritedLines[i][0] && bytes.HasPrefix(line, inheritedLines[i]) {
				in.now = append(in.now, line...)
				next = i + 1
				break
			}
		}
	}
}

// open opens what is not open: what failed before, for want of descriptors say, is tried again.
func (in *inheritance) open() {
	for i, path := range inheritedFiles {
		if in.files[i] > 0 {
			continue
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			fd = -1
		}
		in.files[i] = fd
	}
}

// close closes its files; the next look opens them again.
func (in *inheritance) close() {
	for i, fd := range in.files {
		if fd > 0 {
			_ = unix.Close(fd)
		}
		in.files[i] = 0
	}
}
