package shepherd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// systemCalls appends what no file of /proc/thread-self says, or what says it
// faster. An entry that this kernel does not have is its error, which does not change.
func systemCalls(b []byte) (string, error) {
	number := func(n uint64) { b = append(strconv.AppendUint(b, n, 16), ' ') }
	call := func(call, first, second, third, fourth uintptr) {
		value, _, errno := unix.RawSyscall6(call, first, second, third, fourth, 0, 0)
		if errno != 0 {
			b = append(b, 'e')
			value = uintptr(errno)
		}
		number(uint64(value))
	}
	call(unix.SYS_GETSID, 0, 0, 0, 0)
	call(unix.SYS_PERSONALITY, 0xffffffff, 0, 0, 0)
	const ioprioWhoProcess = 1 // man 2 ioprio_get
	call(unix.SYS_IOPRIO_GET, ioprioWhoProcess, 0, 0, 0)
	call(unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK, 0, 0, 0)
	call(unix.SYS_PRCTL, unix.PR_GET_SECUREBITS, 0, 0, 0)
	call(unix.SYS_PRCTL, unix.PR_MCE_KILL_GET, 0, 0, 0)
	call(unix.SYS_PRCTL, unix.PR_GET_IO_FLUSHER, 0, 0, 0)

	// Policy, niceness, priority, what a deadline is made of, and whether children begin anew.
	var attr unix.SchedAttr
	call(unix.SYS_SCHED_GETATTR, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	for _, n := range [...]uint64{
		uint64(attr.Policy), attr.Flags, uint64(uint32(attr.Nice)), uint64(attr.Priority),
		attr.Runtime, attr.Deadline, attr.Period, uint64(attr.Util_min), uint64(attr.Util_max),
	} {
		number(n)
	}

	// Where memory comes from, and from which nodes.
	var policy int32
	var nodes [16]uint64
	_, _, errno := unix.RawSyscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&policy)), uintptr(unsafe.Pointer(&nodes)), uintptr(len(nodes)*64), 0, 0, 0)
	number(uint64(errno))
	number(uint64(policy))
	for _, n := range nodes {
		if n != 0 {
			number(n)
		}
	}

	var root unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, "/", unix.AT_NO_AUTOMOUNT, unix.STATX_INO|unix.STATX_MNT_ID, &root); err != nil {
		return "", &os.PathError{Op: "statx", Path: "/", Err: err}
	}
	for _, n := range [...]uint64{uint64(root.Dev_major), uint64(root.Dev_minor), root.Ino, root.Mnt_id} {
		number(n)
	}

	if root.Mask&unix.STATX_MNT_ID == 0 { // before Linux 5.8
		link, _ := os.Readlink("/proc/thread-self/ns/mnt") // without /proc it is not seen
		b = append(append(b, link...), ' ')
	}

	terminal, err := controllingTerminal()
	if err != nil {
		return "", err
	}
	return string(append(b, terminal...)), nil
}

// controllingTerminal is the device number of the terminal of this process, or a
// reason why it has none. A session's leader may get one at any time, and everybody can give it up.
func controllingTerminal() (string, error) {
	fd, err := open(unix.AT_FDCWD, "/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK)
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return "", &os.PathError{Op: "open", Path: "/dev/tty", Err: err}
	}
	if err != nil {
		return err.Error(), nil
	}
	defer unix.Close(fd) //nolint:errcheck // only asked
	number, err := unix.IoctlGetInt(fd, unix.TIOCGDEV)
	return fmt.Sprint(number, err), nil
}

// withoutProc asks for what /proc would say. The umask can't be asked for, only
// set, nor can the number of seccomp filters.
func withoutProc() (status, files string, err error) {
	var b strings.Builder
	var ids [6]int
	ids[0], ids[1], ids[2] = unix.Getresuid()
	ids[3], ids[4], ids[5] = unix.Getresgid()
	fmt.Fprintln(&b, "Uid:", ids)
	groups, err := syscall.Getgroups()
	if err != nil {
		return "", "", os.NewSyscallError("getgroups", err)
	}
	fmt.Fprintln(&b, "Groups:", groups)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return "", "", os.NewSyscallError("capget", err)
	}
	fmt.Fprintln(&b, "Caps:", sets)
	var bounding, ambient uint64
	for number := range uintptr(unix.CAP_LAST_CAP + 1) {
		bounding |= uint64(min(prctl(unix.PR_CAPBSET_READ, number), 1)) << number
		ambient |= uint64(min(prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, number), 1)) << number
	}
	fmt.Fprintf(&b, "CapBnd: %x %x\n", bounding, ambient)
	fmt.Fprintln(&b, "NoNewPrivs:", prctl(unix.PR_GET_NO_NEW_PRIVS))
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		return "", "", os.NewSyscallError("sched_getaffinity", err)
	}
	fmt.Fprintln(&b, "Cpus_allowed:", cpus)
	var limits strings.Builder
	for resource := range 16 {
		var limit unix.Rlimit
		if err := unix.Prlimit(0, resource, nil, &limit); err != nil {
			return "", "", os.NewSyscallError("prlimit", err)
		}
		fmt.Fprintln(&limits, resource, limit)
	}
	return b.String(), limits.String(), nil
}

// prctl returns 0 for what this kernel does not know.
func prctl(arguments ...uintptr) uintptr {
	var a [5]uintptr
	copy(a[:], arguments)
	value, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, a[0], a[1], a[2], a[3], a[4], 0)
	if errno != 0 {
		return 0
	}
	return value
}

// askSignals asks for the disposition of each signal; a file would say it in one line.
func askSignals() (s signals, err error) {
	for number := 1; number <= 64; number++ {
		var action struct { // the kernel's, which begins with the handler on amd64 and arm64
			handler uintptr
			rest    [8]uintptr
		}
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(number), 0, uintptr(unsafe.Pointer(&action)), 8, 0, 0)
		if errno != 0 {
			return s, os.NewSyscallError("rt_sigaction", errno)
		}
		if action.handler == 1 { // SIG_IGN
			s.ignored |= 1 << (number - 1)
		}
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, 0, 0, uintptr(unsafe.Pointer(&s.blocked)), 8, 0, 0)
	if errno != 0 {
		return s, os.NewSyscallError("rt_sigprocmask", errno)
	}
	return s, nil
}
