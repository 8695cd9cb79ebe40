package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/netrunner-go/netrunner"
)

// produced is how much one round moves, in blocks of 1 MiB.
const produced = 256 << 20

var producer = []string{"dd", "if=/dev/zero", "bs=1M", fmt.Sprintf("count=%d", produced>>20), "status=none"}

// throughOurs runs the producer and gives its output to a consumer.
func throughOurs(ctx context.Context, pipeSize int, consume func(io.Reader) (int64, error)) (int64, error) {
	cmd := netrunner.Command(producer[0], producer[1:]...)
	cmd.Stdout, cmd.PipeSize = netrunner.Pipe, pipeSize
	p, err := cmd.Start(ctx)
	if err != nil {
		return 0, err
	}
	n, err := consume(p.Stdout())
	_, waitErr := p.Wait()
	return n, errors.Join(err, waitErr, p.Stdout().Close())
}

func throughExec(ctx context.Context, consume func(io.Reader) (int64, error)) (int64, error) {
	cmd := exec.CommandContext(ctx, producer[0], producer[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	n, err := consume(out)
	return n, errors.Join(err, cmd.Wait())
}

// turns runs both sides one after the other, and compares the medians of their
// speeds. What each round moves is the same.
func turns(length time.Duration, bar float64, bytes int64, ours, theirs func() error) (result, error) {
	var times [2][]time.Duration
	for end := time.Now().Add(2 * length); len(times[1]) < 5 || time.Now().Before(end); {
		for i, run := range []func() error{ours, theirs} {
			begin := time.Now()
			if err := run(); err != nil {
				return result{}, err
			}
			times[i] = append(times[i], time.Since(begin))
		}
	}
	speed := func(times []time.Duration) float64 {
		slices.Sort(times)
		return float64(bytes) / times[len(times)/2].Seconds()
	}
	a, b := speed(times[0]), speed(times[1])
	mb := func(speed float64) string { return fmt.Sprintf("%.0f MB/s", speed/1e6) }
	return result{mb(a), mb(b), fmt.Sprintf("%.2f", a/b), a/b >= bar}, nil
}

func all(n int64, err error) error {
	if err == nil && n != produced {
		err = fmt.Errorf("%d bytes, not %d", n, int64(produced))
	}
	return err
}

// reading reads with the same buffer on both sides.
func reading(size int) func(context.Context, time.Duration) (result, error) {
	return func(ctx context.Context, length time.Duration) (result, error) {
		buffer := make([]byte, size)
		consume := func(r io.Reader) (total int64, err error) {
			for {
				n, err := r.Read(buffer)
				total += int64(n)
				if err == io.EOF {
					return total, nil
				}
				if err != nil {
					return total, err
				}
			}
		}
		return turns(length, 1.0, produced,
			func() error { return all(throughOurs(ctx, 0, consume)) },
			func() error { return all(throughExec(ctx, consume)) })
	}
}

// onlyWriter hides what else a writer can do: io.Copy then copies through a
// buffer of 32 KiB.
type onlyWriter struct{ io.Writer }

// toFile compares splice with copying, into a file in memory, so that no disk counts.
func toFile(ctx context.Context, length time.Duration, pipeSize int) (r result, err error) {
	file, err := os.CreateTemp("/dev/shm", "netrunner-bench-")
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	consume := func(w io.Writer) func(io.Reader) (int64, error) {
		return func(r io.Reader) (int64, error) {
			if _, err := file.Seek(0, io.SeekStart); err != nil {
				return 0, err
			}
			return io.Copy(w, r)
		}
	}
	return turns(length, 1.5, produced,
		func() error { return all(throughOurs(ctx, pipeSize, consume(file))) },
		func() error { return all(throughExec(ctx, consume(onlyWriter{file}))) })
}

// toSocket is the same with a Unix socket whose other end is read by cat into
// /dev/null, as fast as that can.
func toSocket(ctx context.Context, length time.Duration, pipeSize int) (r result, err error) {
	dir, err := os.MkdirTemp("", "netrunner-bench-")
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		return result{}, err
	}
	defer listener.Close() //nolint:errcheck // nothing is lost
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		return result{}, err
	}
	peer, err := listener.Accept()
	if err != nil {
		return result{}, err
	}
	file, err := peer.(*net.UnixConn).File()
	if err != nil {
		return result{}, err
	}
	sink := netrunner.Command("sh", "-c", "exec cat >/dev/null")
	sink.Stdin = file
	p, err := sink.Start(ctx)
	if err != nil {
		return result{}, err
	}
	defer func() {
		_ = conn.Close()
		_, waitErr := p.Wait()
		err = errors.Join(err, waitErr)
	}()
	if err := errors.Join(file.Close(), peer.Close()); err != nil {
		return result{}, err
	}
	consume := func(w io.Writer) func(io.Reader) (int64, error) {
		return func(r io.Reader) (int64, error) { return io.Copy(w, r) }
	}
	return turns(length, 1.5, produced,
		func() error { return all(throughOurs(ctx, pipeSize, consume(conn))) },
		func() error { return all(throughExec(ctx, consume(onlyWriter{conn}))) })
}

