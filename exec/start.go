package exec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/netrunner-go/netrunner"
)

// Start starts the command, and returns when its program runs. Wait has to be
// called for its files to be closed. A Cmd that is dropped without Wait runs on as
// long as this process does.
//
// The error is that of LookPath, of the context, or an [*fs.PathError] as os/exec
// has it: "fork/exec" or "chdir", the path, and the errno.
func (c *Cmd) Start() error {
	return c.begin(func(cmd *netrunner.Cmd) error {
		// Not c.ctx: what happens at its end is for Cancel to say.
		p, err := cmd.Start(context.Background())
		if err == nil {
			p.Done() // holds on to it: a Cmd that is dropped runs on, as with os/exec
			c.started(p)
		}
		return err
	})
}

// begin starts the command by a function, once. When that says that it has failed
// to start, all files are closed.
func (c *Cmd) begin(start func(*netrunner.Cmd) error) error {
	if c.startCalled.set() {
		return errors.New("exec: already started")
	}
	err := c.refuse()
	if err == nil {
		err = c.startBy(start)
	}
	closeAll(&c.theirs)
	if c.Process == nil {
		closeAll(&c.ours)
	}
	return err
}

func (c *Cmd) startBy(start func(*netrunner.Cmd) error) error {
	cmd := c.command()
	if cmd.Stderr == nil && !c.captures {
		null, err := nullDevice() // nil is captured there
		if err != nil {
			return err
		}
		cmd.Stderr = null
	}
	err := start(cmd)
	if err != nil && c.Process == nil {
		err = c.startError(err)
	}
	return err
}

// null is the null device once it has been opened. It stays open: to open it for
// each command would cost a percent of a small one.
var null atomic.Pointer[os.File]

func nullDevice() (*os.File, error) {
	if file := null.Load(); file != nil {
		return file, nil
	}
	file, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	if !null.CompareAndSwap(nil, file) {
		_ = file.Close() // another was faster
	}
	return null.Load(), nil
}

// refuse says why the command can't even be tried.
func (c *Cmd) refuse() error {
	switch {
	case c.Path == "" && c.Err == nil:
		c.Err = errors.New("exec: no command")
		return c.Err
	case c.Err != nil:
		return c.Err
	case c.Cancel != nil && c.ctx == nil:
		return errors.New("exec: command with a non-nil Cancel was not created with CommandContext")
	case c.ctx != nil:
		return c.ctx.Err()
	}
	return nil
}

// started is called when the program runs.
func (c *Cmd) started(p *netrunner.Process) {
	c.process = p
	c.Process = &Process{Pid: p.PID(), process: p, alone: c.Leftovers == netrunner.LeaveLeftovers}
	c.watchContext()
}

// command turns the Cmd into a template.
func (c *Cmd) command() *netrunner.Cmd {
	sys := c.SysProcAttr
	return &netrunner.Cmd{
		Path:        c.Path,
		Args:        c.Args,
		Env:         c.Env,
		Dir:         c.Dir,
		Stdin:       c.Stdin,
		Stdout:      c.Stdout,
		Stderr:      c.Stderr,
		ExtraFiles:  c.ExtraFiles,
		SysProcAttr: sys,
		Leftovers:   c.Leftovers,
		// In the caller's process group unless something else is asked for, so that
		// Ctrl-C, Ctrl-Z and prompts on the terminal are as with os/exec.
		Foreground: sys == nil || !sys.Setsid && !sys.Setpgid && !sys.Foreground,
	}
}

// startError gives an error the form that callers of os/exec know.
func (c *Cmd) startError(err error) error {
	var start *netrunner.StartError
	if !errors.As(err, &start) {
		return err
	}
	failed := &fs.PathError{Op: "fork/exec", Path: c.Path, Err: start}
	errno, isErrno := errors.AsType[syscall.Errno](start.Err)
	switch {
	case start.Step == "check":
		failed.Err = fmt.Errorf("%s %w", start.Subject, start.Err)
	case !isErrno:
		// No errno can say it: the shepherd could not be started, say.
	case start.Step == "chdir":
		failed.Op, failed.Path, failed.Err = "chdir", c.Dir, errno
	case start.Step == "exec" && errno == syscall.EISDIR:
		failed.Err = syscall.EACCES // what the kernel has said
	default:
		failed.Err = errno
	}
	return failed
}
