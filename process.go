package netrunner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/netrunner-go/netrunner/internal/shepherd"
)

// inputPatience is how long a Read of Cmd.Stdin that blocks is waited for once
// the command has ended.
const inputPatience = 100 * time.Millisecond

// Process is a command that was started. Wait for it, or drop it: a Process that
// nobody refers to any more is stopped when the garbage collector finds it. Its
// methods are safe for concurrent use.
type Process struct {
	run      *run
	cleanup  runtime.Cleanup
	heldWith any // what is not collected before this: its group, its pipeline
}

// whole is what a command can be a part of: a group, or a pipeline.
type whole interface {
	// began is told before the end can come. It returns what is to be held as
	// long as the Process is.
	began(p *Process) (heldWith any)
	// ended calls r.announce. Where it holds a lock meanwhile, whoever has seen
	// the end of the command also sees what ended makes of it.
	ended(r *run)
	// concluded is told before that, and before the observer is, that the tree
	// is gone and r.err known.
	concluded(r *run)
}

// run is what the goroutines of a command work on. It does not refer to the
// Process, so that a Process that was dropped can be found.
type run struct {
	name     string
	running  *shepherd.Running
	start    time.Time
	counters counters

	limit     int64        // Cmd.MaxOutput
	remaining atomic.Int64 // of it
	leave     bool         // Cmd.Leftovers
	whole     whole        // nil for a command by itself

	terminal       *terminal // nil without one
	stdin          *inlet    // Pipe, or copied
	stdout, stderr *outlet
	outlets        []*outlet // every pipe that the command writes to
	pipes          struct{ stdin, stdout, stderr bool }
	captured       *capture      // of Stderr when nobody asked for it
	copies         []*copying    // of output
	delayed        []func()      // copy what is there, unless a goroutine does
	input          chan struct{} // closed when the copy of input has ended; nil without one

	observer *Observer       // may be nil
	ctx      context.Context // for it

	endContext func() // nothing is stopped by it any more

	begun    chan struct{} // closed when running is set, or never will be
	told     chan struct{} // closed when Observer.Started has returned; nil without one
	gone     chan struct{} // closed when the tree is gone
	hurried  chan struct{} // closed when the command is to be stopped
	hurrying sync.Once

	done chan struct{} // closed when what follows is final
	// state is nil when the shepherd was lost.
	state *State
	err   error
	// duration is Stats.Duration, also without a state.
	duration time.Duration

	stopped atomic.Bool // it was told to stop, by whom ever
	dropped atomic.Bool // by the collector

	mu        sync.Mutex
	pinned    *Process // by Done, until the end
	cause     error    // why it was stopped; the first reason counts
	copyError error    // the first
	panic     *PanicError
	final     bool // nothing of the above changes any more
}

func newRun(c *Cmd, whole whole) *run {
	r := &run{name: c.name(), limit: c.MaxOutput, leave: c.Leftovers == LeaveLeftovers, whole: whole}
	r.remaining.Store(c.MaxOutput)
	r.begun, r.gone, r.hurried, r.done = make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	return r
}

// PID returns the command's process id, which is also its process group's
// unless it was started with Foreground.
func (p *Process) PID() int { return p.run.running.PID() }

// Stdin returns the owner's end of the command's standard input. It is usable
// when Cmd.Stdin was [Pipe].
func (p *Process) Stdin() *PipeWriter {
	w := &PipeWriter{process: p}
	if p.run.pipes.stdin {
		w.in = p.run.stdin
	}
	return w
}

// Stdout returns the owner's end of the command's standard output. It is usable
// when Cmd.Stdout was [Pipe].
func (p *Process) Stdout() *PipeReader {
	r := &PipeReader{process: p, field: "Stdout"}
	if p.run.pipes.stdout {
		r.out = p.run.stdout
	}
	return r
}

// Stderr returns the owner's end of the command's standard error. It is usable
// when Cmd.Stderr was [Pipe].
func (p *Process) Stderr() *PipeReader {
	r := &PipeReader{process: p, field: "Stderr"}
	if p.run.pipes.stderr {
		r.out = p.run.stderr
	}
	return r
}

// Signal sends a signal to the command's process group; with Foreground, to the
// command alone. [os.ErrProcessDone] says that it has ended.
func (p *Process) Signal(signal syscall.Signal) error {
	if signal < 1 || signal > maxSignal {
		return fmt.Errorf("signal %q: %w: there is no signal %d", p.run.name, syscall.EINVAL, int(signal))
	}
	return p.request("signal", func() error { return p.run.running.Signal(signal) })
}

