package proctest

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Denial is a system call that fails, unless one of its arguments is another than
// it says.
type Denial struct {
	Call     uintptr
	Errno    syscall.Errno
	Argument uint32 // which one, counted from zero
	Is, Has  uint32 // the argument's value, or one of the bits that it has; zero is any
}

// ExecWithout replaces this process by a program for which these system calls
// fail, and for all that it starts. It returns only an error. The filter needs
// no privileges, since it is set after no_new_privs (man 2 seccomp). It looks at
// the numbers of this architecture alone.
func ExecWithout(denials []Denial, argv []string) error {
	// See struct seccomp_data: the call's number, and the lower half of its first argument.
	const number, first = 0, 16
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	answer := func(value uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
	}
	var filter []unix.SockFilter
	for _, d := range denials {
		test := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jf: 1} // any: it is at least zero
		switch {
		case d.Is != 0:
			test = unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: d.Is, Jf: 1}
		case d.Has != 0:
			test = unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: d.Has, Jf: 1}
		}
		filter = append(filter,
			load(number),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(d.Call), Jf: 3},
			load(first+8*d.Argument),
			test,
			answer(unix.SECCOMP_RET_ERRNO|uint32(d.Errno)))
	}
	filter = append(filter, answer(unix.SECCOMP_RET_ALLOW))
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("set the seccomp filter: %w", err)
	}
	return fmt.Errorf("execute %q: %w", argv[0], unix.Exec(argv[0], argv, os.Environ()))
}
