package netrunner

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/asciicast"
	"github.com/netrunner-go/netrunner/internal/pty"
)

// DefaultTERM is the kind of terminal that a command is told it has when neither
// [Terminal.Type] nor its environment says.
const DefaultTERM = "xterm-256color"

// WindowSize is that of a terminal (man 2 ioctl_tty, TIOCSWINSZ). The pixels may
// be zero.
type WindowSize struct {
	Rows, Cols       uint16
	XPixels, YPixels uint16
}

// WindowSizeOf returns the size of a terminal that is open as a file, say os.Stdin.
func WindowSizeOf(f *os.File) (WindowSize, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return WindowSize{}, fmt.Errorf("window size of %s: %w", printable(f.Name()), err)
	}
	var size *unix.Winsize
	var sizeErr error
	if err := raw.Control(func(fd uintptr) { size, sizeErr = unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ) }); err != nil {
		return WindowSize{}, fmt.Errorf("window size of %s: %w", printable(f.Name()), err)
	}
	if sizeErr != nil {
		return WindowSize{}, fmt.Errorf("window size of %s: %w", printable(f.Name()), sizeErr)
	}
	return WindowSize{size.Row, size.Col, size.Xpixel, size.Ypixel}, nil
}

// Terminal as [Cmd.Terminal] gives the command a pseudo-terminal (man 7 pty),
// which controls a session of its own. The zero value is one of 24 rows and 80
// columns, with the modes of a terminal that one logs in at.
//
// Standard input, output and error of the command are the terminal. What is
// written to [Process.Stdin], or read from Cmd.Stdin, is typed; what the command
// writes, and what the terminal echoes, comes from [Process.Stdout], or goes to
// Cmd.Stdout, as one stream with "\r\n" at the end of lines. A nil Stdout reads it
// and throws it away. Cmd.Stderr takes standard error apart, unless it is nil or
// the same as Stdout. Files are copied from and to as anything else is.
//
// All that was written is delivered before the end of the output, however soon
// the command exits, and the end does not wait for a process that was left with
// the terminal open.
type Terminal struct {
	// Size is the window's. Rows or columns of zero mean 24 and 80.
	Size WindowSize

	// Type is TERM in the command's environment. Empty means what that has, or
	// DefaultTERM.
	Type string

	// Modes changes the modes that the terminal has from the start: [RawMode],
	// [NoEcho], or what else one wants of man 3 termios. Nil changes nothing. It is
	// called for each start.
	Modes func(*unix.Termios)

	// Record takes a recording of the session, in asciinema's format (asciicast v2),
	// line by line as it goes on. That it could not be written is an error of
	// Wait when the command itself succeeds; the command is not disturbed. The writer stays the caller's to close. Nil records nothing.
	Record io.Writer

	// RecordInput also records what is typed, passwords included.
	RecordInput bool
}

// RawMode as [Terminal.Modes] hands every byte on as it is: no lines, no echo, no
// signals from keys, no "\r" before "\n" (man 3 cfmakeraw).
func RawMode(t *unix.Termios) {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
}

// NoEcho as [Terminal.Modes] does not show what is typed.
func NoEcho(t *unix.Termios) { t.Lflag &^= unix.ECHO }

// ErrNoEndOfInput is why Stdin of a terminal can't be closed: the program has put it
// into raw mode, in which there is no end of input.
var ErrNoEndOfInput = errors.New("the terminal is in raw mode, in which there is no end of input")

// terminal is the owner's end of a command's terminal.
type terminal struct {
	master   *os.File
	slave    int // held until the tree is gone: the output is at its end then, and not before
	recorder *asciicast.Recorder
	inputs   bool        // are recorded
	lineOpen atomic.Bool // what was typed last is no whole line

	recordError atomic.Pointer[error] // the first
}

func (r *run) openTerminal(c *Cmd) (*terminal, error) {
	defer entered(frame{run: r})() // Modes, and what takes the recording
	pair, err := pty.Open()
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			return nil, c.startError("open terminal", path.Path, path.Err)
		}
		return nil, c.startError("open terminal", pty.Device, err)
	}
	t := &terminal{master: pair.Master, slave: pair.Slave, inputs: c.Terminal.RecordInput}
	prepared := false
	defer func() {
		if !prepared { // also when Modes panics, or what takes the recording
			pair.Close()
		}
	}()
	if err := t.prepare(c); err != nil {
		return nil, err
	}
	prepared = true
	return t, nil
}

// prepare gives the terminal its modes and its size.
func (t *terminal) prepare(c *Cmd) error {
	modes, err := unix.IoctlGetTermios(t.slave, unix.TCGETS)
	if err == nil {
		modes.Iflag |= unix.IUTF8 // so that Backspace takes a character; the kernel's default is older than that
		if c.Terminal.Modes != nil {
			c.Terminal.Modes(modes)
		}
		err = unix.IoctlSetTermios(t.slave, unix.TCSETS, modes)
	}
	if err != nil {
		return c.startError("set terminal", "modes", err)
	}
	size := c.Terminal.Size
	if size.Rows == 0 {
		size.Rows = 24
	}
	if size.Cols == 0 {
		size.Cols = 80
	}
	if err := t.resize(size); err != nil {
		return c.startError("set terminal", "size", err)
	}
	if c.Terminal.Record == nil {
		return nil
	}
	t.recorder, err = asciicast.New(c.Terminal.Record, asciicast.Header{
		Width: int(size.Cols), Height: int(size.Rows), Command: c.String(),
		Env: c.recordedEnv(),
	})
	if err != nil {
		return c.startError("record", "Terminal.Record", err)
	}
	return nil
}

