package netrunner

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// copySize is the buffer of a copying goroutine: half of a pipe's usual capacity (man 7 pipe).
const copySize = 32 << 10

// copyDelay is how long a command runs before a goroutine begins to copy its
// output. Many small commands are over by then, and what they have said is in the
// pipe: the goroutine and its wake-ups would cost a tenth of such a command's time.
// One that says more than a pipe holds has hardly begun to.
const copyDelay = 2 * time.Millisecond

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// outlet is the owner's end of a pipe, or of the terminal, that a command writes to.
type outlet struct {
	file     *os.File
	bytes    *atomic.Int64 // what this stream has brought
	run      *run
	terminal *terminal    // nil for a pipe
	ended    atomic.Bool  // the command's tree is gone
	rest     atomic.Int64 // of a pipe's content, from then on
}

// end says that whatever is to be read is in the pipe by now: from here on an
// empty pipe is at its end, even if a process outside the tree holds it open.
func (o *outlet) end() {
	if !o.ended.Load() && o.terminal == nil {
		// What is left on purpose may go on writing: that is not the command's any more.
		o.rest.Store(o.waiting())
	}
	o.ended.Store(true)
	_ = o.file.SetReadDeadline(time.Unix(1, 0)) // wakes a reader that waits
}

// waiting is how much is in the pipe.
func (o *outlet) waiting() (n int64) {
	n = math.MaxInt64 // when it can't be known
	if raw, err := o.file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n = inPipe(int(fd), n) })
	}
	return n
}

// inPipe asks the kernel, in an int (man 7 pipe, FIONREAD).
func inPipe(fd int, unknown int64) int64 {
	if n, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil {
		return int64(n)
	}
	return unknown
}

func (o *outlet) read(b []byte) (n int, err error) {
	n, err = o.file.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) && o.ended.Load() {
		n, err = o.readRest(b)
	}
	if o.terminal != nil && errors.Is(err, unix.EIO) { // nobody has it open any more
		err = io.EOF
	}
	o.came(b[:n], err == io.EOF)
	return n, err
}

// came counts what was read, and tells the terminal of it.
func (o *outlet) came(b []byte, last bool) {
	o.count(len(b))
	if o.terminal == nil {
		return
	}
	o.terminal.shown(b)
	if last {
		o.terminal.outputEnded()
	}
}

// readRest reads what is there without waiting for more.
func (o *outlet) readRest(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	if o.terminal == nil {
		rest := o.rest.Load()
		if rest <= 0 {
			return 0, io.EOF
		}
		b = b[:min(int64(len(b)), rest)]
	}
	raw, err := o.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	if controlErr := raw.Control(func(fd uintptr) { n, err = o.readOnce(fd, b) }); controlErr != nil {
		return 0, controlErr
	}
	o.rest.Add(-int64(n))
	if err == unix.EAGAIN || err == nil && n == 0 {
		return 0, io.EOF
	}
	return n, os.NewSyscallError("read", err)
}

// readOnce is readOnce, but that a terminal's end is one like others.
func (o *outlet) readOnce(fd uintptr, b []byte) (n int, err error) {
	n, err = readOnce(fd, b)
	if o.terminal != nil && err == unix.EIO {
		return 0, nil
	}
	return n, err
}

