package shepherd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// A file is executed only if nobody but root and we can change it, or what has its name.
func TestWhoMayBeTrustedWithAHelper(t *testing.T) {
	needHelper(t)
	tests := []struct {
		name string
		set  func(t *testing.T, dir, path string)
		want error // nil when it is to be run
	}{
		{"ours", func(*testing.T, string, string) {}, nil},
		{"only for reading", func(t *testing.T, _, path string) { must(t, os.Chmod(path, 0o555)) }, nil},
		{"writable by its group", func(t *testing.T, _, path string) { must(t, os.Chmod(path, 0o775)) }, errNotTrusted},
		{"writable by all", func(t *testing.T, _, path string) { must(t, os.Chmod(path, 0o757)) }, errNotTrusted},
		{"in a directory of its group", func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o770)) }, errNotTrusted},
		{"in a directory of all", func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o703)) }, errNotTrusted},
		{"in one like tmp", func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, os.ModeSticky|0o777)) }, errNotTrusted},
		{"another user's", func(t *testing.T, _, path string) { own(t, path) }, errNotTrusted},
		{"in another user's directory", func(t *testing.T, dir, _ string) { own(t, dir) }, errNotTrusted},
		{"a link to the right one", func(t *testing.T, dir, path string) {
			must(t, os.Rename(path, filepath.Join(dir, "real")))
			must(t, os.Symlink("real", path))
		}, syscall.ELOOP},
		{"a pipe", func(t *testing.T, _, path string) {
			must(t, os.Remove(path))
			must(t, unix.Mkfifo(path, 0o755))
		}, errNotOurs},
		{"without an end", func(t *testing.T, _, path string) {
			must(t, os.Remove(path))
			if err := unix.Mknod(path, unix.S_IFCHR|0o755, int(unix.Mkdev(1, 5))); err != nil {
				t.Skipf("cannot make a device like /dev/zero: %v", err)
			}
		}, errNotOurs},
		{"huge", func(t *testing.T, _, path string) { must(t, os.Truncate(path, 1<<40)) }, errNotOurs},
		{"changed", func(t *testing.T, _, path string) { change(t, path) }, errNotOurs},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			must(t, os.Mkdir(dir, 0o755))
			must(t, os.Chmod(dir, 0o755)) // whatever the umask
			path := filepath.Join(dir, "helper")
			must(t, Install(path))
			test.set(t, dir, path)
			var ran []string
			done := make(chan error)
			go func() {
				done <- execFile(path, func(path string) error { ran = append(ran, path); return nil })
			}()
			select {
			case err := <-done:
				if !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
			case <-time.After(proctest.Patience):
				t.Fatal("it blocks")
			}
			if (len(ran) == 1) != (test.want == nil) {
				t.Errorf("it has run %q", ran)
			}
		})
	}
}

// own gives a file to somebody else.
func own(t *testing.T, path string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: a file cannot be given to another user")
	}
	must(t, os.Chown(path, stranger, -1))
}

// change makes the helper's file another program of the same size.
func change(t *testing.T, path string) {
	t.Helper()
	content := slices.Clone(helper)
	content[len(content)-1] ^= 1
	must(t, os.WriteFile(path, content, 0o755))
}

// What takes the name of the file between the comparison and the start is not run.
func TestWhatIsComparedIsExecuted(t *testing.T) {
	needHelper(t)
	script := "#!/bin/sh\necho another program\n"
	for _, swap := range []struct {
		name string
		do   func(t *testing.T, path string)
	}{
		{"renamed over", func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".new", []byte(script), 0o755))
			must(t, os.Rename(path+".new", path))
		}},
		{"removed", func(t *testing.T, path string) { must(t, os.Remove(path)) }},
		{"its directory renamed", func(t *testing.T, path string) {
			dir := filepath.Dir(path)
			must(t, os.Rename(dir, dir+".old"))
			must(t, os.Mkdir(dir, 0o755))
			must(t, os.WriteFile(path, []byte(script), 0o755))
		}},
	} {
		t.Run(swap.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "dir", "helper")
			must(t, os.Mkdir(filepath.Dir(path), 0o755))
			must(t, Install(path))
			want := inode(t, path)
			err := execFile(path, func(named string) error {
				swap.do(t, path)
				if got := inode(t, named); got != want {
					t.Errorf("%s is the file %d, compared was %d", named, got, want)
				}
				var out strings.Builder
				cmd := exec.Command(named)
				cmd.Stdout = &out
				if err := cmd.Run(); out.Len() > 0 || cmd.ProcessState == nil {
					t.Errorf("it says %q, %v", out.String(), err)
				}
				return nil
			})
			must(t, err)
		})
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var info unix.Stat_t
	must(t, unix.Stat(path, &info))
	return info.Ino
}

