package shepherd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watcher is the owner's only child: it forks the shepherds, and kills what
// they leave behind when they die.
type watcher struct {
	pid       int
	way       string // how its program was found
	inherited []byte // what it has from the owner, see inherited
	running   int    // shepherds that are not idle; the pool's lock guards it

	mu   sync.Mutex // one sender, one question at a time
	sock *socket
}

// startWatcher starts the helper in its first role.
func startWatcher(named string, state []byte) (*watcher, error) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer unix.Close(null) //nolint:errcheck // /dev/null
	ours, theirs, err := newSocket()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs) //nolint:errcheck // the watcher has its own copy
	w := &watcher{inherited: state, sock: ours}
	w.way, err = startHelper(named, func(path string) (err error) {
		// It has a process group of its own, but the owner's session: a command
		// that is to join the owner's group has to be in it.
		w.pid, err = syscall.ForkExec(path, []string{helperName}, &syscall.ProcAttr{
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
	if err != nil {
		ours.close()
		return nil, fmt.Errorf("start the watcher: %w", err)
	}
	return w, nil
}

// errWatcherGone says that the watcher took no request.
var errWatcherGone = errors.New("the watcher is gone")

// spawn asks for a shepherd. Whether one came to life is for its first event to say.
func (w *watcher) spawn() (*Shepherd, error) {
	ours, theirs, err := newSocket()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs) //nolint:errcheck // the watcher has its own copy
	w.mu.Lock()
	_, err = w.sock.send(spawnRequest{}.append(nil), []int{theirs})
	w.mu.Unlock()
	if err != nil {
		ours.close()
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			return nil, errWatcherGone
		}
		return nil, fmt.Errorf("ask the watcher for a shepherd: %w", err)
	}
	return &Shepherd{sock: ours, watcher: w, fresh: true}, nil
}

// settle waits until nothing is left of a shepherd that has died and of its
// tree, for a second at most. It returns how many processes could not be killed.
func (w *watcher) settle(shepherd int) (left int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.sock.file.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return 0, errWatcherGone
	}
	defer w.sock.file.SetDeadline(time.Time{}) //nolint:errcheck // it was set just before
	if _, err := w.sock.send(settleRequest{Shepherd: uint32(shepherd)}.append(nil), nil); err != nil {
		return 0, errWatcherGone
	}
	for {
		ev, err := w.sock.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		if err != nil {
			return 0, errWatcherGone
		}
		settled, err := decode[settledEvent](ev)
		if err != nil || ev.kind != eventSettled {
			return 0, fmt.Errorf("%w: event %d", errMalformed, ev.kind)
		}
		return int(settled.Left), nil
	}
}

// alike reports whether a command of this watcher inherits what one of the owner would.
func (w *watcher) alike(state []byte) bool { return bytes.Equal(w.inherited, state) }

// close lets the watcher go, as soon as its last shepherd has.
func (w *watcher) close() { w.sock.close() }

// reap waits for the watcher's end, without blocking if it still lives. A host
// program that waits for all its children may have been faster.
func (w *watcher) reap(flags int) (gone bool) {
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(w.pid, &status, flags, nil)
		if err != unix.EINTR {
			return err != nil || pid == w.pid
		}
	}
}
