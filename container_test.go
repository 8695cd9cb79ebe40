package netrunner_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
	"github.com/netrunner-go/netrunner/internal/shepherd"
)

// A container is what runs the command that follows it in an environment of its
// own, as a container runtime does. The test binary is in $BOX.
type container struct {
	name   string
	prefix []string
}

// In a mount namespace of its own: a root that is read-only, a /tmp that no
// program may be executed from. $BOX may not be written to.
const readOnly = `mount --bind /tmp /tmp && mount -o remount,bind,noexec /tmp &&
mount --bind "$BOX" "$BOX" && mount -o remount,bind,ro,exec "$BOX" && mount -o remount,bind,ro / && exec "$@"`

var (
	withoutProc    = []string{"unshare", "--mount", "sh", "-c", `umount -l /proc && exec "$@"`, "sh"}
	pidNamespace   = []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}
	withoutOwnProc = []string{"unshare", "--pid", "--fork", "--kill-child"}
	readOnlyRoot   = []string{"unshare", "--mount", "sh", "-c", readOnly, "sh"}
	noNewPrivs     = []string{"setpriv", "--no-new-privs"}
	unprivileged   = []string{"setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"}
	nobodysHome    = []string{"env", "-u", "XDG_CACHE_HOME", "HOME=/nonexistent"}
)

// program is the test binary as one of helperPrograms.
func program(name string) []string { return []string{"env", helperVariable + "=" + name, "$BOX/test"} }

// noexecMemory sets vm.memfd_noexec, which each PID namespace has for itself
// (Documentation/userspace-api/mfd_noexec.rst).
func noexecMemory(value string) []string {
	return append(slices.Clone(pidNamespace), "sh", "-c", "echo "+value+` >/proc/sys/vm/memfd_noexec && exec "$@"`, "sh")
}

var containers = []container{
	{"PID 1", pidNamespace},
	{"PID 1 with the proc of another namespace", withoutOwnProc},
	{"no proc", withoutProc},
	{"no_new_privs", noNewPrivs},
	{"the seccomp filter of Docker", program("like-docker")},
	{"the seccomp filter of an older Docker", program("like-older-docker")},
	{"read-only root and noexec tmp", readOnlyRoot},
	{"vm.memfd_noexec=1", noexecMemory("1")},
	{"vm.memfd_noexec=2", noexecMemory("2")},
	{"unprivileged user", unprivileged},
	{"unprivileged user without a home", slices.Concat(unprivileged, nobodysHome)},
	{"all of it", slices.Concat(pidNamespace, readOnlyRoot, unprivileged, nobodysHome, noNewPrivs, program("like-docker"))},
}

// In each container: commands run, a tree with new sessions and daemons is
// killed, and one whose owner is killed is gone too.
func TestInsideContainers(t *testing.T) {
	box := newBox(t)
	for _, c := range containers {
		t.Run(c.name, func(t *testing.T) {
			owner := box.start(t, c)
			owner.says(t, "hello")
			owner.says(t, "killed") // by Process.Kill
			if left := marked(t, owner.first); len(left) > 0 {
				t.Errorf("after Kill and Wait there are %q", describe(left))
			}
			owner.says(t, "running")
			// The shell and its sleeps; some still execute, and have no command line for that instant.
			if !proctest.Eventually(t, "the tree", func() bool { return len(marked(t, owner.second)) >= 4 }) {
				t.Errorf("of it there is only %q", describe(marked(t, owner.second)))
			}
			helpers := owner.helpers(t)
			check(t, unix.Kill(owner.pid(t), unix.SIGKILL))
			// Without /proc a helper asks every pid that there can be, which takes seconds.
			waitGone(t, owner.second, 4*patience)
			for _, helper := range helpers {
				if !waitDeath(t, helper, 4*patience) {
					t.Errorf("there is %q", describe([]int{helper}))
				}
			}
		})
	}
}

