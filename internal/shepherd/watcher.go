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
	pidfd     int // -1 where the kernel has none
	reaped    bool
	null      int    // /dev/null, for commands too: opening it each time would cost them more
	inherited []byte // what it has from the owner, see inherited
	running   int    // shepherds that are not idle; the pool's lock guards it

	sock   *socket
	sendMu sync.Mutex // one sender at a time
	askMu  sync.Mutex // one question at a time
}

// attached tells the helper to stay a child of the owner's.
const attached = "attached"

// startWatcher starts the helper in its first role.
func startWatcher(named string, state []byte) (*watcher, error) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	ours, theirs, err := newSocket()
	if err != nil {
		_ = unix.Close(null)
		return nil, err
	}
	defer unix.Close(theirs) //nolint:errcheck // the watcher has its own copy
	w := &watcher{pidfd: -1, null: null, inherited: state, sock: ours}
	_, err = startHelper(named, func(path string) (err error) {
		// It has a process group of its own, but the owner's session: a command
		// that is to join the owner's group has to be in it.
		w.pid, err = syscall.ForkExec(path, []string{helperName, attached}, &syscall.ProcAttr{
			Dir:   "/",
			Env:   []string{},
			Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(theirs)},
			Sys:   &syscall.SysProcAttr{Setpgid: true, PidFD: &w.pidfd},
		})
		if err != nil {
			return fmt.Errorf("exec %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		w.close()
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
	if err := w.send(spawnRequest{}.append(nil), theirs); err != nil {
		ours.close()
		return nil, fmt.Errorf("ask the watcher for a shepherd: %w", err)
	}
	return &Shepherd{sock: ours, watcher: w, fresh: true}, nil
}

func (w *watcher) send(request []byte, descriptors ...int) error {
	w.sendMu.Lock()
	defer w.sendMu.Unlock()
	_, err := w.sock.send(request, descriptors)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrClosed) {
		return errWatcherGone
	}
	return err
}

// settle waits until nothing is left of a shepherd that has died and of its
// tree, for a second at most. It returns how many processes could not be killed.
func (w *watcher) settle(shepherd int) (left int, err error) {
	w.askMu.Lock()
	defer w.askMu.Unlock()
	if err := w.sock.file.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return 0, errWatcherGone
	}
	defer w.sock.file.SetReadDeadline(time.Time{}) //nolint:errcheck // it was set just before
	if err := w.send(settleRequest{Shepherd: uint32(shepherd)}.append(nil)); err != nil {
		return 0, err
	}
	for {
		ev, err := w.sock.receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		case err != nil:
			return 0, errWatcherGone
		case ev.kind == eventHello:
			continue
		case ev.kind != eventSettled:
			return 0, fmt.Errorf("%w: event %d from the watcher", errMalformed, ev.kind)
		}
		settled, err := decode[settledEvent](ev)
		if err != nil {
			return 0, err
		}
		// An answer to an earlier question, which was waited for no longer, is passed over.
		if int(settled.Shepherd) == shepherd {
			return int(settled.Left), nil
		}
	}
}

// alike reports whether a command of this watcher inherits what one of the owner would.
func (w *watcher) alike(state []byte) bool { return bytes.Equal(w.inherited, state) }

// close lets the watcher go, as soon as its last shepherd has.
func (w *watcher) close() {
	w.sock.close()
	_ = unix.Close(w.null)
	w.null = -1
}

// reap waits for the watcher's end; with WNOHANG it does not block while it
// lives. A host program that waits for all its children may have been faster.
// By its pidfd, no other child of the host's is ever mistaken for it.
func (w *watcher) reap(flags int) (gone bool) {
	if w.reaped {
		return true
	}
	which, id := unix.P_PIDFD, w.pidfd
	if w.pidfd < 0 { // before Linux 5.4
		which, id = unix.P_PID, w.pid
	}
	var info unix.Siginfo
	err := unix.Waitid(which, id, &info, unix.WEXITED|flags, nil)
	for err == unix.EINTR {
		err = unix.Waitid(which, id, &info, unix.WEXITED|flags, nil)
	}
	if err == nil && info.Signo == 0 { // it lives
		return false
	}
	w.reaped = true
	if w.pidfd >= 0 {
		_ = unix.Close(w.pidfd)
	}
	return true
}
