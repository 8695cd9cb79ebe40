package netrunner

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"weak"

	"github.com/netrunner-go/netrunner/internal/shepherd"
)

// ErrGroupClosed says that a [Group] starts no more commands, or has stopped one.
var ErrGroupClosed = errors.New("the group is closed")

// Group runs commands that end together, and as many at once as it may. The zero
// value is ready to use. Its methods are safe for concurrent use; it must not be
// copied, and its fields not be changed, after the first of them was called.
//
// A command has a place in the group from its start until its whole tree is
// gone. Who finds no place free waits in the order of the calls. When
// descriptors, processes or memory run out (EMFILE, ENFILE, EAGAIN, ENOMEM), the
// start is tried again each time a command of the group has ended; it fails if
// none is left whose end could help.
//
// A group holds on to its commands until they have ended, and a [Process] holds
// on to its group. When nobody refers to the group or to any Process of it any
// more, all its commands are stopped, and those that wait are not started.
type Group struct {
	// Limit is how many commands run at once. Zero means without limit.
	Limit int

	// StopOnError closes the group when a command has failed: the others are
	// stopped.
	StopOnError bool

	once    sync.Once
	members *members
	held    *held
}

// GroupStats are the figures of a group.
type GroupStats struct {
	Waiting int // for a place, or for what has run out
	Running int // or just being started
	Started int // so far
	Failed  int // of these, ended with an error

	// Stats sums up all commands, those that run included as far as something is
	// known of them. Start is the first one's, and MaxRSS that of the largest
	// process; Duration is a sum too. ExitCode is that of the first command that
	// failed.
	Stats
}

// held is what only the group and its processes refer to. The goroutines of the
// commands, and of Go, do not: so a group that was dropped can be found.
type held struct {
	processes map[*run]*Process // that run; guarded by members.mu
}

// members are the commands of a group.
type members struct {
	limit       int
	stopOnError bool
	held        weak.Pointer[held]

	mu      sync.Mutex
	closed  error               // why no more are started
	queue   queue               // that wait
	inside  map[*place]struct{} // that run, or are just being started, or whose end is just being said
	taken   int                 // places, by those that run or are just being started
	leaving int                 // that were not started, as is just being said, or that Go is not done with
	idle    chan struct{}       // closed when nobody is left; nil when nobody waits for that
	first   error               // of Wait
	unclean error               // of Close

	tickets  uint64
	starting int    // of those inside
	admitted uint64 // how many have come inside, ever
	ends     uint64 // how many of those that ran have ended
	// From when something has run out until nobody waits, one is started after
	// the other: when several try at once, all may fail where one would not.
	scarce   bool
	failedAt uint64 // how many had ended when the start began that failed last

	stats GroupStats     // of those that have ended
	late  map[*run]Stats // that have ended too, but may still be read from
}

// place is that of one command, from its call on.
type place struct {
	members    *members
	cmd        *Cmd
	caller     context.Context
	ctx        context.Context         // the caller's, and
	cancel     context.CancelCauseFunc // ends the wait, the start, the command
	background bool                    // the group is told why it was not started
	ticket     uint64

	// What follows is guarded by members.mu.
	ready    chan struct{} // closed when it may be started
	at       int           // in the queue
	run      *run          // nil until it runs
	lonely   bool          // nobody was inside when it came there
	admitted uint64        // it included
	ends     uint64        // when it came inside
	failure  error         // of the command, before its observer was told
	refusal  error         // for what has run out, while it waits again
}

// Start waits for a place, and starts the command as [Cmd.Start] does. When the
// context ends, the wait does, or the command is stopped.
//
// The error is a [*StartError]; it wraps [ErrGroupClosed] when the group is
// closed, also meanwhile. A command that was not started is not the group's:
// its error is not that of Wait, and does not close the group.
func (g *Group) Start(ctx context.Context, cmd *Cmd) (*Process, error) {
	return g.start(ctx, cmd, false)
}

// Run waits for a place, starts the command, and waits until its whole tree is
// gone, as [Cmd.Run] does. Errors are those of Start and of [Process.Wait].
func (g *Group) Run(ctx context.Context, cmd *Cmd) error {
	p, err := g.start(ctx, cmd, true)
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}

