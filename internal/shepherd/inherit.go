package shepherd

import (
	"bytes"
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// What a command inherits from its owner without anybody saying so: identity,
// capabilities, umask, affinity, limits, niceness. A shepherd has them from the
// moment when its watcher was started, so that an owner that has changed them
// since (dropped its privileges, say) needs a new watcher.
//
// The namespaces and the cgroup of the owner are inherited too. They are not
// looked at: that would cost more than all the rest.

// inheritedLines are the lines of /proc/self/status that say so (man 5 proc).
var inheritedLines = [][]byte{
	[]byte("Umask:"), []byte("Uid:"), []byte("Gid:"), []byte("Groups:"),
	[]byte("CapInh:"), []byte("CapPrm:"), []byte("CapEff:"), []byte("CapBnd:"), []byte("CapAmb:"),
	[]byte("NoNewPrivs:"), []byte("Seccomp:"), []byte("Cpus_allowed:"), []byte("Mems_allowed:"),
}

var statusBuffers = sync.Pool{New: func() any { return new([8192]byte) }}

// inherited describes all that, as a text to compare with an earlier one.
// Without /proc it knows the identity, the limits and the niceness.
func inherited(to []byte) []byte {
	buffer := statusBuffers.Get().(*[8192]byte)
	defer statusBuffers.Put(buffer)
	status := buffer[:readStatus(buffer[:])]
	for len(status) > 0 {
		var line []byte
		line, status, _ = bytes.Cut(status, []byte("\n"))
		for _, prefix := range inheritedLines {
			if bytes.HasPrefix(line, prefix) {
				to = append(to, line...)
				break
			}
		}
	}
	if len(to) == 0 {
		to = fmt.Appendf(to, "%d %d %d %d", syscall.Getuid(), syscall.Geteuid(), syscall.Getgid(), syscall.Getegid())
	}
	for resource := range unix.RLIMIT_RTTIME + 1 {
		var limit unix.Rlimit
		_ = unix.Prlimit(0, resource, nil, &limit) // an unknown one stays zero
		to = order.AppendUint64(to, limit.Cur)
		to = order.AppendUint64(to, limit.Max)
	}
	nice, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
	return append(to, byte(nice))
}

func readStatus(to []byte) int {
	fd, err := unix.Open("/proc/self/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	n, err := unix.Read(fd, to)
	if err != nil {
		return 0
	}
	return n
}
