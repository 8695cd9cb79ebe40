package shepherd

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
)

// pool keeps the watchers and the shepherds that have nothing to do. It has no
// goroutine: a shepherd that stays idle for a minute exits by itself, and is
// noticed when it is asked for.
//
// Its lock is held only to decide: whoever waits for a process, a file or a
// socket has let it go before.
type pool struct {
	mu       sync.Mutex
	named    string     // what SetHelper was given
	watchers []*watcher // that serve new commands, the one that was asked last first
	former   []*watcher // that serve no new ones, until they have gone
	births   []*birth   // watchers on their way

	// Closed when one that the owner has hung up on was dropped: nobody waits for it but CloseIdle.
	partings map[*Shepherd]chan struct{}
}

var idle pool

// maxWatchers is how many are kept for states of the owner that take turns.
const maxWatchers = 4

// maxIdle is how many idle shepherds a watcher keeps: enough for a busy owner
// that starts and ends commands on every core.
func maxIdle() int { return max(16, 4*runtime.GOMAXPROCS(0)) }

// birth is a watcher that somebody starts; others who need the same wait for it.
type birth struct {
	look look
	done chan struct{} // closed when it is there, or is not going to be
}

// SetHelper names the helper's file. The next command that needs a new shepherd uses it.
func SetHelper(path string) {
	idle.mu.Lock()
	idle.named = path
	leaving := idle.retire(func(*watcher) bool { return true })
	idle.mu.Unlock()
	leaving.close()
}

// CloseIdle lets the idle shepherds go, and each watcher that has no command
// that runs, and waits until they are gone, but not for what can't be killed.
func CloseIdle() {
	idle.mu.Lock()
	partings := slices.Collect(maps.Values(idle.partings))
	idle.mu.Unlock()
	for _, parted := range partings {
		<-parted
	}
	idle.mu.Lock()
	leaving := idle.retire(func(w *watcher) bool { return w.running == 0 })
	for _, w := range idle.watchers {
		leaving.shepherds = append(leaving.shepherds, w.takeIdle()...)
	}
	for _, w := range idle.former { // those that were let go before, too
		if w.running == 0 && !slices.Contains(leaving.watchers, w) {
			leaving.watchers = append(leaving.watchers, w)
		}
	}
	idle.mu.Unlock()
	for _, s := range leaving.shepherds {
		s.sock.hangUp() // on all of them at once; each is waited for below
	}
	for _, s := range leaving.shepherds {
		s.seeOff()
	}
	leaving.close()
	for _, w := range leaving.watchers {
		w.awaitEnd()
	}
	idle.forget()
	closeKept()
}

// found is what there is for a command: one of the three.
type found struct {
	shepherd *Shepherd // that was idle
	watcher  *watcher  // to ask for a shepherd
	birth    *birth    // of a watcher
	ours     bool      // the birth is the caller's to do
}

// pick decides. It counts a shepherd that it gives, or one that is to be asked for, as running.
func (p *pool) pick(present *look) found {
	var dead leaving
	defer func() { dead.close() }() // without the lock
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range p.watchers {
		if !w.look.equal(present) {
			continue
		}
		// Without its watcher a shepherd has nobody behind it: it gets no new command.
		if w.gone() {
			dead = p.retire(func(other *watcher) bool { return other == w })
			break
		}
		copy(p.watchers[1:], p.watchers[:i])
		p.watchers[0] = w
		w.running++
		if last := len(w.idle) - 1; last >= 0 {
			s := w.idle[last]
			w.idle[last] = nil
			w.idle = w.idle[:last]
			return found{shepherd: s}
		}
		return found{watcher: w}
	}
	for _, b := range p.births {
		if b.look.equal(present) {
			return found{birth: b}
		}
	}
	b := &birth{look: *present, done: make(chan struct{})}
	p.births = append(p.births, b)
	return found{birth: b, ours: true}
}

