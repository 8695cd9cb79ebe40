package netrunner

import (
	"cmp"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/shepherd"
)

// starting is a command on its way: what it will own, and what is open only
// until it has its own copies.
type starting struct {
	cmd    *Cmd
	run    *run
	opened []int      // descriptors for the command
	ours   []*os.File // the other ends, for the run
	copies []func()   // begin to copy what has to wait for the start
	files  []*os.File // the caller's, which must not be collected meanwhile
}

func (s *starting) close() {
	for _, fd := range s.opened {
		_ = unix.Close(fd)
	}
	runtime.KeepAlive(s.files)
}

func (s *starting) closeOurs() {
	close(s.run.begun)
	for _, f := range s.ours {
		_ = f.Close()
	}
	if s.run.captured != nil {
		_ = unix.Close(s.run.captured.pipe)
	}
	if s.run.terminal != nil {
		_ = unix.Close(s.run.terminal.slave)
	}
	s.run.endCopies()
}

// spec opens all that the command needs.
func (s *starting) spec() (*shepherd.Spec, error) {
	c := s.cmd
	streams := s.pipes
	if c.Terminal != nil {
		streams = s.terminal
	}
	stdin, stdout, stderr, err := streams()
	if err != nil {
		return nil, err
	}
	descriptors := append(make([]int, 0, 3+len(c.ExtraFiles)), stdin, stdout, stderr)
	for i, f := range c.ExtraFiles {
		fd := shepherd.NullDevice // for one that the command is not to have
		if f != nil {
			if fd, err = s.file(f, "ExtraFiles["+strconv.Itoa(i)+"]"); err != nil {
				return nil, err
			}
		}
		descriptors = append(descriptors, fd)
	}
	attributes := c.attributes()
	dir, err := s.directory(&attributes)
	if err != nil {
		return nil, err
	}
	spec := &shepherd.Spec{
		Path:        c.Path,
		Args:        c.Args,
		Env:         c.environ(),
		Descriptors: descriptors,
		Directory:   dir,
		Attributes:  attributes,
		StopSignal:  cmp.Or(c.StopSignal, c.deathSignal(), syscall.SIGTERM),
		Grace:       cmp.Or(c.KillTimeout, DefaultKillTimeout),
		Leave:       c.Leftovers == LeaveLeftovers,
	}
	if len(spec.Args) == 0 {
		spec.Args = []string{c.Path}
	}
	if c.Terminal != nil {
		spec.Env = c.terminalEnv(spec.Env)
	}
	return spec, nil
}

// environ has os/exec's own rules: the last of equal keys counts, and PWD follows Dir.
func (c *Cmd) environ() []string { return (&exec.Cmd{Env: c.Env, Dir: c.Dir}).Environ() }

// directory opens the owner's directory if the command's is looked up from there:
// it may change, or have no path. Dir itself is for the child to look up, since
// only the child may hang on a dead file system.
func (s *starting) directory(a *shepherd.Attributes) (int, error) {
	a.Directory = s.cmd.Dir
	if a.Root != "" && a.Directory != "" { // which is meant below the new root
		a.Directory = "/" + a.Directory
	}
	if strings.HasPrefix(a.Directory, "/") && (a.Root == "" || strings.HasPrefix(a.Root, "/")) {
		return shepherd.NullDevice, nil
	}
	for {
		fd, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, s.cmd.startError("chdir", ".", err)
		}
		s.opened = append(s.opened, fd)
		return fd, nil
	}
}

// file returns the descriptor of a file of the caller's.
func (s *starting) file(f *os.File, field string) (int, error) {
	s.files = append(s.files, f)
	fd := f.Fd()
	if fd == ^uintptr(0) {
		return -1, s.cmd.startError("pass", field, os.ErrClosed)
	}
	return int(fd), nil
}

// pipe opens a pipe: the command's end blocks, ours is for the poller.
func (s *starting) pipe(field string, ours, theirs int) (file *os.File, fd int, err error) {
	end, fd, err := s.rawPipe(field, ours, theirs)
	if err != nil {
		return nil, -1, err
	}
	file = os.NewFile(uintptr(end), field)
	s.ours = append(s.ours, file)
	return file, fd, nil
}

// rawPipe opens a pipe without telling the poller of our end.
func (s *starting) rawPipe(field string, ours, theirs int) (end, fd int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, s.cmd.startError("pipe", field, err)
	}
	s.opened = append(s.opened, ends[theirs])
	if _, err := unix.FcntlInt(uintptr(ends[ours]), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
		_ = unix.Close(ends[ours])
		return -1, -1, s.cmd.startError("pipe", field, err)
	}
	if size := s.cmd.PipeSize; size > 0 {
		resizePipe(ends[ours], size)
	}
	return ends[ours], ends[theirs], nil
}