func (g *Group) start(ctx context.Context, cmd *Cmd, onlyWaits bool) (*Process, error) {
	m := g.open()
	defer runtime.KeepAlive(g.held)
	place, err := m.enter(ctx, cmd, false)
	if err != nil {
		return nil, err
	}
	return place.start(onlyWaits)
}

// Go is Start in the background. The order of the calls is the order of the
// starts. Wait returns the error if the command is not started, or fails; with
// StopOnError, both close the group. The Cmd may be changed when Go returns.
func (g *Group) Go(ctx context.Context, cmd *Cmd) {
	m := g.open()
	defer runtime.KeepAlive(g.held)
	if cmd != nil {
		template := *cmd
		cmd = &template
	}
	if place, err := m.enter(ctx, cmd, true); err == nil {
		go place.startAlone()
	}
}

// Wait returns when no command runs and none waits to be started. The error is
// the first that a command of the group has ended with, or that has kept one
// given to Go from being started; the other errors are those of [Process.Wait].
// A command that Close, StopOnError, its context or a call has stopped ends with
// an error too. More can be started later; the error stays. To code that is called
// for a command of the group it returns [ErrWaitsForItself].
func (g *Group) Wait() error {
	m := g.open()
	defer runtime.KeepAlive(g.held)
	if err := m.waitIdle(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.first
}

// Close stops all commands, each with its own StopSignal and KillTimeout, and
// waits until they are gone; those that wait are not started, nor are later ones.
// How the commands ended is for Wait to say: Close returns an error when it is
// not certain that all of a command of this group is gone. It may be called more
// than once. Code that is called for a command of the group, its Observer say, gets
// [ErrWaitsForItself]: the group is closed then, but its end not waited for.
func (g *Group) Close() error {
	m := g.open()
	defer runtime.KeepAlive(g.held)
	m.close(ErrGroupClosed)
	if err := m.waitIdle(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unclean
}

// Stats returns the figures so far.
func (g *Group) Stats() GroupStats {
	m := g.open()
	defer runtime.KeepAlive(g.held)
	m.mu.Lock()
	defer m.mu.Unlock()
	stats := m.stats
	stats.Waiting, stats.Running = len(m.queue), len(m.inside)
	for r, figures := range m.late {
		r.counters.load(&figures)
		stats.add(&figures)
	}
	for p := range m.inside {
		if p.run != nil {
			figures := p.run.figures()
			stats.add(&figures)
		}
	}
	return stats
}

// open makes the zero value ready.
func (g *Group) open() *members {
	g.once.Do(func() {
		g.held = &held{processes: make(map[*run]*Process)}
		g.members = &members{
			limit: g.Limit, stopOnError: g.StopOnError, held: weak.Make(g.held),
			inside: make(map[*place]struct{}), late: make(map[*run]Stats),
		}
		runtime.AddCleanup(g.held, func(m *members) { m.close(ErrGroupClosed) }, g.members)
	})
	return g.members
}

// enter queues a command that can be started, as far as can be seen.
func (m *members) enter(ctx context.Context, cmd *Cmd, background bool) (*place, error) {
	p := &place{members: m, cmd: cmd, background: background, caller: ctx}
	m.mu.Lock()
	err := m.refuse(cmd)
	if err == nil {
		p.ticket = m.tickets
		m.tickets++
		p.ctx, p.cancel = context.WithCancelCause(ctx)
		m.enqueue(p)
	} else {
		m.leaving++
	}
	m.mu.Unlock()
	if err != nil {
		return nil, p.giveUp(err)
	}
	return p, nil
}

func (m *members) refuse(cmd *Cmd) error {
	if cmd == nil {
		return &StartError{Step: "check", Err: errNoCommand}
	}
	if m.limit < 0 {
		return cmd.startError("check", "Limit", errNegative)
	}
	if m.closed != nil {
		return cmd.startError("check", "", m.closed)
	}
	return cmd.check()
}

// enqueue puts a place among those that wait: behind all that have come before it.
func (m *members) enqueue(p *place) {
	p.ready = make(chan struct{})
	heap.Push(&m.queue, p)
	m.admit()
}

// admit lets those in who can be started now. It is called after each change.
func (m *members) admit() {
	for len(m.queue) > 0 && m.closed == nil && m.mayEnter() {
		p := heap.Pop(&m.queue).(*place)
		p.lonely = m.taken == 0
		m.taken++
		m.inside[p] = struct{}{}
		m.starting++
		m.admitted++
		p.admitted, p.ends = m.admitted, m.ends
		close(p.ready)
	}
	if len(m.queue) == 0 && m.starting == 0 {
		m.scarce = false
	}
	if m.idle != nil && m.empty() {
		close(m.idle)
		m.idle = nil
	}
}

func (m *members) mayEnter() bool {
	switch {
	case m.limit > 0 && m.taken >= m.limit:
		return false
	case !m.scarce:
		return true
	case m.starting > 0:
		return false
	}
	// Where nobody is inside, one more start shows whether anything can help.
	return m.taken == 0 || m.ends > m.failedAt
}

func (m *members) empty() bool { return len(m.queue)+len(m.inside)+m.leaving == 0 }

// waitIdle fails where it would wait for ever.
func (m *members) waitIdle() error {
	if isWithin(func(f frame) bool { return f.of() == m }) {
		return fmt.Errorf("group: %w", ErrWaitsForItself)
	}
	m.mu.Lock()
	for !m.empty() {
		if m.idle == nil {
			m.idle = make(chan struct{})
		}
		idle := m.idle
		m.mu.Unlock()
		<-idle
		m.mu.Lock()
	}
	m.mu.Unlock()
	return nil
}

func (m *members) close(cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closeLocked(cause)
}

func (m *members) closeLocked(cause error) {
	if m.closed == nil {
		m.closed = cause
	}
	for _, p := range m.queue {
		p.cancel(m.closed)
	}
	for p := range m.inside {
		p.cancel(m.closed)
	}
}

// fail takes the error of a command. m.mu is held.
func (m *members) fail(err error) {
	if m.first == nil {
		m.first = err
	}
	if m.stopOnError && m.closed == nil {
		// The text alone: who looks into the error of another command for, say,
		// an ExitError or ErrTimeout is to find that command's own.
		m.closeLocked(fmt.Errorf("%w (after: %s)", ErrGroupClosed, err.Error()))
	}
}

// startAlone is start in a goroutine of the group's, which the panic of an
// observer or of Terminal.Modes must not end the program in: it is the group's
// error, and who waits for the group waits for it.
func (p *place) startAlone() {
	m := p.members
	m.mu.Lock()
	m.leaving++
	m.mu.Unlock()
	returned := false
	defer func() {
		var err error
		if !returned {
			err = p.cmd.startError("call", "", panicError(recover()))
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.leaving--
		if err != nil {
			m.fail(err)
		}
		m.admit()
	}()
	_, _ = p.start(false) // the group has been told
	returned = true
}

// begin is Cmd.begin, but that a panic in it gives the place back.
func (p *place) begin(onlyWaits bool) (*Process, error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		m := p.members
		m.mu.Lock()
		defer m.mu.Unlock()
		if p.run != nil { // which has the place until its end
			return
		}
		delete(m.inside, p)
		m.taken--
		m.starting--
		p.cancel(nil)
		m.admit()
	}()
	process, err := p.cmd.begin(p.ctx, onlyWaits, p)
	returned = true
	return process, err
}

// start waits until the command may be started, and starts it, as often as it takes.
func (p *place) start(onlyWaits bool) (*Process, error) {
	for {
		if err := p.wait(); err != nil {
			return nil, p.giveUp(err)
		}
		process, err := p.begin(onlyWaits)
		if err == nil {
			return process, nil
		}
		if again, err := p.failed(err); !again {
			return nil, p.giveUp(err)
		}
	}
}

// wait returns when the command may be started. After an error the place is on leave.
func (p *place) wait() error {
	select {
	case <-p.ready:
		return nil
	case <-p.ctx.Done():
	}
	m := p.members
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-p.ready: // meanwhile
		return nil // and the start sees the context
	default:
	}
	heap.Remove(&m.queue, p.at)
	m.leaving++
	err := context.Cause(p.ctx)
	if p.refusal != nil {
		err = fmt.Errorf("%w (after: %w)", err, p.refusal)
	}
	return p.cmd.startError("wait for a place", "", err)
}

// failed takes the error of a start, and says whether to wait for another. If
// not, the place is on leave.
func (p *place) failed(err error) (again bool, _ error) {
	m := p.members
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.inside, p)
	m.taken--
	m.starting--
	var refused *StartError
	if p.ctx.Err() != nil || !errors.As(err, &refused) || !ranOut(err) {
		m.leaving++
		return false, err
	}
	m.scarce = true
	m.failedAt = max(m.failedAt, p.ends)
	if p.lonely && p.admitted == m.admitted { // and so it was until now
		refused.Err = fmt.Errorf("%w, and no command of the group runs whose end could help", refused.Err)
		m.leaving++
		return false, err
	}
	p.refusal = refused.Err
	m.enqueue(p)
	return true, nil
}

