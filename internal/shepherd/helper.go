package shepherd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// InstalledPath is where a package or an image puts the helper.
const InstalledPath = "/usr/libexec/netrunner/shepherd"

// HelperVariable names the environment variable that names the helper.
const HelperVariable = "NETRUNNER_HELPER"

// helperName is argv[0] of the watcher: room for the names that it gives itself.
const helperName = "netrunner: shepherd"

// Helper is the helper of this architecture, a static executable. It is empty
// where there is none.
func Helper() []byte { return helper }

// Sum is the SHA-256 of the helper, in hexadecimal.
var Sum = sync.OnceValue(func() string { return fmt.Sprintf("%x", sha256.Sum256(helper)) })

// HelperError says that no helper could be started, and what was tried.
type HelperError struct {
	Attempts []error // one a way, in the order in which they were tried
}

func (e *HelperError) Error() string {
	text := "no helper could be started"
	for _, attempt := range e.Attempts {
		text += "; " + attempt.Error()
	}
	return text
}

// Unwrap makes every attempt visible to errors.Is and errors.As.
func (e *HelperError) Unwrap() []error { return e.Attempts }

var (
	errNotOurs  = errors.New("it is not the helper that this version expects")
	errNoHelper = errors.New("there is no helper for this architecture")
)

// startHelper runs `exec` with the path of the helper, in one way after the
// other until it succeeds. `named` is what the program asked for; it and the
// environment's choice are the only way when they are set, since whoever names
// a helper has a reason not to run another.
func startHelper(named string, exec func(path string) error) (way string, err error) {
	if named == "" {
		named = os.Getenv(HelperVariable)
	}
	if named != "" {
		if err := execFile(named, exec); err != nil {
			return "", &HelperError{[]error{fmt.Errorf("named file: %w", err)}}
		}
		return named, nil
	}
	if len(helper) == 0 {
		return "", &HelperError{[]error{errNoHelper}}
	}
	ways := []struct {
		name  string
		start func(func(string) error) (string, error)
	}{
		{"installed file", func(exec func(string) error) (string, error) { return InstalledPath, execFile(InstalledPath, exec) }},
		{"memory", execMemory},
		{"cache file", execCached},
	}
	failed := &HelperError{}
	for _, way := range ways {
		path, err := way.start(exec)
		if err == nil {
			return path, nil
		}
		failed.Attempts = append(failed.Attempts, fmt.Errorf("%s: %w", way.name, err))
	}
	return "", failed
}

// execFile runs a helper that others have put there, if it is the right one.
func execFile(path string, exec func(string) error) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(content, helper) {
		return fmt.Errorf("%s: %w: its SHA-256 is %x, expected is %s", path, errNotOurs, sha256.Sum256(content), Sum())
	}
	return exec(path)
}

// execMemory runs the helper from a sealed memfd: it needs no file system that
// is writable and allows programs, only /proc to name the descriptor.
func execMemory(exec func(string) error) (string, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("netrunner-shepherd", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 there is no such flag, and no need for it
		fd, err = unix.MemfdCreate("netrunner-shepherd", flags)
	}
	if err != nil {
		return "", os.NewSyscallError("memfd_create", err)
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
	if err := exec(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
		return "", err
	}
	return "memory", nil
}

// execCached runs the helper from a file in the user's cache directory, which
// it writes if it isn't there.
func execCached(exec func(string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "netrunner", "shepherd-"+Sum()[:16])
	if execFile(path, exec) == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	if err := Install(path); err != nil {
		return "", err
	}
	return path, execFile(path, exec)
}

// Install writes the helper to path, atomically: whoever starts it meanwhile
// sees the old file or the new one, and both are whole.
func Install(path string) error {
	if len(helper) == 0 {
		return errNoHelper
	}
	// A child that is forked while the file is open for writing would keep it so,
	// and the exec would fail with ETXTBSY (golang/go issue 22315).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	file, err := os.CreateTemp(filepath.Dir(path), ".shepherd-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(file, bytes.NewReader(helper))
	if err == nil {
		err = file.Chmod(0o755)
	}
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}