// Without /proc a file is run by its name, if nobody can give that to another file.
func TestLastingName(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "middle", "dir")
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.Symlink("middle", filepath.Join(top, "link")))
	resolved, err := filepath.EvalSymlinks(dir)
	must(t, err)
	want := filepath.Join(resolved, "helper")
	check := func(name string, wanted error) {
		t.Helper()
		got, err := lastingName(filepath.Join(top, "link", "dir", "helper"))
		if !errors.Is(err, wanted) || err == nil && got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	check("ours", nil)
	must(t, os.Chmod(filepath.Join(top, "middle"), 0o777))
	check("others may rename", errRenamed)
	must(t, os.Chmod(filepath.Join(top, "middle"), os.ModeSticky|0o777))
	check("others may write, but not rename", nil)
	must(t, os.Chmod(filepath.Join(top, "middle"), 0o755))
	own(t, filepath.Join(top, "middle"))
	check("another's", errRenamed)
}

// The cache directory of another user is not believed, nor one that others write to.
func TestCacheOfSomebodyElse(t *testing.T) {
	needHelper(t)
	for name, set := range map[string]func(t *testing.T, dir string){
		"another user's": own,
		"for all":        func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o777)) },
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			t.Setenv("XDG_CACHE_HOME", cache)
			dir := filepath.Join(cache, "netrunner")
			must(t, os.Mkdir(dir, 0o755))
			set(t, dir)
			_, err := execCached(func(path string) error { t.Errorf("it runs %s", path); return nil })
			if !errors.Is(err, errNotTrusted) {
				t.Error(err)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				t.Errorf("%v were written, %v", entries, err)
			}
		})
	}
	t.Run("ours is for nobody else", func(t *testing.T) {
		cache := t.TempDir()
		t.Setenv("XDG_CACHE_HOME", cache)
		must(t, second(execCached(func(string) error { return nil })))
		info, err := os.Stat(filepath.Join(cache, "netrunner"))
		must(t, err)
		if info.Mode().Perm() != 0o700 {
			t.Errorf("its mode is %v", info.Mode())
		}
	})
}

func second[T any](_ T, err error) error { return err }

// A program that may do more than its caller does not let the caller choose the helper.
func TestPrivilegedProgramDoesNotBelieveItsEnvironment(t *testing.T) {
	needHelper(t)
	withoutInstalledHelper(t)
	if os.Getuid() != 0 {
		t.Skip("not root: a program that is set-uid to another user cannot be made")
	}
	dir := t.TempDir()
	for up := dir; up != filepath.Clean(os.TempDir()) && up != "/"; up = filepath.Dir(up) {
		must(t, os.Chmod(up, 0o755))
	}
	var fs unix.Statfs_t
	must(t, unix.Statfs(dir, &fs))
	if fs.Flags&(unix.ST_NOSUID|unix.ST_NOEXEC) != 0 {
		t.Skipf("the file system of %s is mounted nosuid or noexec", dir)
	}
	cache := filepath.Join(dir, "cache") // the right helper, root's
	must(t, os.MkdirAll(filepath.Join(cache, "netrunner"), 0o755))
	right := filepath.Join(cache, "netrunner", "shepherd-"+Sum()[:16])
	must(t, Install(right))
	self, err := os.Executable()
	must(t, err)
	for name, test := range map[string]struct {
		mode os.FileMode
		args []string
		user uint32
		want string
	}{
		"ordinary":             {0o755, nil, stranger, right + " " + right},
		"ordinary, without it": {0o755, []string{HelperVariable + "="}, stranger, "memory " + right},
		"set-uid":              {0o755 | os.ModeSetuid, nil, stranger, "memory refused"},
		"set-gid":              {0o755 | os.ModeSetgid, nil, stranger, "memory refused"},
		// AT_SECURE alone tells of it.
		"set-uid, then all ids alike": {0o755 | os.ModeSetuid, []string{"ALIKE=1"}, stranger, "memory refused"},
		"another effective user":      {0o755, []string{"EFFECTIVE=1"}, 0, "memory refused"},
		"set-uid root run by root":    {0o755 | os.ModeSetuid, nil, 0, right + " " + right},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.NewReplacer(" ", "-", ",", "").Replace(name))
			proctest.CopyProgram(t, self, path, test.mode)
			cmd := exec.Command(path)
			cmd.Env = append([]string{
				programVariable + "=helper-ways", HelperVariable + "=" + right, "XDG_CACHE_HOME=" + cache, "HOME=" + cache,
			}, test.args...)
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: test.user, Gid: test.user}}
			out, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != test.want {
				t.Errorf("%q, %v, want %q", out, err, test.want)
			}
		})
	}
}

// printHelperWays prints where the helper is started from, and where it is when
// nothing starts from memory.
func printHelperWays() {
	if os.Getenv("ALIKE") != "" {
		if err := syscall.Setresuid(os.Geteuid(), os.Geteuid(), os.Geteuid()); err != nil {
			fail(err)
		}
	}
	if os.Getenv("EFFECTIVE") != "" {
		if err := syscall.Setresuid(-1, stranger, -1); err != nil {
			fail(err)
		}
	}
	way, err := startHelper("", func(string) error { return nil })
	if err != nil {
		fail(err)
	}
	second, err := startHelper("", func(path string) error {
		if file, err := os.Readlink(path); err != nil || strings.HasPrefix(file, "/memfd:") {
			return errors.Join(syscall.EACCES, err)
		}
		return nil
	})
	if errors.Is(err, errPrivileged) {
		second = "refused"
	} else if err != nil {
		fail(err)
	}
	fmt.Println(way, second)
}
