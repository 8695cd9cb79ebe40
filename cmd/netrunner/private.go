package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	errLink     = errors.New("it is a link, which could lead elsewhere; name the file itself")
	errStranger = errors.New("it belongs to another user")
	errKind     = errors.New("it is neither a file, a pipe nor a terminal")
)

// createPrivate opens a file for what is nobody else's business: figures and
// recordings hold arguments, and what was typed.
//
// A new file has mode 0600; one that is there, and is ours, gets it, and is then
// emptied. No link is followed, by no kind of it. A named pipe has to be ours too. A
// device is used as it is. /dev/stdout, /dev/fd/3 and the like, and with them the
// shell's >(…), are the descriptors that netrunner was started with, written to
// where they stand.
func createPrivate(path string) (*os.File, error) {
	if fd, ok := descriptorOf(path); ok {
		return inherited(path, fd)
	}
	fail := func(err error) (*os.File, error) { return nil, &os.PathError{Op: "open", Path: path, Err: err} }
	// Not O_TRUNC: what is emptied is looked at before.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NOCTTY, 0o600)
	if err != nil {
		if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink != 0 {
			return fail(errLink)
		}
		return nil, err
	}
	if err := makePrivate(file); err != nil {
		_ = file.Close() // nothing was written
		return fail(err)
	}
	return file, nil
}

func makePrivate(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errKind
	}
	kind := info.Mode().Type()
	switch {
	case kind == os.ModeDevice|os.ModeCharDevice:
		return nil
	case kind != 0 && kind != os.ModeNamedPipe:
		return errKind
	case int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("%w, %d", errStranger, stat.Uid)
	case stat.Nlink > 1:
		return errLink
	}
	if info.Mode().Perm()&^0o600 != 0 {
		if err := file.Chmod(0o600); err != nil {
			return err
		}
	}
	if kind == os.ModeNamedPipe {
		return nil
	}
	return file.Truncate(0)
}

// descriptorOf returns the number of the descriptor that a path stands for.
func descriptorOf(path string) (fd int, ok bool) {
	switch path = filepath.Clean(path); path {
	case "/dev/stdout":
		return 1, true
	case "/dev/stderr":
		return 2, true
	}
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if number, found := strings.CutPrefix(path, dir); found {
			fd, err := strconv.ParseUint(number, 10, 31)
			return int(fd), err == nil
		}
	}
	return 0, false
}

// inherited returns another descriptor of what was open when netrunner began. Its
// own ones end at an exec, those that it was given do not.
func inherited(path string, fd int) (*os.File, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err == nil && flags&unix.FD_CLOEXEC != 0 {
		err = unix.EBADF
	}
	if err == nil {
		fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