// bear starts a watcher, in the thread that asks for it.
func (p *pool) bear(ctx context.Context, b *birth) error {
	p.mu.Lock()
	named := p.named
	p.mu.Unlock()
	w, err := startWatcher(ctx, named, &b.look)
	strangers := func(*watcher) bool { return false }
	if err == nil {
		strangers = forgottenBy(&b.look)
	}
	p.mu.Lock()
	p.births = slices.DeleteFunc(p.births, func(other *birth) bool { return other == b })
	var leaving leaving
	switch {
	case w == nil:
	case err != nil || p.named != named: // SetHelper came in between: what is needed is started once more
		leaving.watchers = append(leaving.watchers, w)
		p.former = append(p.former, w)
	default:
		leaving = p.retire(strangers)
		w.serves = true
		p.watchers = slices.Insert(p.watchers, 0, w)
		for len(p.watchers) > maxWatchers {
			oldest := p.watchers[len(p.watchers)-1]
			leaving.add(p.retire(func(other *watcher) bool { return other == oldest }))
		}
	}
	p.mu.Unlock()
	close(b.done)
	leaving.close()
	p.forget()
	return err
}

// put takes back a shepherd that is ready for another command.
func (p *pool) put(s *Shepherd) {
	p.mu.Lock()
	keep := s.watcher.serves && len(s.watcher.idle) < maxIdle()
	if keep {
		s.watcher.idle = append(s.watcher.idle, s)
		s.watcher.running--
	}
	p.mu.Unlock()
	if !keep {
		p.drop(s)
	}
}

// drop hangs up on a shepherd.
func (p *pool) drop(s *Shepherd) {
	s.sock.close()
	p.release(s.watcher)
}

// part is drop for a shepherd that may not hear the hang-up; nobody waits for it but CloseIdle.
func (p *pool) part(s *Shepherd) {
	parted := p.parting(s)
	go func() { // ends when overduePause is over, at the latest
		defer parted()
		s.seeOff()
		p.drop(s)
	}()
}

// parting is for CloseIdle to wait until what it returns is called.
func (p *pool) parting(s *Shepherd) (parted func()) {
	done := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.partings == nil {
		p.partings = make(map[*Shepherd]chan struct{})
	}
	p.partings[s] = done
	return func() {
		p.mu.Lock()
		delete(p.partings, s)
		p.mu.Unlock()
		close(done)
	}
}

// release takes back what pick has counted.
func (p *pool) release(w *watcher) {
	p.mu.Lock()
	w.running--
	last := !w.serves && w.running == 0
	p.mu.Unlock()
	if last {
		w.close()
	}
}

// discard lets a watcher go that does not do its work.
func (p *pool) discard(w *watcher) {
	p.mu.Lock()
	leaving := p.retire(func(other *watcher) bool { return other == w })
	p.mu.Unlock()
	leaving.close()
}

// leaving is what is to be closed, without the lock.
type leaving struct {
	shepherds []*Shepherd // that were idle
	watchers  []*watcher  // that have no command
}

func (l *leaving) add(other leaving) {
	l.shepherds = append(l.shepherds, other.shepherds...)
	l.watchers = append(l.watchers, other.watchers...)
}

func (l leaving) close() {
	for _, s := range l.shepherds {
		s.sock.close()
	}
	for _, w := range l.watchers {
		w.close()
	}
}

// retire ends the service of watchers. As long as one of them has commands that
// run, it can still be asked about them. p.mu is held.
func (p *pool) retire(which func(*watcher) bool) (l leaving) {
	p.watchers = slices.DeleteFunc(p.watchers, func(w *watcher) bool {
		if !which(w) {
			return false
		}
		w.serves = false
		p.former = append(p.former, w)
		l.shepherds = append(l.shepherds, w.takeIdle()...)
		if w.running == 0 {
			l.watchers = append(l.watchers, w)
		}
		return true
	})
	return l
}

// forget drops the former watchers that are gone.
func (p *pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.former = slices.DeleteFunc(p.former, func(w *watcher) bool { return w.running == 0 && w.ended() })
}