// WithHandle calls a function with a pidfd of the command, which is valid until
// the function returns, and stands for this process even when its number is used
// again (man 2 pidfd_open). [os.ErrProcessDone] says that it has ended, and
// [os.ErrNoHandle] that there is no pidfd: before Linux 5.4, or when this user had
// too many descriptors on their way at the start. No lock is held: the function may
// stop the command and wait for it.
func (p *Process) WithHandle(f func(handle uintptr)) error {
	err := p.run.running.WithPidfd(f)
	runtime.KeepAlive(p)
	return err
}

// Stop sends the stop signal, after the grace SIGKILL to all that is left, and
// waits until the tree is gone. When the context ends earlier Stop returns its
// cause, and the stop goes on. A command that has ended already is no error.
//
// A Writer or Reader of the command and its Observer's functions may call Stop: it
// returns to them when the tree is gone, though the copy or the end is not over.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.beginStop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if !awaitStop(p.run, p.run.done, ctx.Done()) {
		return context.Cause(ctx)
	}
	runtime.KeepAlive(p)
	return nil
}

func (p *Process) beginStop() error {
	p.run.stopped.Store(true)
	p.run.hurry()
	return p.request("stop", p.run.running.Stop)
}

// Kill sends SIGKILL to the whole tree, without grace and without waiting.
// [os.ErrProcessDone] says that it has ended.
func (p *Process) Kill() error {
	p.run.stopped.Store(true)
	p.run.hurry()
	return p.request("kill", p.run.running.Kill)
}

func (p *Process) request(what string, send func() error) error {
	err := send()
	runtime.KeepAlive(p)
	if err != nil {
		return fmt.Errorf("%s %q: %w", what, p.run.name, err)
	}
	return nil
}

// Done returns a channel that is closed when Wait would not block. Who has asked
// for it holds on to the Process: it isn't collected before its end.
func (p *Process) Done() <-chan struct{} {
	r := p.run
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.done:
	default:
		r.pinned = p
	}
	return r.done
}

// Wait returns when the command and everything it has started are gone, and all
// output that is copied has been written. Data in a [PipeReader] stays readable.
// It may be called more than once.
//
// The error is an [*ExitError] when the command did not succeed, wraps
// [ErrShepherdLost] when it isn't known how it ended, and is that of the copy
// when the command succeeded but its input could not be read or its output not
// be written. The State is nil only with ErrShepherdLost.
//
// When a Writer or Reader of the command or its Observer has panicked, Wait panics
// with a [*PanicError] in the end. To them themselves it returns
// [ErrWaitsForItself]. A Writer that does not return is waited for, until the
// command was stopped, or its Timeout or context is over, and the tree is gone for
// five seconds without one of its calls returning: the error is [ErrCopyBlocked] then.
func (p *Process) Wait() (*State, error) {
	if err := p.await(); err != nil {
		return nil, err
	}
	if panicked := p.run.panic; panicked != nil {
		panic(panicked)
	}
	return p.run.state, p.run.err
}

// await waits for the end, and fails where that would be for ever.
func (p *Process) await() error {
	select {
	case <-p.run.done:
	default:
		if p.run.waitsForItself() {
			return fmt.Errorf("%q: %w", p.run.name, ErrWaitsForItself)
		}
		<-p.run.done
	}
	runtime.KeepAlive(p)
	return nil
}

// Stats returns the figures so far, or the final ones.
func (p *Process) Stats() Stats {
	return p.run.figures()
}

func (r *run) figures() Stats {
	select {
	case <-r.done:
		return r.finalStats()
	default:
		return r.unendedStats(time.Since(r.start))
	}
}

func (r *run) finalStats() Stats {
	if r.state != nil {
		return r.state.Stats()
	}
	return r.unendedStats(r.duration)
}

// unendedStats are the figures without those of the end.
func (r *run) unendedStats(duration time.Duration) Stats {
	stats := Stats{Start: r.start, Duration: duration, ExitCode: -1}
	r.counters.load(&stats)
	return stats
}

// stop begins to stop the command, for a reason.
func (r *run) stop(cause error) {
	r.mu.Lock()
	if r.cause == nil {
		r.cause = cause
	}
	r.mu.Unlock()
	r.stopped.Store(true)
	r.hurry()
	_ = r.running.Stop() // when it has ended, or can't be told, its end is seen all the same
}

// expire is stop, for a reason that says nothing of a command that is gone: then
// only its Writers are not waited for much longer.
func (r *run) expire(cause error) {
	select {
	case <-r.gone:
		r.hurry()
	default:
		r.stop(cause)
	}
}

// drop ends a command whose Process was collected, as if the owner had died.
func (r *run) drop() {
	r.dropped.Store(true)
	r.hurry()
	r.running.Abandon()
}

