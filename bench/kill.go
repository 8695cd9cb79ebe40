package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
)

//go:embed csrc/kill.c
var killSource []byte

// cleanedUp is what cleanUp has measured, for the plot.
type cleanedUp struct {
	processes        int
	netrunner, bareC time.Duration
}

var cleanedUps []cleanedUp

// cleanUp compares, for a tree of so many processes, the time from its owner's
// SIGKILL to the reaping of the last of them with what a bare C program needs
// to kill and reap as many of the same as one process group.
func cleanUp(processes int) func(context.Context, time.Duration) (result, error) {
	return func(ctx context.Context, length time.Duration) (r result, err error) {
		k, err := newKiller(ctx)
		if err != nil {
			return result{}, err
		}
		defer func() { err = errors.Join(err, k.close()) }()
		var times [3][]time.Duration // by turns, each in its place
		for end := time.Now().Add(2 * length); len(times[0]) < leastRounds || time.Now().Before(end); {
			for side, measure := range []func(context.Context, int) (time.Duration, error){k.killOwner, k.killGroup, k.loseOwner} {
				took, err := measure(ctx, processes)
				if err != nil {
					return result{}, err
				}
				times[side] = append(times[side], took)
			}
		}
		for _, t := range times {
			slices.Sort(t)
		}
		ours, bare, owner := times[0], times[1], times[2]
		cleanedUps = append(cleanedUps, cleanedUp{processes, middle(ours), middle(bare)})
		ratio := float64(middle(ours)) / float64(middle(bare))
		return result{
			netrunner: fmt.Sprintf("%s, the owner's own end %s", spread(ours), microseconds(middle(owner))),
			other:     spread(bare),
			value:     fmt.Sprintf("%.2f", ratio),
			met:       ratio <= 1.3,
		}, nil
	}
}

// killer has what both sides run: the program of csrc/kill.c.
type killer struct{ directory, program string }

func newKiller(ctx context.Context) (*killer, error) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		return nil, fmt.Errorf("this needs a C compiler (Debian: gcc and libc6-dev): %w", err)
	}
	directory, err := os.MkdirTemp("", "netrunner-bench-")
	if err != nil {
		return nil, err
	}
	k := &killer{directory, filepath.Join(directory, "kill")}
	compile := netrunner.Command(compiler, "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-o", k.program, "-x", "c", "-")
	compile.Stdin = bytes.NewReader(killSource)
	if err := compile.Run(ctx); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

func (k *killer) close() error { return os.RemoveAll(k.directory) }

// leastRounds is how often each side is measured however long that takes.
const leastRounds = 5

func middle(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

// spread is the median, and between what eight of ten lie.
func spread(sorted []time.Duration) string {
	return fmt.Sprintf("%s (%d–%d)", microseconds(middle(sorted)),
		sorted[len(sorted)/10].Microseconds(), sorted[len(sorted)-1-len(sorted)/10].Microseconds())
}

// killGroup lets the bare C program measure itself.
func (k *killer) killGroup(ctx context.Context, processes int) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, k.program, "group", strconv.Itoa(processes))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	took, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return time.Duration(took), err
}

// ownerFlag makes this program the owner of a tree: it runs the rest of its
// arguments, without grace, and waits for SIGKILL, or for the end of its input:
// it is not to outlive the program that measures.
const ownerFlag = "-own"