// Where nothing may be executed that a program has brought with it, the error
// names every attempt and its cause, and there is a way out: install the helper.
func TestNoPlaceForTheHelper(t *testing.T) {
	box := newBox(t)
	mounted := func(options string) []string {
		return []string{"unshare", "--mount", "sh", "-c", "mount -t tmpfs -o " + options + ` tmpfs "$HOME" && exec "$@"`, "sh"}
	}
	for _, test := range []struct {
		name   string
		prefix []string
		cause  string // of the last attempt
	}{
		{"read-only", slices.Concat(readOnlyRoot, nobodysHome), "/nonexistent"},
		{"no space left", mounted("size=8k"), "no space left on device"},
		{"noexec", mounted("noexec"), "permission denied"},
		{"no home", []string{"env", "-u", "XDG_CACHE_HOME", "-u", "HOME"}, "$HOME"},
	} {
		t.Run(test.name, func(t *testing.T) {
			nowhere := slices.Concat(noexecMemory("2"), test.prefix)
			line := box.start(t, container{"", nowhere}).line(t)
			for _, part := range []string{
				"refused", "installed file", shepherd.InstalledPath, "memory", "memfd_create", "cache file", test.cause,
			} {
				if !strings.Contains(line, part) {
					t.Errorf("%q does not say %q", line, part)
				}
			}
			box.start(t, container{"", append(nowhere, "env", shepherd.HelperVariable+"=$BOX/shepherd")}).says(t, "hello")
		})
	}
}

// box is a directory that every user may read, with what runs in containers.
type box struct{ dir string }

func newBox(t *testing.T) box {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: only root makes namespaces and other users' processes everywhere")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the seccomp filter has amd64's numbers")
	}
	for _, name := range []string{"unshare", "setpriv", "mount", "umount"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%v: it is in Debian's util-linux and mount", err)
		}
	}
	if out, err := exec.Command("unshare", "--pid", "--fork", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("no namespaces can be made here: %v: %s", err, out)
	}
	if _, err := os.Stat("/proc/sys/vm/memfd_noexec"); err != nil {
		t.Skipf("this kernel is older than 6.3: %v", err)
	}
	dir, err := os.MkdirTemp("", "netrunner-box-")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	check(t, os.Chmod(dir, 0o755))
	self, err := os.Executable()
	check(t, err)
	proctest.CopyProgram(t, self, filepath.Join(dir, "test"), 0o755)
	helper := helperCommand(t, "install-helper", filepath.Join(dir, "shepherd"))
	check(t, helper.Run(testContext(t)))
	return box{dir}
}

// contained is an owner in a container.
type contained struct {
	mark, first, second string
	out                 *bufio.Reader
	top                 *exec.Cmd
}

// start runs the test's owner inside, under os/exec: what is tested has to end
// without anybody's help.
func (b box) start(t *testing.T, c container) *contained {
	t.Helper()
	o := &contained{mark: "owner-" + marker(), first: marker(), second: marker()}
	args := slices.Concat(c.prefix, program("contained"), []string{o.mark})
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, "$BOX/", b.dir+"/")
	}
	o.top = exec.Command(args[0], args[1:]...)
	o.top.Env = append(os.Environ(), "BOX="+b.dir, "HOME="+t.TempDir(), "FIRST="+o.first, "SECOND="+o.second)
	var stderr bytes.Buffer
	o.top.Stderr = &stderr
	out, err := o.top.StdoutPipe()
	check(t, err)
	o.out = bufio.NewReader(out)
	check(t, o.top.Start())
	t.Cleanup(func() {
		// What is left of it is killed so that it harms no other test; its absence is tested before.
		for _, mark := range []string{o.mark, o.first, o.second} {
			for _, pid := range marked(t, mark) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		_, _ = io.Copy(io.Discard, o.out)
		_ = o.top.Wait()
		if t.Failed() {
			t.Logf("its standard error: %s", stderr.String())
		}
	})
	return o
}

