package shepherd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// errNotTrusted says that somebody else could change what is to be executed.
var errNotTrusted = errors.New("it is not only root's and this user's")

// checkOwner refuses what others than root and we may write to. An access list
// that lets them shows in the bits of the group (man 5 acl).
func checkOwner(fd int) error {
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	return checkStat(&info, 0)
}

// checkStat passes over a mode with all the bits of excuse.
func checkStat(info *unix.Stat_t, excuse uint32) error {
	const others = unix.S_IWGRP | unix.S_IWOTH
	switch {
	case info.Uid != 0 && int(info.Uid) != os.Geteuid():
		return fmt.Errorf("%w: its owner is the user %d", errNotTrusted, info.Uid)
	case info.Mode&others != 0 && (excuse == 0 || info.Mode&excuse != excuse):
		return fmt.Errorf("%w: its mode is %#o, and others may write to it", errNotTrusted, info.Mode&0o7777)
	}
	return nil
}

// lastingName returns a name of a file that openHelper has opened which nobody but
// root and we can give to another file: every directory above it is ours or root's.
// In one that everybody may write to, the sticky bit keeps others from renaming.
func lastingName(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	for up := filepath.Dir(dir); ; up = filepath.Dir(up) {
		var info unix.Stat_t
		if err := unix.Lstat(up, &info); err != nil {
			return "", &os.PathError{Op: "lstat", Path: up, Err: err}
		}
		if err := checkStat(&info, unix.S_ISVTX); err != nil {
			return "", fmt.Errorf("%w: %s: %w", errRenamed, up, err)
		}
		if up == "/" {
			return filepath.Join(dir, filepath.Base(path)), nil
		}
	}
}
