package main

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/ttymodes"
)

// window connects the command's terminal with netrunner's own. Without a terminal
// on standard input it only copies.
type window struct {
	in       *os.File // nil without a terminal on standard input
	suspends byte     // the key that suspends there, or zero
	out      *ttymodes.Writer
	record   *os.File // nil when nothing is recorded
	process  *netrunner.Process
	signals  chan os.Signal
	finished chan struct{}

	mu     sync.Mutex
	before *term.State // of our own terminal; nil when its modes are its own
	ended  bool        // and they are to stay so
}

// openWindow opens the recording, and looks where netrunner itself is.
func openWindow(record string) (*window, error) {
	w := &window{out: ttymodes.NewWriter(os.Stdout), finished: make(chan struct{})}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		w.in = os.Stdin
		if modes, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err == nil {
			w.suspends = modes.Cc[unix.VSUSP]
		}
	}
	if record != "" {
		file, err := createPrivate(record)
		if err != nil {
			return nil, fmt.Errorf("record: %w", err)
		}
		w.record = file
	}
	return w, nil
}

// prepare gives the command its terminal, of the size of ours.
func (w *window) prepare(cmd *netrunner.Cmd, recordInput bool) {
	cmd.Terminal = &netrunner.Terminal{RecordInput: recordInput}
	if w.record != nil {
		cmd.Terminal.Record = w.record
	}
	for _, file := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if size, err := netrunner.WindowSizeOf(file); err == nil {
			cmd.Terminal.Size = size
			break
		}
	}
	cmd.Foreground = false
	cmd.Stdout, cmd.Stderr = w.out, nil
	if w.in != nil {
		cmd.Stdin = netrunner.Pipe
	}
}

// begin hands the keys on, and follows the size. Each key is the command's from
// here on, also Ctrl-C.
func (w *window) begin(process *netrunner.Process) error {
	w.process = process
	if w.in == nil {
		return nil
	}
	if err := w.raw(); err != nil {
		return fmt.Errorf("set the terminal to raw mode: %w", err)
	}
	w.signals = make(chan os.Signal, 8)
	signal.Notify(w.signals, syscall.SIGWINCH)
	w.follow() // what has changed since prepare
	go func() {
		for {
			select {
			case <-w.signals:
				w.follow()
			case <-w.finished:
				return
			}
		}
	}()
	go w.typeKeys() // a Read that waits for a key ends with the program
	return nil
}

func (w *window) follow() {
	if size, err := netrunner.WindowSizeOf(w.in); err == nil {
		_ = w.process.Resize(size) // when it has ended, its size does not count
	}
}

// typeKeys copies keys to the command's terminal.
func (w *window) typeKeys() {
	for buffer := make([]byte, 4096); ; {
		n, err := w.in.Read(buffer)
		for keys := buffer[:n]; len(keys) > 0; {
			before, after, pressed := bytes.Cut(keys, []byte{w.suspends})
			if w.suspends == 0 || !pressed || !w.ours() {
				before, after, pressed = keys, nil, false
			}
			if len(before) > 0 {
				if _, err := w.process.Stdin().Write(before); err != nil {
					return // it has ended
				}
			}
			if pressed {
				w.suspend()
			}
			keys = after
		}
		if err != nil { // our own terminal has been closed: the end, or EIO
			_ = w.process.HangUp()
			return
		}
	}
}

// raw hands over every key, and asks again for what the command had asked of the
// terminal; restore undoes both.
func (w *window) raw() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended { // while netrunner was suspended
		return os.ErrProcessDone
	}
	before, err := term.MakeRaw(int(w.in.Fd()))
	if err != nil {
		return err
	}
	w.before = before
	w.out.Resume()
	return nil
}

func (w *window) restore(ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = w.ended || ended
	if w.before == nil {
		return
	}
	w.out.Suspend()
	_ = term.Restore(int(w.in.Fd()), w.before) // a terminal that is gone needs none
	w.before = nil
}

// end gives the terminal back, on every way out.
func (w *window) end() error {
	if w.signals != nil {
		signal.Stop(w.signals)
		close(w.finished)
	}
	w.restore(true)
	if w.record == nil {
		return nil
	}
	return w.record.Close()
}

// ours reports whether the key that suspends is for netrunner, and not for the
// command: when the command itself is in the foreground of its terminal, and would
// stop. The kernel does not let it, since nobody in its session could continue it
// (an orphaned process group, man 2 setpgid). A shell ignores the signal, and its
// jobs are groups of their own. A program that wants every key and does not catch
// the signal, such as ssh, gets the key.
func (w *window) ours() bool {
	modes, err := w.process.TerminalModes()
	if err != nil {
		return false
	}
	group, ignored, caught := dispositions(w.process.PID())
	const stop = 1 << (uint(syscall.SIGTSTP) - 1)
	return group == w.process.PID() && ignored&stop == 0 && (modes.Lflag&unix.ISIG != 0 || caught&stop != 0)
}

// dispositions returns the foreground process group of a command's terminal, and
// the signals that it ignores and catches; zeros when it has ended (man 5 proc).
func dispositions(pid int) (foreground int, ignored, caught uint64) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, 0
	}
	// The name may hold spaces and parentheses; what follows the last one does not.
	var state string
	var parent, group, session, tty int
	_, _ = fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &parent, &group, &session, &tty, &foreground)
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "SigIgn: %x", &ignored)
		_, _ = fmt.Sscanf(line, "SigCgt: %x", &caught)
	}
	return foreground, ignored, caught
}

// suspend stops the command and netrunner itself, with whoever shares its process group,
// until the shell continues them.
func (w *window) suspend() {
	_ = w.process.Signal(syscall.SIGSTOP)
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	w.restore(false)
	_ = unix.Kill(0, unix.SIGTSTP)
	select {
	case <-continued:
	case <-time.After(200 * time.Millisecond): // no shell is there to continue us, and the kernel has not stopped us
	}
	if w.raw() != nil {
		_ = w.process.HangUp()
		return
	}
	_ = w.process.Signal(syscall.SIGCONT)
	w.redraw()
}

// redraw makes the command paint its window again: programs do when its size changes.
func (w *window) redraw() {
	size, err := netrunner.WindowSizeOf(w.in)
	if err != nil {
		return
	}
	other := size
	other.Rows++
	_ = w.process.Resize(other)
	_ = w.process.Resize(size)
}
