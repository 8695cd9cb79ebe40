package netrunner_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

// What can come of a start, and what is left of it in the shepherd that served it.

var crashTime = flag.Duration("crash.time", 2*time.Second, "how long handles of every kind are dropped")

// Handles are dropped and results ignored, while the collector finds them at
// every moment there is: while a command starts, runs, has just ended. The
// shepherd that it had is used again, or is not; the program goes on.
func TestDroppedHandlesLeaveTheProgramAlone(t *testing.T) {
	leaveNothing(t)
	ctx, running := t.Context(), netrunner.Totals().Running
	short, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sink []byte
	drop := func(cmd *netrunner.Cmd, ctx context.Context) { _, _ = cmd.Start(ctx) }
	kinds := []func(){
		func() { drop(netrunner.Command("/bin/true"), context.Background()) },
		func() { drop(netrunner.Command("/bin/true"), short) },
		func() { drop(&netrunner.Cmd{Path: "/bin/true", Timeout: time.Millisecond}, ctx) },
		func() { drop(&netrunner.Cmd{Path: "/bin/cat", Stdin: netrunner.Pipe, Stdout: netrunner.Pipe}, ctx) },
		func() {
			drop(&netrunner.Cmd{Path: "/bin/echo", Args: []string{"echo", "x"}, Terminal: &netrunner.Terminal{}, Stdout: netrunner.Pipe}, ctx)
		},
		func() { drop(netrunner.Command("/etc/hostname"), ctx) },
		func() {
			drop(&netrunner.Cmd{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, KillTimeout: time.Millisecond}, ctx)
		},
		func() {
			var g netrunner.Group
			_, _ = g.Start(ctx, netrunner.Command("/bin/true"))
		},
		func() {
			_, _ = netrunner.Pipeline{netrunner.Command("/bin/echo"), netrunner.Command("/bin/cat")}.Start(ctx)
		},
	}
	started := 0
	for begin := time.Now(); time.Since(begin) < *crashTime; started++ {
		sink = make([]byte, 1<<20)
		kinds[started%len(kinds)]()
	}
	runtime.KeepAlive(sink)
	cancel()
	t.Logf("%d commands", started)
	if out, err := netrunner.Command("echo", "well").Output(ctx); err != nil || string(out) != "well\n" {
		t.Errorf("afterwards a command says %q, %v", out, err)
	}
	proctest.Eventually(t, "the end of all that was dropped", func() bool {
		runtime.GC()
		return netrunner.Totals().Running == running
	})
}

// A descriptor that can't be passed is an error of the start, at once, with the
// errno of the call that has refused it. It is no reason to think that the
// shepherd has died, and the next command works.
func TestDescriptorsThatCannotBePassed(t *testing.T) {
	ring := func(t *testing.T) int {
		var parameters [120]byte // struct io_uring_params (man 2 io_uring_setup)
		fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&parameters)), 0)
		if errno != 0 {
			t.Skipf("this kernel makes no io_uring: %v", errno)
		}
		t.Cleanup(func() { _ = unix.Close(int(fd)) })
		return int(fd)
	}
	const closed = 999
	for _, test := range []struct {
		name  string
		cmd   func(t *testing.T) *netrunner.Cmd
		text  string
		errno syscall.Errno
	}{
		{"an extra file", func(*testing.T) *netrunner.Cmd {
			return &netrunner.Cmd{Path: "/bin/true", ExtraFiles: []*os.File{os.Stdin, os.NewFile(closed, "x")}}
		}, `start "/bin/true": pass descriptors "ExtraFiles[1]": bad file descriptor`, syscall.EBADF},
		{"standard output", func(*testing.T) *netrunner.Cmd {
			return &netrunner.Cmd{Path: "/bin/true", Stdout: os.NewFile(closed, "x")}
		}, `start "/bin/true": pass descriptors "Stdout": bad file descriptor`, syscall.EBADF},
		{"a terminal to be in the foreground of", func(*testing.T) *netrunner.Cmd {
			return &netrunner.Cmd{Path: "/bin/true", SysProcAttr: &syscall.SysProcAttr{Foreground: true, Ctty: closed}}
		}, `start "/bin/true": pass descriptors "SysProcAttr.Ctty": bad file descriptor`, syscall.EBADF},
		{"an io_uring", func(t *testing.T) *netrunner.Cmd {
			fd, err := unix.Dup(ring(t))
			check(t, err)
			return &netrunner.Cmd{Path: "/bin/true", ExtraFiles: []*os.File{os.NewFile(uintptr(fd), "ring")}}
		}, `start "/bin/true": pass descriptors: invalid argument`, syscall.EINVAL},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := test.cmd(t)
			leaveNothing(t)
			for range 2 { // with a new shepherd, and perhaps an idle one
				begin := time.Now()
				err := cmd.Run(testContext(t))
				var start *netrunner.StartError
				if !errors.As(err, &start) || !errors.Is(err, test.errno) || err.Error() != test.text {
					t.Errorf("it fails with %v, want %s", err, test.text)
				}
				if errors.Is(err, netrunner.ErrShepherdLost) || time.Since(begin) > patience/2 {
					t.Errorf("after %v: %v", time.Since(begin), err)
				}
				check(t, netrunner.Command("true").Run(testContext(t)))
			}
			for _, f := range cmd.ExtraFiles {
				if f != os.Stdin {
					_ = f.Close()
				}
			}
		})
	}
}

// The shepherd is gone before it has taken the request, in the middle of a large
// one, and while it starts: another serves the command, or the error says what is known.
func TestARequestThatIsCutShort(t *testing.T) {
	leaveNothing(t)
	large := netrunner.Command("/bin/true", strings.Repeat("x", 100_000), strings.Repeat("y", 100_000))
	for i := range 50 {
		check(t, large.Run(testContext(t)))
		victims := children(t, children(t, os.Getpid())[0])
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			time.Sleep(time.Duration(i*20) * time.Microsecond) // each time a little later
			for _, pid := range victims {
				_ = unix.Kill(pid, unix.SIGKILL) // still the watcher's to reap, or gone
			}
		}()
		err := large.Run(testContext(t))
		<-killed
		if err != nil && !errors.Is(err, netrunner.ErrShepherdLost) {
			t.Errorf("attempt %d: %v", i, err)
		}
	}
	out, err := netrunner.Command("echo", "well").Output(testContext(t))
	if string(out) != "well\n" || err != nil {
		t.Errorf("afterwards: %q, %v", out, err)
	}
}
