// Package pty opens pseudo-terminals (man 7 pty).
package pty

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Device is what a pseudo-terminal is opened by.
const Device = "/dev/ptmx"

// Pair is a pseudo-terminal: the side of who types and looks, and the side of
// the programs.
type Pair struct {
	Master *os.File // waiting for it holds no thread
	Slave  int      // blocks, as programs expect
}

// Open opens a new pseudo-terminal.
func Open() (*Pair, error) {
	master, err := openMaster()
	if err != nil {
		return nil, err
	}
	slave, err := openSlave(master)
	if err != nil {
		_ = unix.Close(master)
		return nil, err
	}
	return &Pair{os.NewFile(uintptr(master), Device), slave}, nil
}

func openMaster() (int, error) {
	for {
		fd, err := unix.Open(Device, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: Device, Err: err}
		}
		return fd, nil
	}
}

// openSlave opens the other side by the master's descriptor, so that it is the
// right one in whatever mount namespace this is; before Linux 4.13 by its path.
func openSlave(master int) (int, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, os.NewSyscallError("ioctl TIOCSPTLCK", err)
	}
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	if fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, flags); errno == 0 {
		return int(fd), nil
	}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, os.NewSyscallError("ioctl TIOCGPTN", err)
	}
	path := "/dev/pts/" + strconv.Itoa(number)
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// Close closes both sides.
func (p *Pair) Close() {
	_ = p.Master.Close()
	_ = unix.Close(p.Slave)
}
