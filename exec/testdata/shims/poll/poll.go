// Package poll has what os/exec's tests want of internal/poll.
package poll

import (
	"fmt"
	"os"
	"strings"
)

// IsPollDescriptor reports whether the runtime has opened a descriptor for itself:
// its poller, or the limits of its cgroup.
func IsPollDescriptor(fd uintptr) bool {
	link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return strings.HasPrefix(link, "anon_inode:") || strings.HasPrefix(link, "/sys/fs/cgroup/")
}
