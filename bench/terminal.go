package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
)

// terminalStart compares the median time of a program on a terminal, from its
// start to its end and that of its output, with creack/pty.
func terminalStart(ctx context.Context, length time.Duration) (result, error) {
	return byTurns(ctx, length, ourTerminal(nil, "/bin/true"), theirTerminal("/bin/true"), 1.10)
}

// terminalOutput compares how fast 4 MiB come through a terminal.
func terminalOutput(ctx context.Context, length time.Duration) (result, error) {
	args := []string{"head", "-c", fmt.Sprint(terminalBytes), "/dev/zero"}
	r, err := byTurns(ctx, length, ourTerminal(netrunner.RawMode, args...), theirTerminal(args...), 1)
	if err != nil {
		return result{}, err
	}
	var ratio float64
	if _, err := fmt.Sscan(r.value, &ratio); err != nil {
		return result{}, err
	}
	return result{r.netrunner + " for 4 MiB", r.other, fmt.Sprintf("%.2f", 1/ratio), 1/ratio >= 0.995}, nil
}

const terminalBytes = 4 << 20

func ourTerminal(modes func(*unix.Termios), args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		cmd := netrunner.Command(args[0], args[1:]...)
		cmd.Terminal = &netrunner.Terminal{Modes: modes}
		return cmd.Run(ctx)
	}
}

func theirTerminal(args ...string) func(context.Context) error {
	return func(context.Context) error {
		cmd := exec.Command(args[0], args[1:]...)
		master, err := pty.Start(cmd)
		if err != nil {
			return err
		}
		defer master.Close() //nolint:errcheck // it was only read
		if _, err := io.Copy(io.Discard, master); err != nil && !errors.Is(err, syscall.EIO) {
			return err
		}
		return cmd.Wait()
	}
}
