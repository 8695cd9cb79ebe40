package netrunner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Pipeline is a list of commands, the standard output of each but the last joined
// to the standard input of the next by a pipe of the kernel. Nothing that goes
// through it passes the owner. Like a [Cmd] it is a template, and can be started
// many times.
//
// The commands keep their own fields, with these exceptions: only the first may
// have Stdin, only the last Stdout, and only the last MaxOutput, since what does
// not pass the owner can't be counted.
type Pipeline []*Cmd

// PipelineProcess is a [Pipeline] that was started. Wait for it, or drop it: when
// nobody refers to it or to any of its Processes any more, it is stopped. Its
// methods are safe for concurrent use.
type PipelineProcess struct {
	processes []*Process
	joint     *joint
}

// joint is what the goroutines of the commands refer to. They do not refer to
// the PipelineProcess, so that one that was dropped can be found.
type joint struct {
	mu      sync.Mutex
	running int // commands that have not ended, or not begun
	pinned  *PipelineProcess
	done    chan struct{}
}

// Start starts the commands, and returns when the programs of all of them run.
// The last command is started first, and so on: none has any input before all
// that come after it run. When the context ends, all are stopped, each with its
// own StopSignal and KillTimeout.
//
// The error is a [*StartError] that names the command. What had been started
// already was killed then, and is gone; none of it has seen the end of its input.
func (l Pipeline) Start(ctx context.Context) (*PipelineProcess, error) {
	if cmd, err := l.check(); err != nil {
		return nil, notStarted(ctx, cmd, err)
	}
	p := &PipelineProcess{make([]*Process, len(l)), &joint{running: len(l), done: make(chan struct{})}}
	var in, before, out *os.File // of the command that is next: its input, what goes there, its output
	complete := false
	defer func() { // also when an observer panics
		if !complete {
			// Killed first: the end of its input would be taken for all of it.
			p.discard()
			closeFiles(in, before, out)
		}
	}()
	for i := len(l) - 1; i >= 0; i-- {
		cmd := *l[i]
		if out != nil {
			cmd.Stdout = out
		}
		if i > 0 {
			var err error
			if in, before, err = blockingPipe(); err != nil {
				return nil, cmd.notStarted(ctx, cmd.startError("pipe", "Stdin", err))
			}
			cmd.Stdin = in
		}
		process, err := cmd.start(ctx, false, p.joint)
		if err != nil {
			return nil, err
		}
		process.heldWith = p
		p.processes[i] = process
		closeFiles(in, out) // whose other copies are the commands' now, or the end would not be seen
		in, before, out = nil, nil, before
	}
	complete = true
	return p, nil
}

// notStarted tells the command's observer, if there is a command.
func notStarted(ctx context.Context, cmd *Cmd, err error) error {
	if cmd == nil {
		return err
	}
	return cmd.notStarted(ctx, err)
}

// blockingPipe opens a pipe for two commands. The ends of os.Pipe don't block.
func blockingPipe() (r, w *os.File, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(ends[0]), "pipe"), os.NewFile(uintptr(ends[1]), "pipe"), nil
}

