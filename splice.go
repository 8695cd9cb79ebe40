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

// target is what a splice goes to.
type target struct {
	raw     syscall.RawConn
	regular bool // a file, which O_NONBLOCK means nothing to
}

// kernelTarget returns w's descriptor if the kernel can move a pipe's pages
// there by itself. Only types whose Write does nothing more are taken: one that
// embeds a connection may have a Write of its own. They are compared by name, so
// that nobody has to link the net package for this one.
func kernelTarget(w io.Writer) *target {
	switch t := reflect.TypeOf(w); {
	case t == nil:
		return nil
	case t == reflect.TypeFor[*os.File]():
	case t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "net" && (t.Elem().Name() == "TCPConn" || t.Elem().Name() == "UnixConn"):
	default:
		return nil
	}
	raw, err := w.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil // closed: let Write say so
	}
	to := &target{raw: raw}
	fit := false
	if raw.Control(func(fd uintptr) { fit, to.regular = neverBlocks(int(fd)) }) != nil || !fit {
		return nil
	}
	return to
}

// neverBlocks reports whether a splice to a file returns whoever reads there, or
// does not. The kernel holds the lock of the pipe meanwhile, and a command that
// wants to write to the pipe, or to close it, waits for the lock: not even SIGKILL
// ends it. So no terminals and other devices, no file system that a program or
// another machine serves, and no socket that waits.
func neverBlocks(fd int) (fit, regular bool) {
	var stat unix.Stat_t
	if unix.Fstat(fd, &stat) != nil {
		return false, false
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return isLocal(fd), true
	case unix.S_IFIFO:
		return nonBlocking(fd), false
	case unix.S_IFSOCK:
		kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		return err == nil && kind == unix.SOCK_STREAM && nonBlocking(fd), false // of others each Write is a message
	}
	return false, false
}

// nonBlocking looks each time: whoever shares the file may change it (man 2 fcntl, F_SETFL).
func nonBlocking(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}

// isLocal reports whether a regular file is on a file system that the kernel
// serves by itself, from memory or a disk (man 2 statfs). Those not known are not.
func isLocal(fd int) bool {
	var stat unix.Statfs_t
	for {
		switch err := unix.Fstatfs(fd, &stat); err {
		case nil:
		case unix.EINTR:
			continue
		default:
			return false
		}
		break
	}
	switch uint32(stat.Type) { //nolint:gosec // the numbers are of 32 bits
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC,
		unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, zfsMagic, bcachefsMagic:
		return true
	}
	return false
}

const (
	zfsMagic      = 0x2fc12fc1
	bcachefsMagic = 0xca451a4e
)

// splicer moves what comes from a pipe to a file, a socket or another pipe
// without bringing it into this process (man 2 splice).
type splicer struct {
	from, to syscall.RawConn
	regular  bool // a file, which O_NONBLOCK means nothing to
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
	if !s.regular && !nonBlocking(int(out)) {
		return unfit // it was made to block meanwhile
	}
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
func (o *outlet) spliceTo(to *target, count func(n int64)) (done bool, err error) {
	from, err := o.file.SyscallConn()
	if err != nil {
		return true, err
	}
	for s := (&splicer{from: from, to: to.raw, regular: to.regular}); ; {
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