// allow counts n bytes of output against the limit. It returns how many of them
// are within it.
func (r *run) allow(n int) int {
	if r.limit == 0 || n <= 0 {
		return n
	}
	before := r.remaining.Add(-int64(n)) + int64(n)
	if before >= int64(n) {
		return n
	}
	r.stop(r.limitError())
	return int(max(before, 0))
}

// exceeded reports whether the command has written more than it may.
func (r *run) exceeded() bool { return r.limit > 0 && r.remaining.Load() < 0 }

func (r *run) limitError() error { return limitError{r.limit} }

func (r *run) copied(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.copyError == nil {
		r.copyError = err
	}
}

// supervise waits for the end. It is the one goroutine that every command has.
func (r *run) supervise(cleanup runtime.Cleanup) {
	defer cleanup.Stop()
	ended, err := r.running.Wait()
	duration := time.Since(r.start)
	close(r.gone)
	if r.terminal != nil {
		r.terminal.end()
	}
	for _, out := range r.outlets {
		out.end()
	}
	if r.captured != nil {
		r.captured.end(r)
	}
	r.endCopies()
	r.endContext()
	if r.terminal != nil {
		if err := r.terminal.recordError.Load(); err != nil {
			r.copied(*err)
		}
	}
	r.endInput()
	r.finish(&ended, duration, err)
}

// endInput closes the command's input and waits for its copy.
func (r *run) endInput() {
	if r.input == nil {
		return
	}
	if r.terminal == nil { // whose end is the output's too, and may still be read
		_ = r.stdin.file.Close()
	}
	patience := time.NewTimer(inputPatience)
	defer patience.Stop()
	select {
	case <-r.input:
	case <-patience.C: // it hangs in the caller's Read
	}
}

// finish makes the result, and tells the observer before whoever waits.
func (r *run) finish(ended *shepherd.Ended, duration time.Duration, err error) {
	defer func() { // also when the observer panics
		if r.whole != nil {
			r.whole.ended(r)
		} else {
			r.announce()
		}
	}()
	if lost, ok := errors.AsType[*shepherd.LostError](err); ok {
		ended.Left = lost.Left
	}
	r.conclude(ended, duration, err)
	r.countEnd(ended)
	if r.whole != nil {
		r.whole.concluded(r)
	}
	if r.observer == nil {
		return
	}
	if r.told != nil {
		<-r.told
	}
	r.observeEnd(ended)
}

// announce makes the result known to whoever waits.
func (r *run) announce() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pinned = nil
	r.final = true
	close(r.done)
}

// conclude sets what is final at the end.
func (r *run) conclude(ended *shepherd.Ended, duration time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.duration = duration
	if err != nil && r.dropped.Load() {
		r.err = fmt.Errorf("%q: %w", r.name, ErrDropped)
		return
	}
	if err != nil {
		r.err = fmt.Errorf("%q: %w: %w", r.name, ErrShepherdLost, err)
		if r.cause != nil {
			r.err = fmt.Errorf("%w (after: %w)", r.err, shownError{r.cause})
		}
		return
	}
	stats := Stats{Start: r.start, Duration: duration, ExitCode: ended.Status.ExitStatus()}
	stats.UserTime, stats.SystemTime = ended.Usage.UserTime, ended.Usage.SystemTime
	stats.MaxRSS = ended.Usage.MaxRSS
	stats.MinorFaults, stats.MajorFaults = ended.Usage.MinorFaults, ended.Usage.MajorFaults
	stats.VoluntarySwitches, stats.InvoluntarySwitches = ended.Usage.VoluntarySwitches, ended.Usage.InvoluntarySwitches
	stats.Killed, stats.Left = ended.Killed, ended.Left
	r.state = &State{r.running.PID(), ended.Status, stats, &r.counters}

	cause := r.cause
	if ended.Left > 0 && (cause != nil || !r.leave) {
		leftover := &LeftoverError{ended.Left, ended.LeftPIDs}
		if cause == nil {
			cause = leftover
		} else {
			cause = fmt.Errorf("%w: %w", cause, leftover)
		}
	}
	if cause == nil && !r.state.Success() {
		cause = r.copyError // a command whose output could not be written is told by SIGPIPE
	}
	if cause != nil && errors.Is(r.copyError, ErrCopyBlocked) && cause != r.copyError {
		cause = fmt.Errorf("%w: %w", cause, r.copyError)
	}
	switch {
	case cause != nil || !r.state.Success():
		exit := &ExitError{Command: r.name, State: r.state, Cause: cause}
		if r.captured != nil {
			exit.Stderr = r.captured.bytes()
		}
		r.err = exit
	case r.copyError != nil:
		r.err = fmt.Errorf("%q: copy: %w", r.name, shownError{r.copyError})
	}
}