// giveUp is the end of a place on leave. The observer is told before who waits
// for the group, and without a lock.
func (p *place) giveUp(err error) error {
	m := p.members
	defer func() { // also when the observer panics
		m.mu.Lock()
		defer m.mu.Unlock()
		m.leaving--
		if p.cancel != nil {
			p.cancel(nil)
		}
		if p.background {
			m.fail(err)
		}
		m.admit()
	}()
	defer entered(frame{members: m})()
	return notStarted(p.caller, p.cmd, err)
}

// ranOut reports whether a start has failed for want of what others may give back.
func ranOut(err error) bool {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN, syscall.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// began is told by the start that the command runs.
func (p *place) began(process *Process) (heldWith any) {
	m := p.members
	m.mu.Lock()
	defer m.mu.Unlock()
	p.run = process.run
	m.starting--
	m.stats.Started++
	if pipes := p.run.pipes; pipes.stdout || pipes.stderr {
		runtime.AddCleanup(process, m.settle, p.run)
	}
	m.admit()
	// It is nil when the group was dropped: then the context ends the command.
	held := m.held.Value()
	if held == nil {
		return nil
	}
	held.processes[p.run] = process
	return held
}

// concluded is told by the command's goroutine. Its place is another's from here
// on, unless it was the failure of it that closes the group.
func (p *place) concluded(r *run) {
	m := p.members
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken--
	m.ends++
	if p.failure = r.err; p.failure != nil {
		m.fail(p.failure)
	}
	m.admit()
}

// ended is told by the command's goroutine.
func (p *place) ended(r *run) {
	m := p.members
	m.mu.Lock()
	defer m.mu.Unlock()
	r.announce()
	p.cancel(nil)
	delete(m.inside, p)
	if held := m.held.Value(); held != nil {
		delete(held.processes, r)
	} else if m.closed == nil { // and its cleanup is on its way
		m.closed = ErrGroupClosed
	}
	figures := r.figures()
	if r.pipes.stdout || r.pipes.stderr {
		m.late[r] = figures
	} else {
		m.stats.add(&figures)
	}
	if r.err != nil {
		if m.stats.Failed == 0 {
			m.stats.ExitCode = figures.ExitCode
		}
		m.stats.Failed++
		if m.unclean == nil && uncertain(r.err) {
			m.unclean = r.err
		}
		if p.failure != nil && m.first == p.failure { // the observer may have made more of it
			m.first = r.err
		}
		m.fail(r.err)
	}
	m.admit()
}

// settle adds up the figures of a command that nobody can read from any more.
func (m *members) settle(r *run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if figures, ok := m.late[r]; ok {
		delete(m.late, r)
		r.counters.load(&figures)
		m.stats.add(&figures)
	}
}

// uncertain reports whether some of a command may still be there.
func uncertain(err error) bool {
	var lost *shepherd.LostError
	return errors.As(err, new(*LeftoverError)) || errors.As(err, &lost) && (lost.Left > 0 || lost.Err != nil)
}
