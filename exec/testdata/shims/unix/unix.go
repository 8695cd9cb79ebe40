// Package unix has what os/exec's tests want of internal/syscall/unix.
package unix

import (
	"fmt"
	"syscall"
)

// KernelVersionGE reports whether the kernel is at least of a version.
func KernelVersionGE(major, minor int) bool {
	var name syscall.Utsname
	if err := syscall.Uname(&name); err != nil {
		return false
	}
	var release []byte
	for _, c := range name.Release {
		release = append(release, byte(c))
	}
	var x, y int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &x, &y); err != nil {
		return false
	}
	return x > major || x == major && y >= minor
}