// resizePipe makes a pipe hold so many bytes, or as many as this user may have.
func resizePipe(pipe, size int) {
	size = min(size, math.MaxInt32)
	if _, err := unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, size); err != unix.EPERM {
		return
	}
	text, _ := os.ReadFile("/proc/sys/fs/pipe-max-size")
	if most, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && most < size {
		// It fails when the user's pipes are too many already (pipe-user-pages-soft).
		_, _ = unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, most)
	}
}

// pipes opens what the command's streams need without a terminal.
func (s *starting) pipes() (stdin, stdout, stderr int, err error) {
	if stdin, err = s.stdin(); err != nil {
		return -1, -1, -1, err
	}
	stdout, stderr, err = s.outputs()
	return stdin, stdout, stderr, err
}

// terminal opens the command's terminal, and a pipe for what is to be apart from it.
func (s *starting) terminal() (stdin, stdout, stderr int, err error) {
	c, r := s.cmd, s.run
	t, err := r.openTerminal(c)
	if err != nil {
		return -1, -1, -1, err
	}
	r.terminal = t
	s.ours = append(s.ours, t.master)
	if c.Stdin != nil {
		s.feed(&inlet{file: t.master, run: r, terminal: t})
	}
	s.take(&outlet{file: t.master, bytes: &r.counters.bytesOut, run: r, terminal: t}, c.Stdout, &r.stdout, &r.pipes.stdout)
	stderr = t.slave
	if c.Stderr != nil && !sameWriter(c.Stdout, c.Stderr) {
		stderr, err = s.output(c.Stderr, "Stderr", &r.counters.bytesErr, &r.stderr, &r.pipes.stderr)
	}
	return t.slave, t.slave, stderr, err
}

func (s *starting) stdin() (int, error) {
	c, r := s.cmd, s.run
	if c.Stdin == nil {
		return shepherd.NullDevice, nil
	}
	if f, ok := c.Stdin.(*os.File); ok {
		return s.file(f, "Stdin")
	}
	file, fd, err := s.pipe("Stdin", 1, 0)
	if err != nil {
		return -1, err
	}
	s.feed(&inlet{file: file, run: r})
	return fd, nil
}

// feed sees to it that the input comes to the inlet.
func (s *starting) feed(in *inlet) {
	from, r := s.cmd.Stdin, s.run
	r.stdin = in
	if from == Pipe {
		r.pipes.stdin = true
		return
	}
	r.input = make(chan struct{})
	s.copies = append(s.copies, func() {
		go in.feedFrom(from)
	})
}

func (s *starting) outputs() (stdout, stderr int, err error) {
	c, r := s.cmd, s.run
	stdout, err = s.output(c.Stdout, "Stdout", &r.counters.bytesOut, &r.stdout, &r.pipes.stdout)
	if err != nil {
		return -1, -1, err
	}
	if c.Stderr != nil && c.Stderr != Pipe && sameWriter(c.Stdout, c.Stderr) {
		return stdout, stdout, nil
	}
	if c.Stderr == nil {
		end, fd, err := s.rawPipe("Stderr", 0, 1)
		if err == nil {
			r.captured = newCapture(end)
		}
		return stdout, fd, err
	}
	stderr, err = s.output(c.Stderr, "Stderr", &r.counters.bytesErr, &r.stderr, &r.pipes.stderr)
	return stdout, stderr, err
}

func (s *starting) output(w io.Writer, field string, bytes *atomic.Int64, out **outlet, piped *bool) (int, error) {
	r := s.run
	if w == nil && r.limit == 0 {
		return shepherd.NullDevice, nil
	}
	if f, ok := w.(*os.File); ok && r.limit == 0 {
		return s.file(f, field)
	}
	file, fd, err := s.pipe(field, 0, 1)
	if err != nil {
		return -1, err
	}
	s.take(&outlet{file: file, bytes: bytes, run: r}, w, out, piped)
	return fd, nil
}

// take sees to it that what the outlet brings comes to w.
func (s *starting) take(from *outlet, w io.Writer, out **outlet, piped *bool) {
	r := s.run
	*out = from
	r.outlets = append(r.outlets, from)
	if w == Pipe {
		*piped = true
		return
	}
	if w == nil {
		w = io.Discard
	}
	c := &copying{out: from, done: make(chan struct{})}
	r.copies = append(r.copies, c)
	if r.limit > 0 { // too much of it stops the command, which has to be there
		s.copies = append(s.copies, func() { go c.begin(w) })
		return
	}
	timer := time.AfterFunc(copyDelay, func() { c.begin(w) })
	r.delayed = append(r.delayed, func() {
		switch {
		case !timer.Stop():
		case c.harmless(w):
			c.begin(w)
		default: // which may do what it likes, but not hold up the end
			go c.begin(w)
		}
	})
}

// sameWriter reports whether two writers are one; types that can't be compared are not.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }() // as os/exec does
	return a == b
}