// recordedEnv is what asciinema tells of the environment too.
func (c *Cmd) recordedEnv() map[string]string {
	env := c.terminalEnv(nil)
	recorded := map[string]string{"TERM": lookup(env, "TERM")}
	if shell := lookup(env, "SHELL"); shell != "" {
		recorded["SHELL"] = shell
	}
	return recorded
}

// terminalEnv adds TERM where that is needed.
func (c *Cmd) terminalEnv(env []string) []string {
	if env == nil {
		env = c.environ()
	}
	kind := c.Terminal.Type
	if kind == "" && lookup(env, "TERM") == "" {
		kind = DefaultTERM
	}
	if kind == "" {
		return env
	}
	env = slices.DeleteFunc(env, func(entry string) bool { return strings.HasPrefix(entry, "TERM=") })
	return append(env, "TERM="+kind)
}

func lookup(env []string, key string) string {
	for _, entry := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(entry, key+"="); ok {
			return value
		}
	}
	return ""
}

func (t *terminal) resize(size WindowSize) error {
	return t.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols, Xpixel: size.XPixels, Ypixel: size.YPixels})
	})
}

func (t *terminal) control(f func(master int) error) (err error) {
	raw, connErr := t.master.SyscallConn()
	if connErr != nil {
		return connErr
	}
	if controlErr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); controlErr != nil {
		return os.ErrClosed
	}
	return err
}

// endInput types what ends the input in the terminal's present mode. After a line
// that is open it takes two: the first only hands that on.
func (t *terminal) endInput() ([]byte, error) {
	modes, err := t.modes()
	switch {
	case err != nil:
		return nil, err
	case modes.Lflag&unix.ICANON == 0 || modes.Cc[unix.VEOF] == 0:
		return nil, ErrNoEndOfInput
	case t.lineOpen.Load():
		return []byte{modes.Cc[unix.VEOF], modes.Cc[unix.VEOF]}, nil
	}
	return []byte{modes.Cc[unix.VEOF]}, nil
}

func (t *terminal) modes() (modes *unix.Termios, err error) {
	err = t.control(func(fd int) (err error) {
		modes, err = unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	})
	return modes, err
}

// typed is told what was typed.
func (t *terminal) typed(b []byte) {
	if len(b) == 0 {
		return
	}
	t.lineOpen.Store(b[len(b)-1] != '\n' && b[len(b)-1] != '\r')
	if t.recorder != nil && t.inputs {
		t.recorded(t.recorder.Input(b))
	}
}

// shown is told what came out.
func (t *terminal) shown(b []byte) {
	if t.recorder != nil && len(b) > 0 {
		t.recorded(t.recorder.Output(b))
	}
}

// outputEnded is told that nothing more comes out.
func (t *terminal) outputEnded() {
	if t.recorder != nil {
		t.recorded(t.recorder.Close())
	}
}

// recorded keeps the first error of the recording, for Wait.
func (t *terminal) recorded(err error) {
	if err != nil && !errors.Is(err, os.ErrClosed) {
		t.recordError.CompareAndSwap(nil, &err)
	}
}

// end is called when the tree is gone: nobody writes any more.
func (t *terminal) end() {
	_ = unix.Close(t.slave)
	// The input's copy may wait for room that never comes.
	_ = t.master.SetWriteDeadline(time.Unix(1, 0))
}

// Resize changes the window's size. The foreground process group of the terminal
// is told by SIGWINCH.
func (p *Process) Resize(size WindowSize) error {
	t := p.run.terminal
	if t == nil {
		return errNoTerminal
	}
	if err := t.resize(size); err != nil {
		return fmt.Errorf("resize the terminal of %q: %w", p.run.name, err)
	}
	if t.recorder != nil {
		t.recorded(t.recorder.Resize(int(size.Cols), int(size.Rows)))
	}
	return nil
}

// WindowSize returns the size that the window has, which the command may have changed.
func (p *Process) WindowSize() (WindowSize, error) {
	if p.run.terminal == nil {
		return WindowSize{}, errNoTerminal
	}
	return WindowSizeOf(p.run.terminal.master)
}

// TerminalModes returns the modes that the command's terminal has now: whether it
// echoes what is typed (ECHO), hands on lines (ICANON), makes signals of keys (ISIG).
func (p *Process) TerminalModes() (*unix.Termios, error) {
	if p.run.terminal == nil {
		return nil, errNoTerminal
	}
	modes, err := p.run.terminal.modes()
	if err != nil {
		return nil, fmt.Errorf("modes of the terminal of %q: %w", p.run.name, err)
	}
	return modes, nil
}

// HangUp closes the terminal, as one that is switched off: the command and the
// terminal's foreground process group get SIGHUP, reads of it are at their end,
// and its output is nobody's. It does not wait.
func (p *Process) HangUp() error {
	if p.run.terminal == nil {
		return errNoTerminal
	}
	return p.run.terminal.master.Close()
}

var errNoTerminal = errors.New("the command has no terminal: set Cmd.Terminal")
