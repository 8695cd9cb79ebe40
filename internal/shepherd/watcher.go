package shepherd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watcher forks the shepherds, and kills what they leave behind when they die.
type watcher struct {
	look   look // what it has inherited from the owner
	null   int  // /dev/null, for commands too: opening it each time would cost them more
	handle *processHandle
	sock   *socket

	// The pool's lock guards these.
	serves  bool        // new commands
	running int         // shepherds that are not idle
	idle    []*Shepherd // the others

	writing, reading turn // on the socket
	closing          sync.Once

	askedMu sync.Mutex
	asked   []*question
}

// attached tells the helper to stay a child of the owner's.
const attached = "attached"

var attach atomic.Bool

// Attach makes watchers that are started from now on children of this process.
// Otherwise a watcher is nobody's child of importance: it is forked twice, and
// its parent is the first process, or the nearest subreaper. A program that ends
// by itself and waits for the watcher before that (CloseIdle) leaves nothing to a
// first process that reaps nobody.
func Attach() { attach.Store(true) }

// startWatcher starts the helper in its first role, from the calling thread: it
// has what that has. The thread must be locked to the goroutine. With a watcher
// and an error, there is one that can't be used.
func startWatcher(ctx context.Context, named string, wanted *look) (*watcher, error) {
	w, err := bearWatcher(ctx, named)
	if err == nil {
		w.look = *wanted
		err = confirmed(wanted, w)
	}
	if err != nil {
		return w, fmt.Errorf("start the watcher: %w", err)
	}
	return w, nil
}

