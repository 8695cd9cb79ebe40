package netrunner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/shepherd"
)

// maxSignal is the largest signal number of the kernel (man 7 signal).
const maxSignal = 64

// SetHelper names the file of the helper, which must be the one of this version
// (netrunner helper install PATH writes it). It is then the only one that is
// tried, and a helper that is running is used no more for new commands. The
// empty path means: the environment variable NETRUNNER_HELPER, or else the
// installed file, memory, and the user's cache directory, in this order.
//
// The file must be a regular one, in a directory, that only root and the
// effective user can write to. In a program that is more privileged than its
// caller (set-uid, file capabilities) the environment does not count.
func SetHelper(path string) { shepherd.SetHelper(path) }

// CloseIdle ends the helper's processes that have nothing to do, and waits until
// they are gone, but for no more than half a minute for one that does not go.
// Commands that run are left alone. A program needs it only before it looks for
// processes or descriptors that it has left, before it gives up privileges, or
// after it has restricted itself by Landlock.
func CloseIdle() { shepherd.CloseIdle() }

// Start starts the command, and returns when its program runs. When the context
// ends, the command is stopped: the stop signal, and after KillTimeout SIGKILL
// to the whole tree. A step that hangs, on a dead file system say, is given up a
// second after the context has ended, or Timeout is over.
//
// A command inherits what a child of the calling thread would have at that
// moment, so that what a goroutine has changed for its locked thread holds.
//
// The error is a [*StartError]; the command's program has not run then, unless the
// start was given up: then it may have run for a moment, and is ended.
func (c *Cmd) Start(ctx context.Context) (*Process, error) { return c.start(ctx, false, nil) }

// start is Start. For a caller who only waits for the end, it returns then, and
// needs no goroutine; nor need the shepherd say at once that the command runs,
// unless there is something to copy meanwhile. What the command belongs to, if
// anything, is told when it has begun, and when it has ended.
func (c *Cmd) start(ctx context.Context, onlyWaits bool, whole whole) (*Process, error) {
	p, err := c.begin(ctx, onlyWaits, whole)
	if err != nil {
		return nil, c.notStarted(ctx, err)
	}
	return p, nil
}

// begin is start, but the observer is not told when it fails.
func (c *Cmd) begin(ctx context.Context, onlyWaits bool, whole whole) (*Process, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, c.startError("start", "", err)
	}
	s := &starting{cmd: c, run: newRun(c, whole)}
	defer s.close()
	spec, err := s.spec()
	if err != nil {
		s.closeOurs()
		return nil, err
	}
	spec.Unawaited = onlyWaits && len(s.copies) == 0
	s.run.start = time.Now()
	limited, cancel := c.limit(ctx)
	s.run.running, err = shepherd.Start(limited, spec)
	if err != nil {
		defer cancel()
		s.closeOurs()
		return nil, c.explain(limited, spec, err)
	}
	close(s.run.begun)
	totals.started.Add(1)
	for _, begin := range s.copies {
		begin()
	}
	if s.run.captured != nil {
		s.run.captured.start(s.run)
	}
	if c.SysProcAttr != nil && c.SysProcAttr.PidFD != nil {
		*c.SysProcAttr.PidFD = s.run.running.DuplicatePidfd()
	}
	r := s.run
	p := &Process{run: r}
	if whole != nil {
		p.heldWith = whole.began(p)
	}
	if !onlyWaits {
		p.cleanup = runtime.AddCleanup(p, (*run).drop, r)
	}
	r.endContext = cancel
	if limited.Done() != nil {
		stop := context.AfterFunc(limited, func() { r.expire(context.Cause(limited)) })
		r.endContext = func() { stop(); cancel() }
	}
	r.observer, r.ctx = c.Observer, ctx
	switch {
	case r.observer != nil && r.observer.Started != nil:
		r.told = make(chan struct{})
		go r.supervise(p.cleanup)
		p.observeStart(ctx, c)
	case onlyWaits:
		r.supervise(p.cleanup)
	default:
		go r.supervise(p.cleanup)
	}
	return p, nil
}

// limit returns a context that also ends after Timeout, which counts while a step
// of the start hangs.
func (c *Cmd) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.Timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, c.Timeout, timeoutError{c.Timeout})
}

// name is what errors call the command.
func (c *Cmd) name() string {
	if len(c.Args) > 0 {
		return c.Args[0]
	}
	return c.Path
}

func (c *Cmd) startError(step, subject string, err error) error {
	return &StartError{Command: c.name(), Step: step, Subject: subject, Err: err}
}

var (
	errNoCommand = errors.New("no command")
	errNUL       = errors.New("contains a NUL byte")
	errNegative  = errors.New("is negative")
	errNoSignal  = errors.New("is no signal")
	errTooMany   = errors.New("are too many")
	errUnknown   = errors.New("is unknown")
)