func closeFiles(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// check refuses what can't work before anything is started, and names the command.
func (l Pipeline) check() (*Cmd, error) {
	if len(l) == 0 {
		return nil, &StartError{Step: "check", Subject: "Pipeline", Err: errNoCommand}
	}
	for i, cmd := range l {
		if cmd == nil {
			return nil, &StartError{Step: "check", Subject: fmt.Sprintf("Pipeline[%d]", i), Err: errNoCommand}
		}
		first, last := i == 0, i == len(l)-1
		switch {
		case cmd.Terminal != nil:
			return cmd, cmd.startError("check", "Terminal", errTerminal)
		case !first && cmd.Stdin != nil:
			return cmd, cmd.startError("check", "Stdin", errJoined)
		case !last && cmd.Stdout != nil:
			return cmd, cmd.startError("check", "Stdout", errJoined)
		case !last && cmd.MaxOutput != 0:
			return cmd, cmd.startError("check", "MaxOutput", errUncounted)
		}
		if err := cmd.check(); err != nil {
			return cmd, err
		}
	}
	return nil, nil
}

var (
	errTerminal  = errors.New("does not go with a pipeline")
	errJoined    = errors.New("is set, but belongs to the pipeline")
	errUncounted = errors.New("is set, but only the last command of a pipeline is counted")
)

// discard kills what was started of a pipeline, and waits until it is gone: each
// before what writes to it, whose end would be taken for the end of the input.
func (p *PipelineProcess) discard() {
	for _, process := range slices.Backward(p.processes) {
		if process != nil {
			_ = process.Kill() // when it has ended, or can't be told, its end is seen all the same
			<-process.run.done
		}
	}
}

// Run starts the commands and waits until the trees of all of them are gone.
// Errors are those of Start and of [PipelineProcess.Wait].
func (l Pipeline) Run(ctx context.Context) error {
	p, err := l.Start(ctx)
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}

// Output runs the commands and returns the standard output of the last, also with
// an error. Stdout of the last must be nil.
func (l Pipeline) Output(ctx context.Context) ([]byte, error) {
	if cmd, err := l.check(); err != nil {
		return nil, notStarted(ctx, cmd, err)
	}
	last := *l[len(l)-1]
	if last.Stdout != nil {
		return nil, last.notStarted(ctx, last.startError("check", "Stdout", errAlreadySet))
	}
	var out bytes.Buffer
	last.Stdout = &out
	capture := slices.Clone(l)
	capture[len(l)-1] = &last
	err := capture.Run(ctx)
	return out.Bytes(), err
}

// Processes returns the commands that were started, in their order. They hold on
// to the pipeline.
func (p *PipelineProcess) Processes() []*Process { return slices.Clone(p.processes) }

func (p *PipelineProcess) last() *Process { return p.processes[len(p.processes)-1] }

// Stdin returns the owner's end of the first command's standard input. It is
// usable when its Cmd.Stdin was [Pipe].
func (p *PipelineProcess) Stdin() *PipeWriter { return p.processes[0].Stdin() }

// Stdout returns the owner's end of the last command's standard output. It is
// usable when its Cmd.Stdout was [Pipe].
func (p *PipelineProcess) Stdout() *PipeReader { return p.last().Stdout() }

// Signal sends a signal to every command, as [Process.Signal] does.
// [os.ErrProcessDone] says that all have ended.
func (p *PipelineProcess) Signal(signal syscall.Signal) error {
	return p.each(func(process *Process) error { return process.Signal(signal) })
}

// Stop stops every command as [Process.Stop] does, and waits until all their
// trees are gone. When the context ends earlier Stop returns its cause, and the
// stop goes on. A pipeline that has ended already is no error.
func (p *PipelineProcess) Stop(ctx context.Context) error {
	err := p.each((*Process).beginStop)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	ended := []<-chan struct{}{p.joint.done}
	if p.joint.waitsForItself() {
		ended = nil
		for _, process := range p.processes {
			ended = append(ended, process.run.gone)
		}
	}
	for _, ended := range ended {
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	runtime.KeepAlive(p)
	return nil
}

// waitsForItself reports whether the caller is called for one of the commands.
func (j *joint) waitsForItself() bool {
	return isWithin(func(f frame) bool { return f.run != nil && f.run.whole == whole(j) })
}

// Kill sends SIGKILL to the trees of all commands, without grace and without
// waiting. [os.ErrProcessDone] says that all have ended.
func (p *PipelineProcess) Kill() error { return p.each((*Process).Kill) }

// each asks something of every command, the last one first: so that it is told
// before its input ends. That one has ended is an error when all have.
func (p *PipelineProcess) each(request func(*Process) error) error {
	var failed, ended error
	reached := false
	for _, process := range slices.Backward(p.processes) {
		switch err := request(process); {
		case err == nil:
			reached = true
		case errors.Is(err, os.ErrProcessDone):
			ended = err
		case failed == nil:
			failed = err
		}
	}
	if failed == nil && !reached {
		return ended
	}
	return failed
}

// Done returns a channel that is closed when Wait would not block. Who has asked
// for it holds on to the pipeline: it isn't collected before its end.
func (p *PipelineProcess) Done() <-chan struct{} {
	j := p.joint
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.running > 0 {
		j.pinned = p
	}
	return j.done
}

// Wait returns when all commands and everything that they have started are gone.
// It may be called more than once.
//
// The error is that of the rightmost command that has failed, as [Process.Wait]
// returns it. A command before the last that SIGPIPE has ended has not failed,
// unless it was stopped for a reason: what reads from it has ended, or wanted no
// more. The states are those of the commands, in their order; one is nil when
// its error wraps [ErrShepherdLost].
func (p *PipelineProcess) Wait() ([]*State, error) {
	select {
	case <-p.joint.done:
	default:
		if p.joint.waitsForItself() {
			return nil, fmt.Errorf("pipeline: %w", ErrWaitsForItself)
		}
		<-p.joint.done
	}
	states := make([]*State, len(p.processes))
	var failed error
	for i, process := range p.processes {
		state, err := process.Wait()
		states[i] = state
		if err != nil && !p.excused(i) {
			failed = err
		}
	}
	runtime.KeepAlive(p)
	return states, failed
}

// excused reports whether a command that has ended was only told that nobody
// reads on.
func (p *PipelineProcess) excused(i int) bool {
	r := p.processes[i].run
	var exit *ExitError
	return i < len(p.processes)-1 && errors.As(r.err, &exit) && exit.Cause == nil && exit.State.Signal() == syscall.SIGPIPE
}

// Stats returns the figures so far, or the final ones: sums over the commands.
// MaxRSS is that of the largest process, Duration the time until now, or until
// all trees were gone. ExitCode is that of the command whose error Wait returns,
// zero if there is none, and -1 as long as one runs. Figures of one command are
// those of its Process, or its State.
func (p *PipelineProcess) Stats() Stats {
	var stats Stats
	ended := false
	select {
	case <-p.joint.done:
		ended = true
	default:
		stats.ExitCode = -1
	}
	var end time.Time
	for i, process := range p.processes {
		figures := process.Stats()
		stats.add(&figures)
		if gone := figures.Start.Add(figures.Duration); gone.After(end) {
			end = gone
		}
		if ended && process.run.err != nil && !p.excused(i) {
			stats.ExitCode = figures.ExitCode
		}
	}
	stats.Duration = end.Sub(stats.Start)
	return stats
}

// began has nothing to do: the pipeline is not complete yet.
func (j *joint) began(*Process) any { return nil }

// concluded has nothing to do: a pipeline has no places.
func (j *joint) concluded(*run) {}

func (j *joint) ended(r *run) {
	r.announce()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.running--; j.running == 0 {
		j.pinned = nil
		close(j.done)
	}
}
