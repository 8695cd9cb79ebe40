package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/netrunner-go/netrunner"
)

// startMany starts commands that wait for the end of their input.
func startMany(ctx context.Context, count int) (end func() error, pids []int, err error) {
	cmd := netrunner.Command("/bin/cat")
	cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
	var running []*netrunner.Process
	end = func() error {
		var errs []error
		for _, p := range running {
			errs = append(errs, p.Stdin().Close(), p.Stdout().Close())
		}
		for _, p := range running {
			_, err := p.Wait()
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	for range count {
		p, err := cmd.Start(ctx)
		if err != nil {
			return nil, nil, errors.Join(err, end())
		}
		running = append(running, p)
		pids = append(pids, p.PID())
	}
	return end, pids, nil
}

// shepherdMemory reads what belongs to one shepherd alone (man 5 proc, smaps_rollup).
func shepherdMemory(ctx context.Context, _ time.Duration) (result, error) {
	// One that has run others before.
	for range 100 {
		if err := runNetrunner(ctx); err != nil {
			return result{}, err
		}
	}
	end, pids, err := startMany(ctx, 1)
	if err != nil {
		return result{}, err
	}
	shepherd, err := parent(pids[0])
	if err != nil {
		return result{}, err
	}
	kib, err := procField(fmt.Sprintf("/proc/%d/smaps_rollup", shepherd), "Private_Dirty:")
	if err != nil {
		return result{}, err
	}
	clean, err := procField(fmt.Sprintf("/proc/%d/smaps_rollup", shepherd), "Private_Clean:")
	if err != nil {
		return result{}, err
	}
	kib += clean
	return result{fmt.Sprintf("%d kB", kib), "", fmt.Sprintf("%d kB", kib), kib <= 32}, end()
}

func parent(pid int) (int, error) { return procField(fmt.Sprintf("/proc/%d/status", pid), "PPid:") }

// procField returns the number after a name in a file of /proc.
func procField(path, name string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) > 1 && string(fields[0]) == name {
			return strconv.Atoi(string(fields[1]))
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

// ownerMemory measures heap, stacks and goroutines of 200 commands whose streams are piped.
func ownerMemory(ctx context.Context, _ time.Duration) (result, error) {
	const count = 200
	if err := runNetrunner(ctx); err != nil {
		return result{}, err
	}
	heapBefore, goroutinesBefore := ownerState()
	end, _, err := startMany(ctx, count)
	if err != nil {
		return result{}, err
	}
	heap, goroutines := ownerState()
	perCommand := float64(heap-heapBefore) / count / 1024
	each := float64(goroutines-goroutinesBefore) / count
	value := fmt.Sprintf("%.1f kB, %.1f", perCommand, each)
	return result{value, "", value, perCommand <= 16 && each <= 2}, end()
}

func ownerState() (bytes uint64, goroutines int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse, runtime.NumGoroutine()
}

func thousandAtOnce(ctx context.Context, _ time.Duration) (result, error) {
	begin := time.Now()
	end, _, err := startMany(ctx, 1000)
	if err != nil {
		return result{}, err
	}
	started := time.Since(begin)
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return result{}, err
	}
	if err := end(); err != nil {
		return result{}, err
	}
	both := time.Since(begin)
	value := strconv.Itoa(len(threads))
	details := fmt.Sprintf("started in %.1f s, ended after %.1f s", started.Seconds(), both.Seconds())
	return result{details, "", value, len(threads) <= 40}, nil
}