func (o *contained) line(t *testing.T) string {
	t.Helper()
	line, err := o.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (o *contained) says(t *testing.T, want string) {
	t.Helper()
	if line := o.line(t); line != want {
		t.Fatalf("it says %q, not %q", line, want)
	}
}

// pid is the owner's own, as it is outside: the one of unshare, sh, env and what
// they have become that has helpers.
func (o *contained) pid(t *testing.T) int {
	t.Helper()
	for _, pid := range marked(t, o.mark) {
		for _, child := range children(t, pid) {
			if p, ok := proctest.Read(child); ok && strings.HasPrefix(p.Name, "netrunner: wat") {
				return pid
			}
		}
	}
	t.Fatalf("none of %q has a watcher", describe(marked(t, o.mark)))
	return 0
}

func (o *contained) helpers(t *testing.T) (pids []int) {
	t.Helper()
	for _, pid := range children(t, o.pid(t)) {
		pids = append(append(pids, pid), children(t, pid)...)
	}
	if len(pids) < 2 {
		t.Fatalf("the helpers are %q", describe(pids))
	}
	return pids
}

func init() {
	const tree = "setsid sleep $0 & (setsid sh -c 'sleep $0 <&- >&- 2>&- & sleep $0' $0 <&- >&- 2>&- &) ; nohup sleep $0 >/dev/null & echo ready; wait"
	startTree := func(mark string) (*netrunner.Process, error) {
		cmd := netrunner.Command("/bin/sh", "-c", tree, mark)
		cmd.Stdout = netrunner.Pipe
		cmd.KillTimeout = 100 * time.Millisecond
		p, err := cmd.Start(context.Background())
		if err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(p.Stdout(), make([]byte, len("ready\n"))); err != nil {
			return nil, err
		}
		return p, nil
	}
	helperPrograms["contained"] = func([]string) {
		must := func(err error) {
			if err != nil {
				fmt.Println("refused:", strings.ReplaceAll(err.Error(), "\n", "; "))
				os.Exit(1)
			}
		}
		out, err := netrunner.Command("/bin/echo", "hello").Output(context.Background())
		must(err)
		fmt.Printf("%s", out)
		p, err := startTree(os.Getenv("FIRST"))
		must(err)
		must(p.Kill())
		_, err = p.Wait()
		var exit *netrunner.ExitError
		if !errors.As(err, &exit) || exit.State.Signal() != syscall.SIGKILL {
			must(fmt.Errorf("killed, and it ended with %w", err))
		}
		fmt.Println("killed")
		_, err = startTree(os.Getenv("SECOND"))
		must(err)
		fmt.Println("running")
		select {}
	}
	helperPrograms["install-helper"] = func(args []string) {
		if err := shepherd.Install(args[0]); err != nil {
			panic(err)
		}
	}
	helperPrograms["like-docker"] = func(args []string) {
		fmt.Println("refused:", proctest.ExecWithout(dockerDenies(), append([]string{"/usr/bin/env"}, args[1:]...)))
	}
	// Before 20.10.10 the filter said EPERM to what it did not know. (To clone3 as well, which
	// no glibc since 2.34 can live with; that is what the race detector's runtime is made of.)
	helperPrograms["like-older-docker"] = func(args []string) {
		denials := dockerDenies()
		for _, call := range []uintptr{
			unix.SYS_CLOSE_RANGE, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL,
			unix.SYS_OPENAT2, unix.SYS_FACCESSAT2, unix.SYS_EPOLL_PWAIT2,
		} {
			denials = append(denials, proctest.Denial{Call: call, Errno: unix.EPERM})
		}
		fmt.Println("refused:", proctest.ExecWithout(denials, append([]string{"/usr/bin/env"}, args[1:]...)))
	}
}

// dockerDenies is what Docker's default profile denies to a container without
// capabilities, of the calls that a runner of programs could want
// (https://docs.docker.com/engine/security/seccomp/).
func dockerDenies() []proctest.Denial {
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	denials := []proctest.Denial{
		{Call: unix.SYS_CLONE3, Errno: unix.ENOSYS},
		{Call: unix.SYS_CLONE, Has: namespaces, Errno: unix.EPERM},
	}
	for _, call := range []uintptr{
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
		unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN,
		unix.SYS_USERFAULTFD, unix.SYS_KCMP, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_ACCT,
		unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_REBOOT, unix.SYS_FANOTIFY_INIT, unix.SYS_LOOKUP_DCOOKIE,
		unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR,
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_VHANGUP,
	} {
		denials = append(denials, proctest.Denial{Call: call, Errno: unix.EPERM})
	}
	return denials
}
