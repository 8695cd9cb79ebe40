package shepherd

import "golang.org/x/sys/unix"

// dup2Call is the system call behind dup3 of musl without flags.
const dup2Call = unix.SYS_DUP2
