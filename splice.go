package netrunner

import (
	"errors"
	"io"
	"os"
	"reflect"
	"syscall"

	"golang.org/x/sys/unix"
)

// spliceSize is how much one splice may move: the largest pipe that a user
// without privileges has, unless the administrator says otherwise (man 7 pipe).
const spliceSize = 1 << 20

// kernelTarget returns w's descriptor if the kernel can move a pipe's pages
// there by itself. Only types whose Write does nothing more are taken: one that
// embeds a connection may have a Write of its own. They are compared by name, so
// that nobody has to link the net package for this one.
func kernelTarget(w io.Writer) syscall.RawConn {
	switch t := reflect.TypeOf(w); {
	case t == reflect.TypeFor[*os.File]():
	case t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "net" && (t.Elem().Name() == "TCPConn" || t.Elem().Name() == "UnixConn"):
	default:
		return nil
	}
	raw, err := w.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil // closed: let Write say so
	}
	return raw
}

// splicer moves what comes from a pipe to a file, a socket or another pipe
// without bringing it into this process (man 2 splice).
type splicer struct {
	from, to syscall.RawConn
	n        int64
	err      error
}

// outcomes of one splice.
type spliced int

const (
	moved spliced = iota // n bytes, or none because of the error
	ended                // the pipe has no writer any more
	empty                // nothing has come yet
	full                 // the target takes no more for now
	unfit                // the kernel does not do it for such a target
)

// move waits until something can be moved, and moves it. The error is that of
// the wait.
func (s *splicer) move() (result spliced, waitErr error) {
	waitErr = s.from.Read(func(in uintptr) bool {
		if s.to.Control(func(out uintptr) { result = s.once(in, out) }) != nil {
			result = unfit // closed: let Write say so
		}
		return result != empty
	})
	if waitErr != nil || result != full {
		return result, waitErr
	}
	// The target is what has to be waited for. That the pipe is empty may only be
	// seen here, since both look alike to splice.
	waitErr = s.to.Write(func(out uintptr) bool {
		if s.from.Control(func(in uintptr) { result = s.once(in, out) }) != nil {
			result = unfit
		}
		return result != full
	})
	if waitErr != nil {
		// It has no poller, so it can't be waited for: a Write can.
		return unfit, nil
	}
	return result, nil
}

func (s *splicer) once(in, out uintptr) spliced {
	s.n, s.err = 0, nil
	for {
		n, err := unix.Splice(int(in), nil, int(out), nil, spliceSize, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if waiting, err := unix.IoctlGetInt(int(in), unix.TIOCINQ); err == nil && waiting > 0 {
				return full
			}
			return empty
		case err == unix.EINVAL || err == unix.ENOSYS || err == unix.EPERM:
			return unfit // opened for appending, a file system without splice, a seccomp filter
		case err != nil:
			s.err = os.NewSyscallError("splice", err)
			return moved
		case n == 0:
			return ended
		}
		s.n = n
		return moved
	}
}

// spliceTo moves all that comes to a target of the kernel's kind. It is done
// when it returns true; else the rest has to be copied.
func (o *outlet) spliceTo(to syscall.RawConn, count func(n int64)) (done bool, err error) {
	from, err := o.file.SyscallConn()
	if err != nil {
		return true, err
	}
	for s := (&splicer{from: from, to: to}); ; {
		result, err := s.move()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && o.ended.Load():
			return false, nil // the rest is there already
		case err != nil:
			return true, o.closedError(err)
		case result == unfit:
			return false, nil
		case result == ended:
			o.count(0)
			return true, nil
		case result == empty:
			continue
		}
		o.count(int(s.n))
		count(s.n)
		if s.err != nil {
			return true, s.err
		}
	}
}
