package shepherd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func needHelper(t *testing.T) {
	t.Helper()
	if len(helper) == 0 {
		t.Skip("no helper is embedded for this architecture")
	}
}

// refuse is a system that runs no program from these places.
func refuse(places ...string) (exec func(string) error, tried *[]string) {
	tried = new([]string)
	return func(path string) error {
		*tried = append(*tried, path)
		for _, place := range places {
			if strings.HasPrefix(path, place) {
				return fmt.Errorf("exec %s: %w", path, syscall.EACCES)
			}
		}
		return nil
	}, tried
}

// refuseMemory is a system that runs no program from memory.
func refuseMemory(t *testing.T) (exec func(string) error, tried *[]string) {
	tried = new([]string)
	return func(path string) error {
		file, err := os.Readlink(path)
		must(t, err)
		*tried = append(*tried, file)
		if strings.HasPrefix(file, "/memfd:") {
			return fmt.Errorf("exec %s: %w", path, syscall.EACCES)
		}
		return nil
	}, tried
}

func withoutInstalledHelper(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(InstalledPath); err == nil {
		t.Skipf("%s is installed on this machine", InstalledPath)
	}
}

func TestHelperIsStartedFromMemory(t *testing.T) {
	needHelper(t)
	withoutInstalledHelper(t)
	t.Setenv(HelperVariable, "")
	var content []byte
	way, err := startHelper("", func(path string) (err error) {
		if !strings.HasPrefix(path, "/proc/self/fd/") {
			t.Errorf("it runs %s", path)
		}
		content, err = os.ReadFile(path)
		must(t, err)
		if file, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			if _, err := file.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EPERM) {
				t.Errorf("it can be written to: %v", err)
			}
			_ = file.Close()
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(fd) //nolint:errcheck // only read
		const all = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
		if seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err != nil || seals&all != all {
			t.Errorf("its seals are %#x, %v", seals, err)
		}
		return nil
	})
	if err != nil || way != "memory" {
		t.Errorf("it is started from %q, %v", way, err)
	}
	if !bytes.Equal(content, helper) {
		t.Error("what is in memory is not the helper")
	}
}

func TestHelperIsStartedFromTheCacheWhereMemoryIsNot(t *testing.T) {
	needHelper(t)
	withoutInstalledHelper(t)
	t.Setenv(HelperVariable, "")
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	want := filepath.Join(cache, "netrunner", "shepherd-"+Sum()[:16])

	for _, before := range []string{"empty", "there", "corrupted", "shortened"} {
		t.Run(before, func(t *testing.T) {
			switch before {
			case "corrupted":
				content := slices.Clone(helper)
				content[len(content)/2] ^= 1
				must(t, os.WriteFile(want, content, 0o755))
			case "shortened":
				must(t, os.Truncate(want, 100))
			}
			exec, tried := refuseMemory(t)
			way, err := startHelper("", exec)
			if err != nil || way != want {
				t.Errorf("it is started from %q, %v", way, err)
			}
			if len(*tried) != 2 {
				t.Errorf("tried were %v", *tried)
			}
			content, err := os.ReadFile(want)
			must(t, err)
			if !bytes.Equal(content, helper) {
				t.Error("what is in the cache is not the helper")
			}
			info, err := os.Stat(want)
			must(t, err)
			if info.Mode() != 0o755 {
				t.Errorf("its mode is %v", info.Mode())
			}
			if entries, err := os.ReadDir(filepath.Dir(want)); err != nil || len(entries) != 1 {
				t.Errorf("beside it are %v, %v", entries, err)
			}
		})
	}
}

func TestErrorNamesEveryAttempt(t *testing.T) {
	needHelper(t)
	withoutInstalledHelper(t)
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	tests := []struct {
		name        string
		home, cache string
		places      []string
		last        error
	}{
		{"no program may be run", "", t.TempDir(), []string{"/"}, syscall.EACCES},
		{"no home", "", "", []string{"/"}, nil},
		{"a cache that is a file", "", file, []string{"/proc/"}, syscall.ENOTDIR},
		{"a cache that can't be written", "", "/proc/self", []string{"/proc/"}, syscall.ENOENT},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(HelperVariable, "")
			t.Setenv("HOME", test.home)
			t.Setenv("XDG_CACHE_HOME", test.cache)
			exec, _ := refuse(test.places...)
			way, err := startHelper("", exec)
			var failed *HelperError
			if way != "" || !errors.As(err, &failed) || len(failed.Attempts) != 3 {
				t.Fatalf("%q, %v", way, err)
			}
			for i, name := range []string{"installed file: ", "memory: ", "cache file: "} {
				if !strings.HasPrefix(failed.Attempts[i].Error(), name) || !strings.Contains(err.Error(), name) {
					t.Errorf("attempt %d is %q, not %q", i, failed.Attempts[i], name)
				}
			}
			if !errors.Is(err, os.ErrNotExist) || !errors.Is(err, syscall.EACCES) {
				t.Errorf("an attempt is not visible in %v", err)
			}
			if test.last != nil && !errors.Is(failed.Attempts[2], test.last) {
				t.Errorf("the last attempt failed for another reason: %v", failed.Attempts[2])
			}
		})
	}
}

