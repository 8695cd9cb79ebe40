//go:build !amd64

package shepherd

import "golang.org/x/sys/unix"

// dup2Call is the system call behind dup3 of musl without flags: newer architectures have dup3 alone.
const dup2Call = unix.SYS_DUP3
