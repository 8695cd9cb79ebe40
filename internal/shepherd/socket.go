package shepherd

import (
	"context"
	"errors"
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

// sending is how much of a request has gone, and why the rest has not. The three
// ends are told apart: all of it has gone (the zero value of err), the peer is
// gone, or the request itself can't be sent.
type sending struct {
	written int
	err     error
}

// peerGone reports whether an error says that there is nobody to send to. Every
// other errno of sendmsg is about what was to be sent: a descriptor that is
// closed, or too many on their way (man 2 sendmsg, man 7 unix).
func peerGone(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrClosed)
}

// send writes all of b, the descriptors beside its first byte, and waits for room.
func (s *socket) send(b []byte, descriptors []int) (sent sending) {
	waitErr := s.raw.Write(func(fd uintptr) bool {
		sent.some(fd, b, descriptors)
		return sent.err != unix.EAGAIN
	})
	if sent.err == nil || sent.err == unix.EAGAIN {
		sent.err = waitErr
	}
	return sent
}

// sendNow writes all of b without waiting: where there is no room, the error is EAGAIN.
func (s *socket) sendNow(b []byte) (sent sending) {
	if err := s.raw.Control(func(fd uintptr) { sent.some(fd, b, nil) }); err != nil {
		sent.err = err
	}
	return sent
}

// some sends as much as there is room for.
func (s *sending) some(fd uintptr, b []byte, descriptors []int) {
	s.err = nil
	for s.written < len(b) && s.err == nil {
		var rights []byte
		if s.written == 0 && len(descriptors) > 0 {
			rights = unix.UnixRights(descriptors...)
		}
		n, err := unix.SendmsgN(int(fd), b[s.written:], rights, nil, unix.MSG_NOSIGNAL)
		if err == nil {
			s.written += n
		} else if err != unix.EINTR {
			s.err = os.NewSyscallError("sendmsg", err)
			if err == unix.EAGAIN { // the poller's business, and asked for often
				s.err = err
			}
		}
	}
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
		s.pending = s.buffer[:kept]
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

// within runs f, and makes its sends and receives on this socket fail when the
// context has ended for so long. It reports whether it did: then they all fail,
// for ever, and the socket is of no more use.
func (s *socket) within(ctx context.Context, patience time.Duration, f func()) (interrupted bool) {
	return within(ctx, patience, s.file.SetDeadline, f)
}

// within is that of a socket for one direction alone, or both.
func within(ctx context.Context, patience time.Duration, setDeadline func(time.Time) error, f func()) (interrupted bool) {
	if ctx.Done() == nil {
		f()
		return false
	}
	returned, decided := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(decided)
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-timer.C:
			interrupted = true
			_ = setDeadline(time.Unix(1, 0)) // fails only for a closed file, which waits for nothing
		case <-returned:
		}
	})
	f()
	close(returned)
	if !stop() {
		<-decided
	}
	return interrupted
}

// giveUp makes every send and receive fail, those that wait too, for ever.
func (s *socket) giveUp() { _ = s.file.SetDeadline(time.Unix(1, 0)) }

// drained reads, for so long at most, until the peer has hung up or been given
// up, and reports whether it has. What it says meanwhile is for nobody.
func (s *socket) drained(patience time.Duration) bool {
	_ = s.file.SetReadDeadline(time.Now().Add(patience)) // fails only for a closed file, where receive says so
	for {
		if _, err := s.receive(); err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

// clean reports whether nothing has come that was not asked for, and that the
// next command's start would take for its own.
func (s *socket) clean() bool { return len(s.pending) == 0 && s.pidfd < 0 }

// hangUp ends what goes down, as the owner's death would; what comes up can still be read.
func (s *socket) hangUp() {
	_ = s.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) }) // fails only when the peer has gone first
}

// close hangs up in both directions.
func (s *socket) close() {
	_ = s.file.Close()
	if fd := s.takePidfd(); fd >= 0 {
		_ = unix.Close(fd)
	}
}
