package netrunner

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Code of the caller's is what reads and writes for a command, and what an
// [Observer] and a [Terminal] call. It may do what it likes: panic, never return,
// wait for the command that it is called for. No lock is held meanwhile, and no
// place in a group but that of a command that runs.

// PanicError is a panic of the caller's own code in a goroutine that is not the
// caller's: of a Reader or Writer of a command, of [Observer.Leftovers] or
// [Observer.Exited]. The command is stopped, and all that it had is given back.
// Then [Process.Wait] and Run panic with the PanicError; whoever doesn't call
// them finds it by [errors.As] in the command's error.
type PanicError struct {
	Value any    // of the panic
	Stack []byte // where it was
}

func (e *PanicError) Error() string { return "panic: " + printable(fmt.Sprint(e.Value)) }

// Unwrap returns the value, when that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errGoexit is the value of a PanicError for runtime.Goexit, say by testing's FailNow.
var errGoexit = errors.New("runtime.Goexit was called")

// ErrWaitsForItself is returned to code of the caller's that is called for a
// command, and waits for the end of it, which waits for that code to return.
var ErrWaitsForItself = errors.New("is waited for by what it waits for itself")

// ErrCopyBlocked says that a Writer of the caller's has not returned for five
// seconds or more, though the command was gone and to be stopped. The goroutine
// that calls it is left behind, until the Writer returns.
var ErrCopyBlocked = errors.New("the output's Writer does not return")

// copyPatience is how long one call of a Writer may take when the tree of a command
// that was to be stopped is gone. It is changed by tests.
var copyPatience = newPatience(5 * time.Second)

func newPatience(d time.Duration) *atomic.Int64 {
	patience := new(atomic.Int64)
	patience.Store(int64(d))
	return patience
}

// guard calls code of the caller's for a command, and tells of its panic.
func guard(r *run, f func(), caught func(*PanicError)) {
	defer entered(frame{run: r})()
	returned := false
	defer func() {
		if !returned {
			caught(panicError(recover()))
		}
	}()
	f()
	returned = true
}

func panicError(value any) *PanicError {
	if value == nil {
		value = errGoexit
	}
	if already, ok := value.(*PanicError); ok { // of a command that this one's code has waited for
		return already
	}
	return &PanicError{value, debug.Stack()}
}

// frame says for what a goroutine is in code of the caller's: a command, or a
// command of a group that was not started.
type frame struct {
	run     *run
	members *members
}

func (f frame) of() *members {
	if f.run == nil {
		return f.members
	}
	if p, ok := f.run.whole.(*place); ok {
		return p.members
	}
	return nil
}

// within are the goroutines that are in code of the caller's, by their numbers.
var within struct {
	count atomic.Int64 // so that most need not look
	mu    sync.Mutex
	of    map[uint64][]frame
}

// entered notes that this goroutine calls code of the caller's, until the
// function that it returns is called.
func entered(f frame) (left func()) {
	id := goroutine()
	within.mu.Lock()
	defer within.mu.Unlock()
	if within.of == nil {
		within.of = make(map[uint64][]frame)
	}
	within.of[id] = append(within.of[id], f)
	within.count.Add(1)
	return func() {
		within.mu.Lock()
		defer within.mu.Unlock()
		within.count.Add(-1)
		if rest := within.of[id][:len(within.of[id])-1]; len(rest) > 0 {
			within.of[id] = rest
		} else {
			delete(within.of, id)
		}
	}
}

// isWithin reports whether this goroutine is in code of the caller's for what matches.
func isWithin(matches func(frame) bool) bool {
	if within.count.Load() == 0 {
		return false
	}
	id := goroutine()
	within.mu.Lock()
	defer within.mu.Unlock()
	for _, f := range within.of[id] {
		if matches(f) {
			return true
		}
	}
	return false
}

// goroutine is the number of this goroutine. Its trace begins: goroutine 7 [.
func goroutine() uint64 {
	var trace [64]byte
	text := string(trace[:runtime.Stack(trace[:], false)])
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "goroutine "), " ")
	id, _ := strconv.ParseUint(text, 10, 64)
	return id
}