// sized runs a measurement with pipes of netrunner's that have this size.
func sized(measure func(context.Context, time.Duration, int) (result, error), pipeSize int) func(context.Context, time.Duration) (result, error) {
	return func(ctx context.Context, length time.Duration) (result, error) { return measure(ctx, length, pipeSize) }
}

const (
	logBytes = 1 << 30
	logLine  = "2026-11-23T10:11:12.345Z INFO server: handled request id=7f3a method=GET path=/index.html status=200\n"
)

// logLines compares Lines with bufio.Scanner on an os/exec pipe, over a gigabyte of a log.
func logLines(ctx context.Context, _ time.Duration) (r result, err error) {
	dir, err := os.MkdirTemp("/dev/shm", "netrunner-bench-")
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	const parts = 16
	path := filepath.Join(dir, "log")
	text := make([]byte, 0, logBytes/parts)
	for len(text)+len(logLine) <= cap(text) {
		text = append(text, logLine...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return result{}, err
	}
	want := parts * len(text) / len(logLine)
	args := slices.Repeat([]string{path}, parts)
	var allocations [2]uint64
	counted := func(i int, loop func() (int, error)) func() error {
		return func() error {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			lines, err := loop()
			runtime.ReadMemStats(&after)
			allocations[i] = after.Mallocs - before.Mallocs
			if err == nil && lines != want {
				err = fmt.Errorf("%d lines, not %d", lines, want)
			}
			return err
		}
	}
	r, err = turns(0, 1.0, int64(parts*len(text)), counted(0, func() (lines int, err error) {
		for _, err := range netrunner.Command("cat", args...).Lines(ctx) {
			if err != nil {
				return lines, err
			}
			lines++
		}
		return lines, nil
	}), counted(1, func() (lines int, err error) {
		cmd := exec.CommandContext(ctx, "cat", args...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			return 0, err
		}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		scanner := bufio.NewScanner(out)
		for scanner.Scan() {
			lines++
		}
		return lines, errors.Join(scanner.Err(), cmd.Wait())
	}))
	r.netrunner += fmt.Sprintf(", %d allocations", allocations[0])
	r.other += fmt.Sprintf(", %d allocations", allocations[1])
	return r, err
}

// thousandStreaming has a thousand commands that answer line by line, each read
// by a goroutine of the caller's with a buffer of 4 KiB.
func thousandStreaming(ctx context.Context, length time.Duration) (result, error) {
	const count, size = 1000, 4 << 10
	if err := runNetrunner(ctx); err != nil {
		return result{}, err
	}
	heapBefore, goroutinesBefore := ownerState()
	cmd := netrunner.Command("/bin/cat")
	cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
	var running []*netrunner.Process
	var readers sync.WaitGroup
	for range count {
		p, err := cmd.Start(ctx)
		if err != nil {
			return result{}, err // the commands end with this process
		}
		running = append(running, p)
		readers.Go(func() {
			_, _ = io.CopyBuffer(onlyWriter{io.Discard}, struct{ io.Reader }{p.Stdout()}, make([]byte, size))
		})
	}
	line := []byte(logLine)
	lines := 0
	begin := time.Now()
	for time.Since(begin) < length {
		for _, p := range running {
			if _, err := p.Stdin().Write(line); err != nil {
				return result{}, err
			}
			lines++
		}
	}
	took := time.Since(begin)
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return result{}, err
	}
	heap, goroutines := ownerState()
	perCommand := float64(heap-heapBefore)/count/1024 - size/1024
	each := float64(goroutines-goroutinesBefore)/count - 1 // the caller's own
	for _, p := range running {
		err = errors.Join(err, p.Stdin().Close())
	}
	readers.Wait()
	for _, p := range running {
		_, waitErr := p.Wait()
		err = errors.Join(err, waitErr, p.Stdout().Close())
	}
	value := fmt.Sprintf("%d, %.1f kB, %.1f", len(threads), perCommand, each)
	return result{fmt.Sprintf("%.0f lines/s", float64(lines)/took.Seconds()), "", value, len(threads) <= 40 && perCommand <= 16 && each <= 2}, err
}