// Whoever names a helper has a reason not to run another: there is no second attempt.
func TestNamedHelperIsTheOnlyOne(t *testing.T) {
	needHelper(t)
	dir := t.TempDir()
	right := filepath.Join(dir, "right")
	must(t, Install(right))
	wrong := filepath.Join(dir, "wrong")
	content := slices.Clone(helper)
	content[0] ^= 1
	must(t, os.WriteFile(wrong, content, 0o755))
	long := filepath.Join(dir, "long")
	must(t, os.WriteFile(long, append(slices.Clone(helper), 0), 0o755))
	missing := filepath.Join(dir, "missing")
	tests := []struct {
		name            string
		named, variable string
		way             string
		err             error
	}{
		{"by the program", right, "", right, nil},
		{"by the environment", "", right, right, nil},
		{"by both: the program's counts", right, missing, right, nil},
		{"missing", missing, right, "", os.ErrNotExist},
		{"missing, by the environment", "", missing, "", os.ErrNotExist},
		{"not ours", wrong, "", "", errNotOurs},
		{"too long", long, "", "", errNotOurs},
		{"a directory", dir, "", "", errNotOurs},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(HelperVariable, test.variable)
			exec, tried := refuse()
			way, err := startHelper(test.named, exec)
			if way != test.way || !errors.Is(err, test.err) {
				t.Errorf("%q, %v", way, err)
			}
			var failed *HelperError
			if err != nil && (!errors.As(err, &failed) || len(failed.Attempts) != 1 || len(*tried) != 0) {
				t.Errorf("tried were %v, %v", *tried, err)
			}
		})
	}
	t.Run("its hash is named", func(t *testing.T) {
		_, err := startHelper(wrong, func(string) error { return nil })
		for _, sum := range []string{Sum(), fmt.Sprintf("%x", sha256.Sum256(content))} {
			if !strings.Contains(err.Error(), sum) {
				t.Errorf("%s is not in %v", sum, err)
			}
		}
	})
}

func TestInstall(t *testing.T) {
	needHelper(t)
	t.Run("replaces what is there, and what is running", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "helper")
		must(t, os.WriteFile(path, []byte("old"), 0o600))
		old, err := os.Open(path)
		must(t, err)
		defer old.Close() //nolint:errcheck // only read
		must(t, Install(path))
		must(t, execFile(path, func(string) error { return nil }))
		// The old file is whole for whoever has it open.
		b := make([]byte, 10)
		if n, err := old.Read(b); err != nil || string(b[:n]) != "old" {
			t.Errorf("the old file says %q, %v", b[:n], err)
		}
	})
	t.Run("is seen whole at any time", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "helper")
		must(t, Install(path))
		var installers sync.WaitGroup
		done := make(chan struct{})
		for range 4 {
			installers.Go(func() {
				for range 20 {
					if err := Install(path); err != nil {
						t.Error(err)
					}
				}
			})
		}
		go func() { installers.Wait(); close(done) }()
		for looking := true; looking; {
			select {
			case <-done:
				looking = false
			default:
			}
			if content, err := os.ReadFile(path); err != nil || !bytes.Equal(content, helper) {
				t.Fatalf("%d bytes, %v", len(content), err)
			}
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(entries) != 1 {
			t.Errorf("%v are left, %v", entries, err)
		}
	})
	t.Run("leaves nothing when it fails", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, "helper", "not empty"), 0o700))
		if err := Install(filepath.Join(dir, "helper")); err == nil {
			t.Error("a directory was replaced")
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%v are left, %v", entries, err)
		}
		if err := Install(filepath.Join(dir, "missing", "helper")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("into a directory that is not there: %v", err)
		}
	})
}
