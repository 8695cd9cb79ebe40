package exec_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	osexec "os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/exec"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

// What is promised beyond os/exec.

// nothingIsLeft fails the test unless all that is marked is gone at once.
func nothingIsLeft(t *testing.T, marker string) {
	t.Helper()
	if left := proctest.Marked(marker); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// awaitMarked waits until so many processes have the marker.
func awaitMarked(t *testing.T, marker, name string, count int) (found []proctest.Process) {
	t.Helper()
	proctest.Eventually(t, marker, func() bool {
		found = nil
		for _, p := range proctest.Marked(marker) {
			if p.Name == name {
				found = append(found, p)
			}
		}
		return len(found) == count
	})
	return found
}

func TestWhatACommandLeavesBehindIsKilled(t *testing.T) {
	marker := proctest.Marker()
	for _, script := range []string{
		"sleep $0 & exit 3",
		"setsid sleep $0 & exit 3",
		"(setsid sh -c 'sleep $0 & sleep $0' $0 </dev/null >/dev/null 2>&1 &) ; exit 3",
	} {
		err := exec.Command("sh", "-c", script, marker).Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 {
			t.Errorf("%s: %v", script, err)
		}
		nothingIsLeft(t, marker)
	}
}

func TestLeftovers(t *testing.T) {
	marker := proctest.Marker()
	cmd := exec.Command("sh", "-c", "sleep $0 & exit 0", marker)
	cmd.Leftovers = netrunner.LeaveLeftovers
	check(t, cmd.Run())
	for _, p := range awaitMarked(t, marker, "sleep", 1) {
		check(t, unix.Kill(p.PID, unix.SIGKILL))
		proctest.AwaitDeath(t, p.PID, proctest.Patience)
	}
}

func TestWaitDoesNotHangOnAGrandchild(t *testing.T) {
	marker := proctest.Marker()
	cmd := exec.Command("sh", "-c", "setsid sleep $0 & echo out; echo err >&2", marker)
	output, err := cmd.CombinedOutput()
	if string(output) != "out\nerr\n" || err != nil {
		t.Errorf("%q, %v", output, err)
	}
	nothingIsLeft(t, marker)

	// Nor does a reader of the pipe.
	cmd = exec.Command("sh", "-c", "setsid sleep $0 & echo out", marker)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	output, err = io.ReadAll(stdout)
	if string(output) != "out\n" || err != nil {
		t.Errorf("%q, %v", output, err)
	}
	check(t, cmd.Wait())
	nothingIsLeft(t, marker)
}

// A reader that never returns keeps nobody waiting either.
func TestWaitDoesNotHangOnStdin(t *testing.T) {
	reader, writer := io.Pipe()
	defer writer.Close()
	cmd := exec.Command("true")
	cmd.Stdin = reader
	check(t, cmd.Run())
}

func TestTheOwnersDeath(t *testing.T) {
	for _, of := range []string{"exec", "os/exec"} {
		t.Run(of, func(t *testing.T) {
			marker := proctest.Marker()
			owner := osexec.Command(self(), of, "sh", "-c", "trap '' HUP; setsid sleep $0 & sleep $0", marker)
			owner.Env = asProgram("own")
			check(t, owner.Start())
			sleepers := awaitMarked(t, marker, "sleep", 2)
			check(t, owner.Process.Kill())
			_ = owner.Wait() // killed
			if of == "exec" {
				for _, p := range sleepers {
					if !proctest.AwaitDeath(t, p.PID, proctest.Patience) {
						t.Errorf("%v lives", p)
					}
				}
				return
			}
			// The control: there they live on.
			for _, p := range awaitMarked(t, marker, "sleep", 2) {
				check(t, unix.Kill(p.PID, unix.SIGKILL))
				proctest.AwaitDeath(t, p.PID, proctest.Patience)
			}
		})
	}
}

// Many programs start something and never wait: it runs on.
func TestADroppedCommandRunsOn(t *testing.T) {
	marker := proctest.Marker()
	func() { check(t, exec.Command("sleep", marker).Start()) }()
	sleeper := awaitMarked(t, marker, "sleep", 1)[0]
	for range 5 {
		runtime.GC()
	}
	if p, ok := proctest.Read(sleeper.PID); !ok || p.Dead() {
		t.Error("it was stopped")
	}
	check(t, unix.Kill(sleeper.PID, unix.SIGKILL))
	proctest.AwaitDeath(t, sleeper.PID, proctest.Patience)
}

func TestKillEndsAll(t *testing.T) {
	marker := proctest.Marker()
	cmd := exec.Command("sh", "-c", "trap '' TERM; setsid sleep $0 & sleep $0 & wait", marker)
	check(t, cmd.Start())
	awaitMarked(t, marker, "sleep", 2)
	check(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Error(err)
	}
	nothingIsLeft(t, marker)
	if err := cmd.Process.Kill(); err != os.ErrProcessDone { // the very same, as callers of os/exec compare
		t.Errorf("after its end: %v", err)
	}
}

// A signal is for the command alone, also when it leads a group.
func TestSignalReachesTheCommandAlone(t *testing.T) {
	for _, sys := range []*syscall.SysProcAttr{nil, {Setpgid: true}, {Setsid: true}} {
		marker := proctest.Marker()
		var out bytes.Buffer
		cmd := exec.Command("sh", "-c", `trap 'echo told; kill $!; exit 0' USR1
perl -e '$SIG{USR1} = sub { print "child told\n"; exit }; $| = 1; print "ready\n"; sleep 1 while 1' $0 &
wait`, marker)
		cmd.Stdout, cmd.SysProcAttr = &synced{w: &out}, sys
		check(t, cmd.Start())
		proctest.Eventually(t, "the child", func() bool { return strings.Contains(cmd.Stdout.(*synced).String(), "ready") })
		check(t, cmd.Process.Signal(syscall.Signal(0)))
		check(t, cmd.Process.Signal(syscall.SIGUSR1))
		if err := cmd.Wait(); err != nil || out.String() != "ready\ntold\n" {
			t.Errorf("%+v: %q, %v", sys, out.String(), err)
		}
		if err := cmd.Process.Signal(syscall.Signal(0)); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("after its end: %v", err)
		}
	}
}