// copying is the copy of an output to a Writer.
type copying struct {
	out    *outlet
	done   chan struct{}
	writes atomic.Int64 // that have returned
}

// harmless reports whether the copy is known not to wait for code of the
// caller's, nor to call any.
func (c *copying) harmless(w io.Writer) bool {
	if c.out.terminal != nil && c.out.terminal.recorder != nil {
		return false
	}
	switch w.(type) {
	case *bytes.Buffer, *strings.Builder:
		return true
	}
	return w == io.Discard
}

// begin copies, and calls the Writer in this goroutine.
func (c *copying) begin(w io.Writer) {
	r := c.out.run
	defer close(c.done)
	defer c.out.file.Close() //nolint:errcheck // when w has failed, the command finds its pipe closed, as in os/exec
	copyAll := func() { r.copied(c.out.copyTo(w, func(int64) { c.writes.Add(1) })) }
	if c.harmless(w) {
		copyAll()
		return
	}
	guard(r, copyAll, r.panicked)
}

// feedFrom copies a Reader of the caller's to the command.
func (i *inlet) feedFrom(from io.Reader) {
	defer close(i.run.input)
	guard(i.run, func() { i.run.copied(i.copyFrom(from)) }, i.run.panicked)
}

// endCopies waits until all output is copied. The outlets have been told that
// nothing more comes, or are closed. Whoever has stopped the command does not
// wait for a Writer that does not return, but for one that is slow: what is left
// is no more than a pipe holds, so that it comes to an end.
func (r *run) endCopies() {
	for _, copyAll := range r.delayed {
		copyAll()
	}
	hurried := r.hurried
	var over <-chan time.Time
	var writes int64 // at the last look
	for i := 0; i < len(r.copies); {
		select {
		case <-r.copies[i].done:
			i++
		case <-hurried:
			hurried = nil
			writes = r.writes()
			over = time.After(time.Duration(copyPatience.Load()))
		case <-over:
			if now := r.writes(); now != writes {
				writes = now
				over = time.After(time.Duration(copyPatience.Load()))
				continue
			}
			r.copied(ErrCopyBlocked)
			for _, c := range r.copies[i:] {
				_ = c.out.file.Close()
			}
			return
		}
	}
}

// writes is how many calls of Writers have returned. Those for a terminal don't
// count: whoever is left with it open may write to it for ever.
func (r *run) writes() (n int64) {
	for _, c := range r.copies {
		if c.out.terminal == nil {
			n += c.writes.Load()
		}
	}
	return n
}

// hurry is called when the command is to be stopped.
func (r *run) hurry() { r.hurrying.Do(func() { close(r.hurried) }) }

// panicked takes the first panic of code of the caller's, and stops the command.
func (r *run) panicked(p *PanicError) {
	<-r.begun
	r.mu.Lock()
	if r.panic == nil && !r.final { // whoever comes later has no one left to tell
		r.panic = p
	}
	r.mu.Unlock()
	if r.running != nil {
		r.stop(p)
	}
}

// observed calls the observer at the end, and makes its panic the command's.
func (r *run) observed(f func()) {
	guard(r, f, func(p *PanicError) {
		r.panicked(p)
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case r.err == nil:
			r.err = fmt.Errorf("%q: observer: %w", r.name, p)
		case !errors.As(r.err, new(*PanicError)):
			r.err = fmt.Errorf("%w (then: %w)", r.err, p)
		}
	})
}

// waitsForItself reports whether the caller is called for this command.
func (r *run) waitsForItself() bool {
	return isWithin(func(f frame) bool { return f.run == r })
}

// awaitStop waits for the end of commands that are to be stopped: code that is
// called for one of them, only until the trees are gone.
func awaitStop(r *run, ended <-chan struct{}, cancelled <-chan struct{}) bool {
	if r.waitsForItself() {
		ended = r.gone
	}
	select {
	case <-ended:
		return true
	case <-cancelled:
		return false
	}
}
