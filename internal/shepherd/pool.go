package shepherd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// pool keeps the watcher and the shepherds that have nothing to do. It has no
// goroutine: a shepherd that stays idle for a minute exits by itself, and is
// noticed when it is asked for.
type pool struct {
	mu      sync.Mutex
	named   string // what SetHelper was given
	watcher *watcher
	former  []*watcher // let go, not yet reaped
	idle    []*Shepherd
	owner   inheritance
}

var idle pool

// maxIdle is how many idle shepherds are kept: enough for a busy owner that
// starts and ends commands on every core.
func maxIdle() int { return max(16, 4*runtime.GOMAXPROCS(0)) }

// SetHelper names the helper's file. The next command that needs a new shepherd uses it.
func SetHelper(path string) {
	idle.mu.Lock()
	defer idle.mu.Unlock()
	idle.named = path
	idle.dismiss()
}

// CloseIdle lets the idle shepherds go, and the watcher too unless it has
// commands that run, and waits until they are gone.
func CloseIdle() {
	idle.mu.Lock()
	defer idle.mu.Unlock()
	idle.closeShepherds()
	if idle.watcher == nil || idle.watcher.running == 0 {
		idle.dismiss()
	}
	idle.former = slices.DeleteFunc(idle.former, func(w *watcher) bool { return w.running == 0 && w.reap(0) })
}

// Start runs a command. It returns when the program has replaced the child, or
// with the step that failed.
func Start(ctx context.Context, spec *Spec) (*Running, error) {
	request, err := appendStart(nil, spec)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		s, err := idle.get()
		if err != nil {
			return nil, err
		}
		r, err := s.start(ctx, request, spec.descriptors(s.watcher.null))
		switch {
		case errors.Is(err, errUntaken) && attempt <= maxIdle()+3: // it had gone, idle for too long or killed
			continue
		case errors.Is(err, errStillborn):
			idle.discard(s.watcher)
			if attempt < 3 {
				continue
			}
			fallthrough
		case errors.Is(err, errUntaken):
			err = &StartError{StepShepherd, fmt.Errorf("%w, in %d attempts", err, attempt)}
		}
		return r, err
	}
}

// get returns a shepherd whose commands inherit what they would from the owner
// itself, for put or drop to take back.
func (p *pool) get() (*Shepherd, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.owner.look()
	for attempt := 1; ; attempt++ {
		// Without its watcher a shepherd has nobody behind it: it gets no new command.
		if p.watcher != nil && (!p.watcher.alike(state) || p.watcher.reap(unix.WNOHANG)) {
			p.dismiss()
		}
		if last := len(p.idle) - 1; last >= 0 {
			s := p.idle[last]
			p.idle[last] = nil
			p.idle = p.idle[:last]
			s.watcher.running++
			return s, nil
		}
		if p.watcher == nil {
			w, err := startWatcher(p.named, slices.Clone(state))
			if err != nil {
				return nil, err
			}
			p.watcher = w
		}
		s, err := p.watcher.spawn()
		if err == nil {
			s.watcher.running++
		}
		if !errors.Is(err, errWatcherGone) || attempt == 3 {
			return s, err
		}
		p.dismiss()
	}
}

// put takes back a shepherd that is ready for another command.
func (p *pool) put(s *Shepherd) {
	p.mu.Lock()
	keep := s.watcher == p.watcher && len(p.idle) < maxIdle()
	if keep {
		p.idle = append(p.idle, s)
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
	p.mu.Lock()
	defer p.mu.Unlock()
	s.watcher.running--
	if s.watcher != p.watcher && s.watcher.running == 0 {
		s.watcher.close()
	}
}

// discard lets a watcher go that does not do its work.
func (p *pool) discard(w *watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watcher == w {
		p.dismiss()
	}
}

func (p *pool) closeShepherds() {
	for _, s := range p.idle {
		s.sock.close()
	}
	p.idle = nil
}

// dismiss lets the watcher go with its idle shepherds; as long as it has
// commands that run, it can still be asked about them. p.mu is held.
func (p *pool) dismiss() {
	p.closeShepherds()
	p.owner.close()
	if p.watcher != nil {
		if p.watcher.running == 0 {
			p.watcher.close()
		}
		p.former = append(p.former, p.watcher)
		p.watcher = nil
	}
	p.former = slices.DeleteFunc(p.former, func(w *watcher) bool { return w.reap(unix.WNOHANG) })
}
