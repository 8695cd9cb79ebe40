package shepherd

import "golang.org/x/sys/unix"

// dup2Call is the system call behind dup2 of the C library.
const dup2Call = unix.SYS_DUP2
