package shepherd

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

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
	if err := install(path, true); err != nil {
		return "", err
	}
	return path, execFile(path, exec)
}

// Install writes the helper to path, atomically: whoever starts it meanwhile
// sees the old file or the new one, and both are whole.
func Install(path string) error { return install(path, false) }

// install may be told to write only to a directory that is trusted.
func install(path string, onlyTrusted bool) error {
	if len(helper) == 0 {
		return errNoHelper
	}
	dir, err := os.OpenRoot(filepath.Dir(path)) // one directory from here on, whatever takes its name
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // nothing is lost with it
	if onlyTrusted {
		if err := checkRoot(dir); err != nil {
			return fmt.Errorf("%s: %w", dir.Name(), err)
		}
	}
	// A child that is forked while the file is open for writing would keep it so,
	// and the exec would fail with ETXTBSY (golang/go issue 22315).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	temporary := ".shepherd-" + rand.Text()
	file, err := dir.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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
		err = dir.Rename(temporary, filepath.Base(path))
	}
	if err != nil {
		_ = dir.Remove(temporary)
	}
	return err
}

func checkRoot(dir *os.Root) error {
	file, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only looked at
	return checkOwner(int(file.Fd()))
}
