package shepherd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var (
	errNotOurs = errors.New("it is not the helper that this version expects")
	errRenamed = errors.New("there is no /proc to name an open file by, and others may rename it or what it is in")
)

// lowestNumber is above the descriptors that the child is given: one of those
// would be in the place of ours when the child executes it.
const lowestNumber = 8

// execFile runs a helper that others have put there, if it is the right one and
// theirs alone who are trusted. What is executed is the descriptor that was looked
// at, so a file that takes its name meanwhile is not run.
func execFile(path string, exec func(string) error) error {
	fd, err := openHelper(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only read
	if err := verify(fd); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	name := descriptorPath(fd)
	if !names(name, fd) { // no /proc
		if name, err = lastingName(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := exec(name); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// openHelper opens a file in a directory that only root and we can change. It
// follows no link, and does not wait for the other end of a pipe.
func openHelper(path string) (fd int, err error) {
	fail := func(err error) (int, error) { return -1, &os.PathError{Op: "open", Path: path, Err: err} }
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(dir) //nolint:errcheck // it was only looked at
	low, err := unix.Openat(dir, filepath.Base(path), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(low) //nolint:errcheck // it was only read
	if err := checkOwner(dir); err != nil {
		return -1, fmt.Errorf("%s: its directory: %w", path, err)
	}
	if fd, err = unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, lowestNumber); err != nil {
		return fail(err)
	}
	return fd, nil
}

// verify looks at what was opened. It reads no more than the helper is long, whatever
// the file is.
func verify(fd int) error {
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if info.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%w: it is not a regular file", errNotOurs)
	}
	if info.Size != int64(len(helper)) {
		return fmt.Errorf("%w: it has %d bytes, expected are %d with SHA-256 %s", errNotOurs, info.Size, len(helper), Sum())
	}
	if err := checkStat(&info, 0); err != nil {
		return err
	}
	content := make([]byte, len(helper))
	for read := 0; read < len(content); {
		n, err := unix.Pread(fd, content[read:], int64(read))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("pread", err)
		case n == 0:
			return fmt.Errorf("%w: it was cut off at %d bytes", errNotOurs, read)
		}
		read += max(n, 0)
	}
	if !bytes.Equal(content, helper) {
		return fmt.Errorf("%w: its SHA-256 is %x, expected is %s", errNotOurs, sha256.Sum256(content), Sum())
	}
	return nil
}

// execMemory runs the helper from a sealed memfd: it needs no file system that
// is writable and allows programs, only /proc to name the descriptor.
func execMemory(exec func(string) error) (string, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	low, err := unix.MemfdCreate("netrunner-shepherd", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 there is no such flag, and no need for it
		low, err = unix.MemfdCreate("netrunner-shepherd", flags)
	}
	if err != nil {
		return "", os.NewSyscallError("memfd_create", err)
	}
	fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, lowestNumber)
	_ = unix.Close(low)
	if err != nil {
		return "", os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(fd), "memfd:netrunner-shepherd")
	defer file.Close() //nolint:errcheck // nothing is lost with it
	if _, err := file.Write(helper); err != nil {
		return "", err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return "", os.NewSyscallError("fcntl", err)
	}
	if err := exec(descriptorPath(fd)); err != nil {
		return "", err
	}
	return "memory", nil
}

// descriptorPath names a descriptor, for the child too: it has the same until it
// has executed the program.
func descriptorPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// names reports whether a path names what a descriptor stands for.
func names(path string, fd int) bool {
	var named, open unix.Stat_t
	return unix.Stat(path, &named) == nil && unix.Fstat(fd, &open) == nil &&
		named.Dev == open.Dev && named.Ino == open.Ino
}
