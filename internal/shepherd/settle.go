package shepherd

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// settlePatience is how long it may take until the owner is told what has become
// of a shepherd that was killed, and of its tree.
const settlePatience = time.Second

// question is one that the watcher has been asked: what is left of a shepherd?
type question struct {
	shepherd int
	answer   chan int // has room for it
}

// settle waits until nothing is left of a shepherd that has died and of its
// tree, for settlePatience at most. It returns how many processes could not be
// killed. Who asks at the same time waits at the same time: one of them reads
// the answers to all.
func (w *watcher) settle(shepherd int) (left int, err error) {
	w.wake()
	ctx, cancel := context.WithTimeoutCause(context.Background(), settlePatience, os.ErrDeadlineExceeded)
	defer cancel()
	q := &question{shepherd, make(chan int, 1)}
	w.askedMu.Lock()
	w.asked = append(w.asked, q)
	w.askedMu.Unlock()
	defer func() {
		w.askedMu.Lock()
		defer w.askedMu.Unlock()
		w.asked = slices.DeleteFunc(w.asked, func(other *question) bool { return other == q })
	}()
	if err := w.send(ctx, settleRequest{Shepherd: uint32(shepherd)}.append(nil)); err != nil {
		return 0, err
	}
	for {
		select {
		case left := <-q.answer:
			return left, nil
		default:
		}
		select {
		case left := <-q.answer:
			return left, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case w.reading <- struct{}{}:
			err := w.readAnswer(ctx)
			w.reading.give()
			if err != nil {
				return 0, err
			}
		}
	}
}

// readAnswer passes one answer on to whoever has asked for it.
func (w *watcher) readAnswer(ctx context.Context) error {
	var ev event
	var err error
	if within(ctx, 0, w.sock.file.SetReadDeadline, func() { ev, err = w.sock.receive() }) {
		_ = w.sock.file.SetReadDeadline(time.Time{}) // fails only for a closed file
		if err != nil {
			return context.Cause(ctx)
		}
	}
	switch {
	case err != nil:
		return errWatcherGone
	case ev.kind != eventSettled:
		return fmt.Errorf("%w: event %d from the watcher", errMalformed, ev.kind)
	}
	settled, err := decode[settledEvent](ev)
	if err != nil {
		return err
	}
	w.askedMu.Lock()
	defer w.askedMu.Unlock()
	for _, q := range w.asked { // an answer that nobody waits for any more is passed over
		if q.shepherd == int(settled.Shepherd) {
			select {
			case q.answer <- int(settled.Left):
			default: // it has one
			}
		}
	}
	return nil
}
