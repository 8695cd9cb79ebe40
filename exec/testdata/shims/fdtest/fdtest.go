// Package fdtest has what os/exec's tests want of os/exec/internal/fdtest.
package fdtest

import "syscall"

// Exists reports whether a descriptor is open.
func Exists(fd uintptr) bool {
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFD, 0)
	return errno == 0
}