// Pdeathsig is what the command is told first when its owner dies, and its owner is
// the process: the end of the thread that started it is not told.
func TestPdeathsig(t *testing.T) {
	owner := osexec.Command(self(), "sh", "-c",
		"trap 'echo got USR2; exit 0' USR2; trap 'echo got TERM; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
	owner.Env = asProgram("own-pdeathsig")
	out, err := owner.StdoutPipe()
	check(t, err)
	check(t, owner.Start())
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	check(t, owner.Process.Kill())
	// Had the thread's end been told, "got USR2" would have come before the kill too:
	// the command would then be gone, and its owner without it.
	if line, err := lines.ReadString('\n'); line != "got USR2\n" {
		t.Errorf("%q, %v", line, err)
	}
	_ = owner.Wait() // killed
}

// The time from the context's end to the end of Wait is os/exec's.
func TestTimings(t *testing.T) {
	const delay = 300 * time.Millisecond
	for _, test := range []struct {
		name     string
		cancel   syscall.Signal // zero for Kill
		delay    time.Duration
		from, to time.Duration
	}{
		{"kill", 0, 0, 0, delay},
		{"a signal that it obeys", syscall.SIGTERM, delay, 0, delay},
		{"a signal that it ignores", syscall.SIGUSR1, delay, delay, 2 * delay},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, of := range []string{"exec", "os/exec"} {
				took, err := timed(t, of, test.cancel, test.delay)
				if took < test.from || took > test.to || err == nil {
					t.Errorf("%s: %v after %v", of, err, took)
				}
			}
		})
	}
}

func timed(t *testing.T, of string, signal syscall.Signal, delay time.Duration) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	args := []string{"-c", "trap '' USR1; echo ready; sleep 1000"}
	var cmd starter
	var stdout io.ReadCloser
	var err error
	if of == "exec" {
		c := exec.CommandContext(ctx, "sh", args...)
		stdout, err = c.StdoutPipe()
		c.WaitDelay = delay
		if signal != 0 {
			c.Cancel = func() error { return c.Process.Signal(signal) }
		}
		cmd = c
	} else {
		c := osexec.CommandContext(ctx, "sh", args...)
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		stdout, err = c.StdoutPipe()
		c.WaitDelay = delay
		if signal != 0 {
			c.Cancel = func() error { return c.Process.Signal(signal) }
		}
		t.Cleanup(func() { _ = unix.Kill(-c.Process.Pid, unix.SIGKILL) }) // its sleep
		cmd = c
	}
	check(t, err)
	check(t, cmd.Start())
	_, err = io.ReadFull(stdout, make([]byte, len("ready\n")))
	check(t, err)
	begin := time.Now()
	cancel()
	err = cmd.Wait()
	return time.Since(begin), err
}

// synced is a buffer that can be looked at while it is written to.
type synced struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (s *synced) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

func (s *synced) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.String()
}
