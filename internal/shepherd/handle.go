package shepherd

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processHandle stands for a process that need not be a child. The zero value
// stands for one that is gone.
type processHandle struct {
	pid  int
	file *os.File // its pidfd; nil where the kernel has none (before Linux 5.3)
}

// newProcessHandle takes the pidfd over; -1 is none.
func newProcessHandle(pid, pidfd int) *processHandle {
	h := &processHandle{pid: pid}
	if pidfd >= 0 {
		_ = unix.SetNonblock(pidfd, true) // so that Go's poller takes it
		h.file = os.NewFile(uintptr(pidfd), "pidfd")
	}
	return h
}

// signal sends a signal, where there is a pidfd: a number alone may be somebody else's by now.
func (h *processHandle) signal(number unix.Signal) {
	if h.file == nil {
		return
	}
	if raw, err := h.file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), number, nil, 0) }) // it may have gone
	}
}

// awaitEnd waits for the end, for so long at most, and reaps the process if this
// one is its parent: a first process and a subreaper inherit it.
func (h *processHandle) awaitEnd(patience time.Duration) (ended bool) {
	if h.pid == 0 {
		return true
	}
	if h.file == nil {
		return h.awaitNumber(patience)
	}
	raw, err := h.file.SyscallConn()
	if err != nil { // closed: somebody else has seen the end
		return true
	}
	dead := func(fd uintptr) bool {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(polled, 0)
		ended = n > 0 && err == nil
		return ended
	}
	if err := raw.Control(func(fd uintptr) { dead(fd) }); err != nil {
		return true
	}
	if !ended && patience > 0 {
		_ = h.file.SetReadDeadline(time.Now().Add(patience))
		_ = raw.Read(dead) // past the deadline it has not ended
	}
	if !ended {
		return false
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED|unix.WNOHANG, nil) }) // ECHILD: it is another's
	_ = h.file.Close()
	return true
}

// awaitNumber is awaitEnd before there were pidfds. Signal 0 does nothing to whoever has the number by now.
func (h *processHandle) awaitNumber(patience time.Duration) (ended bool) {
	for until := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		_, _ = syscall.Wait4(h.pid, nil, syscall.WNOHANG, nil) // if it is a child
		if unix.Kill(h.pid, 0) == unix.ESRCH {
			return true
		}
		if time.Now().After(until) {
			return false
		}
	}
}