func readOnce(fd uintptr, b []byte) (n int, err error) {
	for {
		if n, err = unix.Read(int(fd), b); err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// copyTo writes all that comes to w, and stops the command when it is too much.
// It counts what it has written. It holds a buffer only while there is something
// in it: a thousand silent commands have none. Where the kernel can move the
// data by itself, it does.
func (o *outlet) copyTo(w io.Writer, count func(n int64)) error {
	if done, err := o.moveTo(w, count); done {
		return err
	}
	return o.carryTo(w, count)
}

// moveTo is copyTo where the kernel can do it. When it is not done, the rest is
// to be carried.
func (o *outlet) moveTo(w io.Writer, count func(n int64)) (done bool, err error) {
	if o.run.limit > 0 || o.terminal != nil {
		return false, nil
	}
	to := kernelTarget(w)
	if to == nil {
		return false, nil
	}
	return o.spliceTo(to, count)
}

// carryTo is copyTo through a buffer.
func (o *outlet) carryTo(w io.Writer, count func(n int64)) error {
	raw, err := o.file.SyscallConn()
	if err != nil {
		return err
	}
	for {
		if more, err := o.copyOnce(raw, w, count); !more {
			return err
		}
	}
}

func (o *outlet) copyOnce(raw syscall.RawConn, w io.Writer, count func(n int64)) (more bool, err error) {
	var buffer *[copySize]byte
	var n int
	waitErr := raw.Read(func(fd uintptr) bool {
		buffer = copyBuffers.Get().(*[copySize]byte)
		if n, err = o.readOnce(fd, buffer[:]); err != unix.EAGAIN {
			return true
		}
		copyBuffers.Put(buffer)
		buffer = nil
		return false
	})
	if buffer == nil {
		if !errors.Is(waitErr, os.ErrDeadlineExceeded) || !o.ended.Load() {
			return false, o.closedError(waitErr)
		}
		buffer = copyBuffers.Get().(*[copySize]byte)
		n, err = o.readRest(buffer[:])
	}
	defer copyBuffers.Put(buffer)
	last := err == io.EOF || err == nil && n == 0
	o.came(buffer[:n], last)
	if last {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	allowed := o.run.allow(n)
	if allowed == 0 {
		return true, nil
	}
	written, err := w.Write(buffer[:allowed])
	count(int64(written))
	if err == nil && written < allowed {
		err = io.ErrShortWrite
	}
	return err == nil, err
}

// closedError returns os.ErrClosed where a raw connection has another word for it.
func (o *outlet) closedError(err error) error {
	if _, closed := o.file.Read(nil); closed != nil {
		return closed
	}
	return err
}

func (o *outlet) count(n int) {
	o.run.counters.read(o.bytes, n)
}

// inlet is the owner's end of a pipe, or of the terminal, that a command reads from.
type inlet struct {
	file     *os.File
	run      *run
	terminal *terminal   // nil for a pipe
	closed   atomic.Bool // of a terminal, whose file is the output's too
}

func (i *inlet) write(b []byte) (int, error) {
	if i.closed.Load() {
		return 0, &os.PathError{Op: "write", Path: i.file.Name(), Err: os.ErrClosed}
	}
	n, err := i.file.Write(b)
	if i.terminal != nil {
		i.terminal.typed(b[:n])
		if errors.Is(err, unix.EIO) { // nobody has it open any more
			err = &os.PathError{Op: "write", Path: i.file.Name(), Err: unix.EPIPE}
		}
	}
	i.run.counters.wrote(n)
	return n, err
}

// close ends the command's input: a pipe's by closing it, a terminal's by typing
// what ends it there.
func (i *inlet) close() error {
	if i.terminal == nil {
		return i.file.Close()
	}
	if i.closed.Load() {
		return &os.PathError{Op: "close", Path: i.file.Name(), Err: os.ErrClosed}
	}
	keys, err := i.terminal.endInput()
	if err != nil {
		return fmt.Errorf("close Stdin: %w", err)
	}
	_, err = i.write(keys)
	i.closed.Store(true)
	return err
}

// Write is write, for io.WriterTo.
func (i *inlet) Write(b []byte) (int, error) {
	n, err := i.write(b)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, os.ErrClosed) || i.terminal != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = errUnwanted
	}
	return n, err
}

// errUnwanted says that the command takes no more input.
var errUnwanted = errors.New("the command reads no more")

// copyFrom feeds the command until r ends. A command that does not want it all
// is no error; a reader that fails is.
func (i *inlet) copyFrom(r io.Reader) error {
	err := i.copyAll(r)
	if closeErr := i.close(); errors.Is(closeErr, ErrNoEndOfInput) {
		_, _ = i.write([]byte{4}) // Ctrl-D, which is what ends the input of most that read keys
	}
	if errors.Is(err, errUnwanted) {
		return nil
	}
	return err
}

func (i *inlet) copyAll(r io.Reader) error {
	switch r := r.(type) {
	case *PipeReader: // of another command: from pipe to pipe, in the kernel
		return r.feed(i)
	case io.WriterTo:
		_, err := r.WriteTo(i)
		return err
	}
	buffer := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buffer)
	for {
		n, err := r.Read(buffer[:])
		if n > 0 {
			if _, err := i.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// PipeReader is the owner's end of a command's standard output or error. Data
// waits in the kernel's pipe until it is read, and the command with it. All of
// it can be read, also after the command has ended. It is safe for concurrent use.
type PipeReader struct {
	process *Process // keeps the command from being collected while it is read
	out     *outlet  // nil when there is no pipe
	field   string
}

// Read reads what the command has written; io.EOF says that all was read.
func (r *PipeReader) Read(b []byte) (int, error) {
	if r.out == nil {
		return 0, notPiped(r.field)
	}
	n, err := r.out.read(b)
	if allowed := r.out.run.allow(n); allowed < n {
		return allowed, r.out.run.limitError()
	}
	return n, err
}

// WriteTo writes all that comes to w until the command's output is at its end;
// [io.Copy] calls it. From the pipe to a regular file of a local file system, a
// TCP or Unix connection, or another pipe that does not block, the kernel moves
// the data, and it never passes through this process (man 2 splice). To terminals,
// files that a network or a program serves, and sockets that block, it is copied:
// the kernel would hold the pipe's lock while such a target waits.
func (r *PipeReader) WriteTo(w io.Writer) (written int64, err error) {
	if r.out == nil {
		return 0, notPiped(r.field)
	}
	err = r.out.copyTo(w, func(n int64) { written += n })
	if err == nil && r.out.run.exceeded() {
		err = r.out.run.limitError()
	}
	return written, err
}

// feed gives all that comes to another command. What fails is told apart as if
// it were read and written: that the other one wants no more is no error, that
// this one was cut off is.
func (r *PipeReader) feed(to *inlet) error {
	if r.out == nil {
		return notPiped(r.field)
	}
	done, err := false, error(nil)
	if to.terminal == nil { // which has to be told what is typed
		done, err = r.out.moveTo(to.file, func(n int64) { to.run.counters.wrote(int(n)) })
	}
	if !done {
		err = r.out.carryTo(to, func(int64) {}) // which counts itself
	}
	if errors.Is(err, unix.EPIPE) {
		return errUnwanted
	}
	if err == nil && r.out.run.exceeded() {
		err = r.out.run.limitError()
	}
	return err
}

// Close closes the pipe: what the command writes from here on fails with EPIPE. A
// terminal hangs up, as by [Process.HangUp].
func (r *PipeReader) Close() error {
	if r.out == nil {
		return notPiped(r.field)
	}
	return r.out.file.Close()
}

// SetReadDeadline makes a Read that waits longer fail with
// [os.ErrDeadlineExceeded]. The zero time means without limit.
func (r *PipeReader) SetReadDeadline(t time.Time) error {
	if r.out == nil {
		return notPiped(r.field)
	}
	if r.out.ended.Load() {
		return nil // nothing waits any more
	}
	err := r.out.file.SetReadDeadline(t)
	if r.out.ended.Load() { // it ended meanwhile, and its deadline was overwritten
		r.out.end()
	}
	return err
}

// PipeWriter is the owner's end of a command's standard input. It is safe for
// concurrent use.
type PipeWriter struct {
	process *Process
	in      *inlet // nil when there is no pipe
}

// Write waits as long as the pipe is full. A command that reads no more makes it
// fail with EPIPE.
func (w *PipeWriter) Write(b []byte) (int, error) {
	if w.in == nil {
		return 0, notPiped("Stdin")
	}
	return w.in.write(b)
}

// Close ends the command's input. Only the first call succeeds. To a terminal it
// types what ends the input there, Ctrl-D unless the command has changed that, and
// fails with [ErrNoEndOfInput] in raw mode; the terminal stays open.
func (w *PipeWriter) Close() error {
	if w.in == nil {
		return notPiped("Stdin")
	}
	return w.in.close()
}

// SetWriteDeadline makes a Write that waits longer fail with
// [os.ErrDeadlineExceeded]. The zero time means without limit.
func (w *PipeWriter) SetWriteDeadline(t time.Time) error {
	if w.in == nil {
		return notPiped("Stdin")
	}
	return w.in.file.SetWriteDeadline(t)
}

func notPiped(field string) error {
	return errors.New(field + " is no pipe: set Cmd." + field + " to netrunner.Pipe")
}
