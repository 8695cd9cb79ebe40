package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/netrunner-go/netrunner"
)

const program = "/bin/true"

func runNetrunner(ctx context.Context) error { return netrunner.Command(program).Run(ctx) }
func runExec(ctx context.Context) error      { return exec.CommandContext(ctx, program).Run() }

// rounds is how often the two sides take turns, so that a slow moment of the
// machine meets both.
const rounds = 10

// oneAfterTheOther compares the median time of one run.
func oneAfterTheOther(ctx context.Context, length time.Duration) (result, error) {
	return byTurns(ctx, length, runNetrunner, runExec, 1.10)
}

// byTurns compares the median times of two sides that take turns; ours may take
// so many times as long.
func byTurns(ctx context.Context, length time.Duration, ours, theirs func(context.Context) error, most float64) (result, error) {
	var times [2][]time.Duration
	for range rounds {
		for side, run := range []func(context.Context) error{ours, theirs} {
			for end := time.Now().Add(length / rounds); time.Now().Before(end); {
				begin := time.Now()
				if err := run(ctx); err != nil {
					return result{}, err
				}
				times[side] = append(times[side], time.Since(begin))
			}
		}
	}
	a, b := median(times[0]), median(times[1])
	ratio := float64(a) / float64(b)
	return result{microseconds(a), microseconds(b), fmt.Sprintf("%.2f", ratio), ratio <= most}, nil
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func microseconds(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

// eightAtOnce compares commands a second.
func eightAtOnce(ctx context.Context, length time.Duration) (result, error) {
	var ours, theirs float64
	for range rounds {
		a, err := throughput(ctx, length/rounds, runNetrunner)
		if err != nil {
			return result{}, err
		}
		b, err := throughput(ctx, length/rounds, runExec)
		if err != nil {
			return result{}, err
		}
		ours, theirs = ours+a/rounds, theirs+b/rounds
	}
	ratio := ours / theirs
	return result{fmt.Sprintf("%.0f/s", ours), fmt.Sprintf("%.0f/s", theirs), fmt.Sprintf("%.2f", ratio), ratio >= 1.05}, nil
}

func throughput(ctx context.Context, length time.Duration, run func(context.Context) error) (float64, error) {
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	begin := time.Now()
	for range 8 {
		group.Go(func() {
			for time.Since(begin) < length && failed.Load() == nil {
				if err := run(ctx); err != nil {
					failed.Store(&err)
				}
				count.Add(1)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(count.Load()) / time.Since(begin).Seconds(), nil
}

// firstFlag makes this program run one command and say how long it took.
const firstFlag = "-first-command-of"

func first(side string) {
	run := runNetrunner
	if side == "os/exec" {
		run = runExec
	}
	begin := time.Now()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(time.Since(begin).Microseconds())
}

// firstCommand compares the first command of new processes, which for
// netrunner starts the watcher and a shepherd.
func firstCommand(ctx context.Context, length time.Duration) (result, error) {
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	times := map[string][]time.Duration{}
	for end := time.Now().Add(2 * length); time.Now().Before(end); {
		for _, side := range []string{"netrunner", "os/exec"} {
			out, err := netrunner.Command(self, firstFlag, side).Output(ctx)
			if err != nil {
				return result{}, err
			}
			took, err := strconv.Atoi(strings.TrimSpace(string(out)))
			if err != nil {
				return result{}, err
			}
			times[side] = append(times[side], time.Duration(took)*time.Microsecond)
		}
	}
	a, b := median(times["netrunner"]), median(times["os/exec"])
	ratio := float64(a) / float64(b)
	return result{microseconds(a), microseconds(b), fmt.Sprintf("%.2f", ratio), ratio <= 3}, nil
}
