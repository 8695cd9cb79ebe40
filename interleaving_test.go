package netrunner_test

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

// pattern is what byte number i of a stream is: one that is lost, doubled or
// moved is seen.
func pattern(i int64) byte { return byte(i % 251) }

// echoing is a cat whose input and output the test has, and what should have
// become of them.
type echoing struct {
	p             *netrunner.Process
	cancel        context.CancelFunc
	written, read int64
	inputClosed   bool
	outputClosed  bool
	disturbed     bool // it may not echo all of it any more
}

// Any order of writes, reads, closes, deadlines, signals and ends comes to an
// end with every byte accounted for and nothing left.
func TestAnyInterleavingAccountsForEveryByte(t *testing.T) {
	leaveNothing(t)
	rapid.Check(t, func(t *rapid.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		cmd := netrunner.Command("cat")
		cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
		cmd.KillTimeout = 50 * time.Millisecond
		cmd.PipeSize = rapid.SampledFrom([]int{0, 1, 1 << 20}).Draw(t, "pipe size")
		p, err := cmd.Start(ctx)
		if err != nil {
			t.Fatal(err)
		}
		e := &echoing{p: p, cancel: cancel}
		t.Repeat(map[string]func(*rapid.T){
			"write":         e.write,
			"read":          e.readSome,
			"write again":   e.write,
			"read again":    e.readSome,
			"close input":   e.closeInput,
			"close output":  func(t *rapid.T) { e.rarely(t); e.outputClosed = true; e.disturbed = true; _ = p.Stdout().Close() },
			"signal":        func(t *rapid.T) { e.signal(t) },
			"stop":          func(t *rapid.T) { e.rarely(t); e.disturbed = true; _ = p.Stop(context.Background()) },
			"kill":          func(t *rapid.T) { e.rarely(t); e.disturbed = true; _ = p.Kill() },
			"cancel":        func(t *rapid.T) { e.rarely(t); e.disturbed = true; cancel() },
			"stop and cont": e.pause,
		})
		e.end(t)
	})
}

// rarely skips most of what ends everything, so that there is something to end.
func (e *echoing) rarely(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "rarely") != 0 {
		t.Skip("not now")
	}
}

// patienceDrawn is how long an operation may wait: from not at all to long enough.
func patienceDrawn(t *rapid.T) time.Time {
	return time.Now().Add(time.Duration(rapid.IntRange(-1, 5).Draw(t, "ms")) * time.Millisecond)
}

func (e *echoing) write(t *rapid.T) {
	b := make([]byte, rapid.SampledFrom([]int{0, 1, 4096, 65536, 300_000}).Draw(t, "write"))
	for i := range b {
		b[i] = pattern(e.written + int64(i))
	}
	_ = e.p.Stdin().SetWriteDeadline(patienceDrawn(t))
	n, err := e.p.Stdin().Write(b)
	e.written += int64(n)
	switch {
	case err == nil && n == len(b), errors.Is(err, os.ErrDeadlineExceeded):
	case e.inputClosed && errors.Is(err, os.ErrClosed):
	case e.disturbed && errors.Is(err, syscall.EPIPE):
	default:
		t.Fatalf("write: %d of %d, %v", n, len(b), err)
	}
}

func (e *echoing) readSome(t *rapid.T) {
	b := make([]byte, rapid.SampledFrom([]int{1, 4096, 100_000}).Draw(t, "read"))
	_ = e.p.Stdout().SetReadDeadline(patienceDrawn(t))
	n, err := e.p.Stdout().Read(b)
	e.check(t, b[:n])
	switch {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
	case err == io.EOF && (e.inputClosed || e.disturbed):
	case e.outputClosed && errors.Is(err, os.ErrClosed):
	default:
		t.Fatalf("read: %d, %v", n, err)
	}
}

func (e *echoing) check(t *rapid.T, b []byte) {
	for i, c := range b {
		if c != pattern(e.read+int64(i)) {
			t.Fatalf("byte %d is %d, not %d", e.read+int64(i), c, pattern(e.read+int64(i)))
		}
	}
	if e.read += int64(len(b)); e.read > e.written {
		t.Fatalf("%d bytes were read, and %d written", e.read, e.written)
	}
}

func (e *echoing) closeInput(t *rapid.T) {
	e.rarely(t)
	_ = e.p.Stdin().Close()
	e.inputClosed = true
}

func (e *echoing) signal(t *rapid.T) {
	signal := rapid.SampledFrom([]syscall.Signal{unix.SIGURG, unix.SIGWINCH, unix.SIGCHLD, unix.SIGHUP}).Draw(t, "signal")
	if signal == unix.SIGHUP {
		e.rarely(t)
		e.disturbed = true
	}
	if err := e.p.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

func (e *echoing) pause(*rapid.T) {
	_ = e.p.Signal(unix.SIGSTOP) // it may have ended
	_ = e.p.Signal(unix.SIGCONT)
}

// end lets the command come to its end, reads what is left, and compares.
func (e *echoing) end(t *rapid.T) {
	_ = e.p.Stdin().Close()
	if !e.outputClosed {
		_ = e.p.Stdout().SetReadDeadline(time.Time{})
		for b := make([]byte, 65536); ; {
			n, err := e.p.Stdout().Read(b)
			e.check(t, b[:n])
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	state, err := e.p.Wait()
	if state == nil {
		t.Fatal(err)
	}
	_ = e.p.Stdout().Close()
	if !e.disturbed && (err != nil || e.read != e.written) {
		t.Fatalf("%v; %d bytes were written and %d read", err, e.written, e.read)
	}
	if stats := state.Stats(); stats.BytesIn != e.written || stats.BytesOut != e.read {
		t.Fatalf("figures: %d in and %d out, want %d and %d", stats.BytesIn, stats.BytesOut, e.written, e.read)
	}
}

// A producer of ten gigabytes whose reader stops reading waits, and costs its
// owner nothing.
func TestAReaderThatStopsCostsNoMemory(t *testing.T) {
	leaveNothing(t)
	before := heapInUse()
	p := start(t, netrunner.Command("head", "-c", "10G", "/dev/zero"))
	_, err := io.ReadFull(p.Stdout(), make([]byte, 1000))
	check(t, err)
	proctest.Eventually(t, "a producer that waits for room in the pipe", func() bool {
		now, ok := proctest.Read(p.PID())
		return ok && now.State == 'S'
	})
	if grown := heapInUse() - before; grown > 1<<20 {
		t.Errorf("the owner has grown by %d bytes", grown)
	}
	if read := p.Stats().BytesOut; read != 1000 {
		t.Errorf("%d bytes were read, and 1000 asked for", read)
	}
	total := 0
	for chunk, err := range netrunner.Command("head", "-c", "10G", "/dev/zero").Chunks(t.Context()) {
		check(t, err)
		if total += len(chunk); total > 1_000_000 {
			if grown := heapInUse() - before; grown > 1<<20 {
				t.Errorf("with a loop the owner has grown by %d bytes", grown)
			}
			break
		}
	}
}

// heapInUse is what is reachable, in bytes.
func heapInUse() int64 {
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return int64(memory.HeapAlloc)
}