func own(arguments []string) error {
	cmd := netrunner.Command(arguments[0], arguments[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.StopSignal = syscall.SIGKILL // no grace
	p, err := cmd.Start(context.Background())
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(p) // a handle that is collected stops its command
	return errors.Join(errors.New("the owner is still alive, and nobody measures any more"), err)
}

// killOwner kills the owner of a tree, and returns how long it takes until the
// last process of the tree has been reaped.
func (k *killer) killOwner(ctx context.Context, processes int) (time.Duration, error) {
	return k.withTree(ctx, processes, func(t *tree) error {
		// One wake-up, at the death of the last one; what is left then is to be reaped by its parent.
		if _, err := unix.Read(t.output, make([]byte, 1)); err != nil {
			return err
		}
		// In the order in which they were born, mostly, so the last is waited for first, and few of the others.
		for _, process := range slices.Backward(t.processes) {
			if err := await(process, unix.POLLHUP); err != nil {
				return err
			}
		}
		return nil
	})
}

// loseOwner kills an owner, and returns how long it takes until the kernel has
// closed the owner's descriptors. Nobody can know before that. The tree is one
// of a single process, however many are asked for: more of them, dying, would
// keep this program from its processor.
func (k *killer) loseOwner(ctx context.Context, _ int) (time.Duration, error) {
	return k.withTree(ctx, 1, func(t *tree) error {
		_, err := unix.Read(t.life, make([]byte, 1))
		return err
	})
}

// tree is what there is to wait for.
type tree struct {
	life      int   // pipe, open at the other end in the owner alone
	output    int   // pipe, open at the other end in the owner and in all processes of the tree
	processes []int // pidfds
	helpers   []int // those of the shepherd and of the watcher
}

// withTree starts an owner with a tree, kills the owner, and returns how long
// wait takes from then on. When it returns, tree and helpers are gone.
func (k *killer) withTree(ctx context.Context, processes int, wait func(*tree) error) (took time.Duration, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	// Not with netrunner: its shepherd would see the owner's death too, and act on it.
	owner := exec.CommandContext(ctx, self, ownerFlag, k.program, "tree", strconv.Itoa(processes))
	owner.Stderr = os.Stderr
	output, itsOutput, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer output.Close() //nolint:errcheck // it was only read from
	life, itsLife, err := os.Pipe()
	if err != nil {
		return 0, errors.Join(err, itsOutput.Close())
	}
	defer life.Close() //nolint:errcheck // it was only read from
	owner.Stdout, owner.ExtraFiles = itsOutput, []*os.File{itsLife}
	_, inputErr := owner.StdinPipe() // which Wait closes
	if err := errors.Join(inputErr, owner.Start(), itsOutput.Close(), itsLife.Close()); err != nil {
		return 0, err
	}
	defer func() {
		_ = owner.Process.Kill() // in case that something has failed before
		_ = owner.Wait()         // that it was killed
	}()
	root := 0
	if _, err := fmt.Fscanln(output, &root); err != nil {
		return 0, fmt.Errorf("the tree does not say that it is there: %w", err)
	}
	t := &tree{life: int(life.Fd()), output: int(output.Fd())} // Fd makes reads block, without the runtime's poller
	defer func() { err = errors.Join(err, t.close()) }()
	if err := t.open(root, processes); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := owner.Process.Kill(); err != nil {
		return 0, err
	}
	if err := wait(t); err != nil {
		return 0, err
	}
	took = time.Since(begin)
	for _, process := range append(t.helpers, t.processes...) { // before the next round
		if err := await(process, unix.POLLIN); err != nil {
			return 0, err
		}
	}
	return took, nil
}

// open finds the tree below its root, and the helpers above.
func (t *tree) open(root, processes int) error {
	shepherd, err := parent(root)
	if err != nil {
		return err
	}
	watcher, err := parent(shepherd)
	if err != nil {
		return err
	}
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", root, root))
	if err != nil {
		return err
	}
	children := strings.Fields(string(list))
	if len(children) != processes-1 {
		return fmt.Errorf("the tree has %d processes instead of %d", len(children)+1, processes)
	}
	pids := []int{shepherd, watcher, root}
	for _, child := range children {
		pid, err := strconv.Atoi(child)
		if err != nil {
			return err
		}
		pids = append(pids, pid)
	}
	for i, pid := range pids {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return fmt.Errorf("pidfd_open(%d): %w", pid, err)
		}
		if i < 2 {
			t.helpers = append(t.helpers, pidfd)
		} else {
			t.processes = append(t.processes, pidfd)
		}
	}
	return nil
}

func (t *tree) close() error {
	var errs []error
	for _, pidfd := range append(t.helpers, t.processes...) {
		errs = append(errs, unix.Close(pidfd))
	}
	return errors.Join(errs...)
}

// await waits until a process is dead (POLLIN) or reaped (POLLHUP, since Linux 6.9).
func await(pidfd int, event int16) error {
	polled := []unix.PollFd{{Fd: int32(pidfd), Events: event & unix.POLLIN}}
	for {
		ready, err := unix.Poll(polled, 10_000)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case ready == 0:
			return errors.New("a process is there 10 s after its owner's death, or this kernel is older than Linux 6.9 and does not say that it is gone")
		default:
			return nil
		}
	}
}
