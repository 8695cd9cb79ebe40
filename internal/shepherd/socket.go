package shepherd

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is the owner's end of a connection with a helper: requests go down
// with descriptors beside them, events come up. Waiting for either holds no
// thread. One goroutine may send while another receives.
type socket struct {
	file *os.File
	raw  syscall.RawConn

	// Of the receiver alone.
	buffer  [largestEvent]byte
	pending []byte
	pidfd   int // that came with the events so far, or -1
}

// newSocket makes a connected pair: ours, and the descriptor of the helper's end.
func newSocket() (ours *socket, theirs int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socketpair", err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		closeAll(pair[:])
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(pair[0]), "shepherd")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		_ = unix.Close(pair[1])
		return nil, -1, fmt.Errorf("socket: %w", err)
	}
	return &socket{file: file, raw: raw, pidfd: -1}, pair[1], nil
}

func closeAll(descriptors []int) {
	for _, fd := range descriptors {
		_ = unix.Close(fd)
	}
}

// send writes all of b, the descriptors beside its first byte. It reports how
// much was written, so that a caller can tell a peer that took nothing from one
// that may have acted.
func (s *socket) send(b []byte, descriptors []int) (written int, err error) {
	var rights []byte
	if len(descriptors) > 0 {
		rights = unix.UnixRights(descriptors...)
	}
	waitErr := s.raw.Write(func(fd uintptr) bool {
		for written < len(b) {
			var n int
			n, err = unix.SendmsgN(int(fd), b[written:], rights, nil, unix.MSG_NOSIGNAL)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				return false
			case err != nil:
				return true
			}
			written += n
			rights = nil
		}
		return true
	})
	if err == nil || err == unix.EAGAIN {
		err = waitErr
	}
	return written, os.NewSyscallError("sendmsg", err)
}

// errUnread is a helper's end that left something unread of what it was sent.
var errUnread = fmt.Errorf("%w before it had read all", io.EOF)

// receive returns the next event. io.EOF says that the helper is gone.
func (s *socket) receive() (event, error) {
	for {
		ev, rest, ok, err := cutEvent(s.pending)
		if err != nil {
			return event{}, err
		}
		if ok {
			s.pending = rest
			return ev, nil
		}
		kept := copy(s.buffer[:], s.pending)
		n, err := s.read(s.buffer[kept:])
		if err != nil {
			return event{}, err
		}
		s.pending = s.buffer[:kept+n]
	}
}

func (s *socket) read(b []byte) (n int, err error) {
	var rights [64]byte
	var rightsLen int
	waitErr := s.raw.Read(func(fd uintptr) bool {
		for {
			n, rightsLen, _, _, err = unix.Recvmsg(int(fd), b, rights[:], unix.MSG_CMSG_CLOEXEC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	switch {
	case waitErr != nil:
		return 0, waitErr
	case err == unix.ECONNRESET:
		return 0, errUnread
	case err != nil:
		return 0, os.NewSyscallError("recvmsg", err)
	}
	s.keepPidfd(rights[:rightsLen])
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (s *socket) keepPidfd(rights []byte) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return
	}
	for i := range messages {
		descriptors, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range descriptors {
			if s.pidfd >= 0 {
				_ = unix.Close(s.pidfd)
			}
			s.pidfd = fd
		}
	}
}

// takePidfd gives away the descriptor that came with the last event, or -1.
func (s *socket) takePidfd() int {
	fd := s.pidfd
	s.pidfd = -1
	return fd
}

// interrupt makes every send and receive fail that waits for longer than that, until resume.
func (s *socket) interrupt(after time.Duration) { _ = s.file.SetDeadline(time.Now().Add(after)) }

func (s *socket) resume() { _ = s.file.SetDeadline(time.Time{}) }

// close hangs up. The helper takes that for the owner's death.
func (s *socket) close() {
	_ = s.file.Close()
	if fd := s.takePidfd(); fd >= 0 {
		_ = unix.Close(fd)
	}
}