// check refuses what can't work before anything is opened.
func (c *Cmd) check() error {
	refuse := func(subject string, err error) error { return c.startError("check", subject, err) }
	if c.Err != nil {
		return c.startError("find", "", c.Err)
	}
	if c.Path == "" {
		return refuse("Path", errNoCommand)
	}
	for _, text := range []struct{ name, value string }{{"Path", c.Path}, {"Dir", c.Dir}} {
		if strings.IndexByte(text.value, 0) >= 0 {
			return refuse(text.name, errNUL)
		}
	}
	for _, list := range []struct {
		name   string
		values []string
	}{{"Args", c.Args}, {"Env", c.Env}} {
		for i, value := range list.values {
			if strings.IndexByte(value, 0) >= 0 {
				return refuse(list.name+"["+strconv.Itoa(i)+"]", errNUL)
			}
		}
	}
	switch {
	case c.Timeout < 0:
		return refuse("Timeout", errNegative)
	case c.KillTimeout < 0:
		return refuse("KillTimeout", errNegative)
	case c.MaxOutput < 0:
		return refuse("MaxOutput", errNegative)
	case c.MaxLine < 0:
		return refuse("MaxLine", errNegative)
	case c.PipeSize < 0:
		return refuse("PipeSize", errNegative)
	case c.StopSignal < 0 || c.StopSignal > maxSignal:
		return refuse("StopSignal", errNoSignal)
	case c.Leftovers != KillLeftovers && c.Leftovers != LeaveLeftovers:
		return refuse("Leftovers", errUnknown)
	case len(c.ExtraFiles) > shepherd.MaxDescriptors-3:
		return refuse("ExtraFiles", errTooMany)
	}
	return c.checkAttributes(refuse)
}

// explain turns what the shepherd said into a StartError that names its subject.
func (c *Cmd) explain(ctx context.Context, spec *shepherd.Spec, err error) error {
	var failed *shepherd.StartError
	switch {
	case errors.As(err, &failed):
	case context.Cause(ctx) != nil && errors.Is(err, context.Cause(ctx)):
		return c.startError("start", "", err)
	case errors.As(err, new(*shepherd.LostError)):
		return c.startError("start", "", fmt.Errorf("%w: %w", ErrShepherdLost, err))
	default:
		return c.startError("shepherd", "", err)
	}
	subject := ""
	switch failed.Step {
	case shepherd.StepExec:
		subject = c.Path
		return c.startError(failed.Step.String(), subject, c.explainExec(ctx, failed.Err))
	case shepherd.StepDescriptors:
		subject = invalidDescriptor(spec)
	case shepherd.StepDirectory:
		subject = "."
	case shepherd.StepPath:
		subject = c.Dir
	case shepherd.StepRoot:
		subject = c.SysProcAttr.Chroot
	}
	return c.startError(failed.Step.String(), subject, failed.Err)
}

// interpreterError is ENOENT for a file that exists.
type interpreterError struct {
	interpreter string
	err         error
}

func (e *interpreterError) Error() string {
	return "its interpreter " + strconv.Quote(e.interpreter) + " is missing: " + e.err.Error()
}
func (e *interpreterError) Unwrap() error { return e.err }

// invalidDescriptor names the field whose descriptor is closed, if one is.
func invalidDescriptor(spec *shepherd.Spec) string {
	for i, fd := range spec.Descriptors {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF || fd == shepherd.NullDevice {
			continue
		}
		if i < 3 {
			return [...]string{"Stdin", "Stdout", "Stderr"}[i]
		}
		return "ExtraFiles[" + strconv.Itoa(i-3) + "]"
	}
	if spec.Attributes.Foreground {
		if _, err := unix.FcntlInt(uintptr(spec.Attributes.Foremost), unix.F_GETFD, 0); err == unix.EBADF {
			return "SysProcAttr.Ctty"
		}
	}
	return ""
}

// explainPatience is how long an error may wait for its explanation.
const explainPatience = time.Second

// explainExec says more where the kernel's errno misleads, if the file system
// answers in time.
func (c *Cmd) explainExec(ctx context.Context, errno error) error {
	explained := make(chan error, 1)
	go func() { explained <- c.lookAtProgram(errno) }() // ends when the file system answers
	patience := time.NewTimer(explainPatience)
	defer patience.Stop()
	select {
	case err := <-explained:
		return err
	case <-ctx.Done():
	case <-patience.C:
	}
	return errno
}

// lookAtProgram looks for what misleads: EACCES for a directory, ENOENT for a
// script whose interpreter is missing.
func (c *Cmd) lookAtProgram(errno error) error {
	path := c.Path
	if c.Dir != "" && !strings.HasPrefix(path, "/") {
		path = c.Dir + "/" + path
	}
	info, err := os.Stat(path)
	switch {
	case err != nil || c.SysProcAttr != nil && c.SysProcAttr.Chroot != "": // not the file that was meant
		return errno
	case info.IsDir():
		return syscall.EISDIR
	case errno == syscall.ENOENT:
		if interpreter := readInterpreter(path); interpreter != "" {
			return &interpreterError{interpreter, errno}
		}
	}
	return errno
}

// readInterpreter returns the program that the first line of a script names.
func readInterpreter(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO by now would wait for a writer
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read
	line, err := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n')
	script, ok := strings.CutPrefix(line, "#!")
	if err != nil && err != io.EOF || !ok {
		return ""
	}
	if words := strings.Fields(script); len(words) > 0 {
		return words[0]
	}
	return ""
}
