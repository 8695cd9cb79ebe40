package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// In a directory where everybody may write, somebody else may have made the file.
func TestAnotherUsersFileIsNotWritten(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: a file cannot be given to another user")
	}
	for name, create := range map[string]func(path string) error{
		"file": func(path string) error { return os.WriteFile(path, []byte("theirs"), 0o600) },
		"pipe": func(path string) error { return unix.Mkfifo(path, 0o666) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "stats.json")
			if err := errors.Join(create(path), os.Chown(path, 54321, 54321)); err != nil {
				t.Fatal(err)
			}
			reader, err := os.OpenFile(path, os.O_RDWR, 0) // of the pipe, so that it can be opened
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			file, err := createPrivate(path)
			if !errors.Is(err, errStranger) || file != nil {
				t.Errorf("%v, %v", file, err)
			}
			if info, err := os.Stat(path); err != nil || name == "file" && info.Size() == 0 {
				t.Errorf("it was emptied, %v", err)
			}
		})
	}
}

// A descriptor of netrunner's own is not for anybody's figures.
func TestOwnDescriptorsCannotBeNamed(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "own"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/", "/proc/self/fd/../fd/"} {
		if opened, err := createPrivate(fmt.Sprint(dir, file.Fd())); !errors.Is(err, unix.EBADF) {
			t.Errorf("%s: %v, %v", dir, opened, err)
		}
	}
}