func bearWatcher(ctx context.Context, named string) (*watcher, error) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	ours, theirs, err := newSocket()
	if err != nil {
		_ = unix.Close(null)
		return nil, err
	}
	w := &watcher{null: null, sock: ours, writing: newTurn(), reading: newTurn(), handle: &processHandle{}}
	argv, stays := []string{helperName}, attach.Load()
	if stays {
		argv = append(argv, attached)
	}
	child := 0
	err = startHelperWithin(ctx, named, func(path string) (err error) {
		// It has a process group of its own, but the owner's session: a command
		// that is to join the owner's group has to be in it.
		// Without CLONE_PIDFD: where that is refused, ForkExec does not come back as it should.
		child, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
			Dir:   "/",
			Env:   []string{},
			Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(theirs)},
			Sys:   &syscall.SysProcAttr{Setpgid: true},
		})
		if err != nil {
			return fmt.Errorf("exec %s: %w", path, err)
		}
		return nil
	})
	_ = unix.Close(theirs) // the watcher has its own copy
	if err == nil {
		err = w.hello(ctx)
	}
	if err != nil {
		w.close()
	}
	if child != 0 && (err != nil || !stays) {
		err = reapFirst(child, err)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// startHelperWithin is startHelper, for no longer than the context: the file of a
// helper may lie on a file system that hangs. It is looked for beside the calling
// goroutine, and executed by it.
func startHelperWithin(ctx context.Context, named string, exec func(path string) error) error {
	paths, results, ended := make(chan string), make(chan error), make(chan error, 1)
	left := make(chan struct{})
	defer close(left)
	go func() { // ends when the file system answers
		_, err := startHelper(named, func(path string) error {
			select {
			case paths <- path:
				return <-results
			case <-left:
				return context.Canceled
			}
		})
		ended <- err
	}()
	for {
		select {
		case path := <-paths:
			err := exec(path)
			results <- err
			if err == nil {
				return nil
			}
		case err := <-ended:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hello waits for the watcher's first word, which says who it is.
func (w *watcher) hello(ctx context.Context) error {
	var ev event
	var err error
	if w.sock.within(ctx, 0, func() { ev, err = w.sock.receive() }) {
		return context.Cause(ctx)
	}
	switch {
	case errors.Is(err, io.EOF):
		return errWatcherGone
	case err != nil:
		return err
	case ev.kind == eventFailed:
		refusal, err := decode[failedEvent](ev)
		if err != nil {
			return err
		}
		return &StartError{Step(refusal.Step), syscall.Errno(refusal.Error)}
	case ev.kind != eventHello:
		return fmt.Errorf("%w: event %d from a new watcher", errMalformed, ev.kind)
	}
	hello, err := decode[helloEvent](ev)
	if err != nil {
		return err
	}
	w.handle = newProcessHandle(int(hello.Watcher), w.sock.takePidfd())
	return nil
}

// reapPatience is how long the process is waited for that has forked the watcher
// and does nothing more: somebody may have stopped it.
const reapPatience = time.Second

// reapFirst reaps the process that has forked the watcher. A host program that
// waits for all its children may have been faster. Without a watcher its status
// says why there is none.
func reapFirst(child int, err error) error {
	status := make(chan syscall.WaitStatus, 1)
	go func() { // ends with the process
		var s syscall.WaitStatus
		pid, err := syscall.Wait4(child, &s, 0, nil)
		for err == syscall.EINTR {
			pid, err = syscall.Wait4(child, &s, 0, nil)
		}
		if pid != child {
			s = 0
		}
		status <- s
	}()
	patience := time.NewTimer(reapPatience)
	defer patience.Stop()
	select {
	case s := <-status:
		switch {
		case err == nil || s == 0:
		case s.Signaled():
			return fmt.Errorf("%w: it was ended by signal %d", err, s.Signal())
		default:
			return fmt.Errorf("%w: its status was %d", err, s.ExitStatus())
		}
	case <-patience.C:
	}
	return err
}

// spawn asks for a shepherd. Whether one came to life is for its first event to say.
func (w *watcher) spawn(ctx context.Context) (*Shepherd, error) {
	ours, theirs, err := newSocket()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs) //nolint:errcheck // the watcher has its own copy
	if err := w.send(ctx, spawnRequest{}.append(nil), theirs); err != nil {
		ours.close()
		return nil, err
	}
	return &Shepherd{sock: ours, watcher: w, fresh: true}, nil
}

// send waits for its turn, and for room, as long as the context lasts.
func (w *watcher) send(ctx context.Context, request []byte, descriptors ...int) error {
	if err := w.writing.take(ctx); err != nil {
		return err
	}
	defer w.writing.give()
	var sent sending
	interrupted := within(ctx, 0, w.sock.file.SetWriteDeadline, func() { sent = w.sock.send(request, descriptors) })
	if interrupted {
		_ = w.sock.file.SetWriteDeadline(time.Time{}) // fails only for a closed file
	}
	switch {
	case sent.err == nil:
		return nil
	case peerGone(sent.err) || sent.written > 0: // with half a request it can't be asked again
		return errWatcherGone
	case interrupted:
		return context.Cause(ctx)
	}
	return sent.err
}

// gone reports whether the watcher has died, or listens no more.
func (w *watcher) gone() bool {
	var n int
	var err error
	var b [1]byte
	controlErr := w.sock.raw.Control(func(fd uintptr) {
		n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return controlErr != nil || n == 0 && err == nil || err != nil && err != unix.EAGAIN && err != unix.EINTR
}

// wake continues a watcher that somebody has stopped.
func (w *watcher) wake() { w.handle.signal(unix.SIGCONT) }

// takeIdle takes the idle shepherds away. The pool's lock is held.
func (w *watcher) takeIdle() (shepherds []*Shepherd) {
	shepherds, w.idle = w.idle, nil
	return shepherds
}

// close lets the watcher go, as soon as its last shepherd has.
func (w *watcher) close() {
	w.closing.Do(func() {
		w.sock.close()
		_ = unix.Close(w.null)
	})
}

// awaitEnd waits until a watcher that was let go is gone, but not for one that
// still guards what does not go.
func (w *watcher) awaitEnd() {
	for since := time.Now(); !w.handle.awaitEnd(overdueMargin) && time.Since(since) < overduePause; {
		w.wake()
	}
}

// ended reports whether it is gone, without waiting.
func (w *watcher) ended() bool { return w.handle.awaitEnd(0) }
