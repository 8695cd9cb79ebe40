package exec

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/netrunner-go/netrunner"
)

// The standard library's own errors, so that errors.Is holds whichever package is imported.
var (
	// ErrNotFound is the error of a search in PATH that finds no executable file.
	ErrNotFound = exec.ErrNotFound
	// ErrDot says that a name was found in the current directory, which is not
	// executed. Test for it with errors.Is.
	ErrDot = exec.ErrDot
	// ErrWaitDelay is there for programs that test for it. This package never returns it.
	ErrWaitDelay = exec.ErrWaitDelay
)

// Error is what LookPath returns: the name that was looked for, and why it can't be executed.
type Error = exec.Error

// LookPath searches PATH for an executable file. A name with a slash is tried as
// it is. A result in the current directory comes with an error that wraps ErrDot.
func LookPath(file string) (string, error) { return exec.LookPath(file) }

// Cmd is a command that is being prepared, or runs. It can be used once. Path is
// the only field that has to be set. Its methods are not safe for concurrent use,
// but for String.
type Cmd struct {
	// Path is the program. A relative one is relative to Dir.
	Path string

	// Args are the arguments, Args[0] the command's own name. Empty means {Path}.
	Args []string

	// Env is the environment as "key=value"; of entries with the same key the last
	// one counts. Nil means that of this process, with PWD for Dir.
	Env []string

	// Dir is the working directory. Empty means that of this process.
	Dir string

	// Stdin is the standard input. Nil means the null device. An *os.File is
	// passed on as it is; anything else is copied through a pipe until it ends or
	// the command does.
	Stdin io.Reader

	// Stdout and Stderr are where output goes. Nil means the null device. An
	// *os.File is passed on as it is; anything else is written to from a pipe, and
	// Wait returns when all is written. When both are the same, and can be compared
	// with ==, at most one goroutine at a time calls Write.
	Stdout io.Writer
	Stderr io.Writer

	// ExtraFiles become descriptors 3, 4 and so on. For one that is nil there is no
	// descriptor of that number.
	ExtraFiles []*os.File

	// SysProcAttr holds attributes of the system; see the package's comment.
	SysProcAttr *syscall.SysProcAttr

	// Process is the command, once it is started.
	Process *Process

	// ProcessState is how it ended, after Wait or Run.
	ProcessState *ProcessState

	// Err is why Command did not find the program. Start returns it.
	Err error

	// Cancel is called when the context of CommandContext is done; CommandContext
	// sets it to kill the command. If it returns nil and the command succeeds, Wait
	// returns the context's error. An error that it returns, unless that is
	// os.ErrProcessDone, is what Wait returns when the command succeeds. If Cancel is
	// nil, only WaitDelay has an effect then.
	Cancel func() error

	// WaitDelay is the time from the end of the context to the end of the command
	// by Kill. Zero means without limit.
	WaitDelay time.Duration

	// Leftovers says what becomes of processes that the command leaves behind when
	// it exits: they are killed, or left. It is not in os/exec, where they are left.
	Leftovers netrunner.Leftovers

	ctx          context.Context // of CommandContext
	startCalled  atomic32
	captures     bool // standard error, for an ExitError of Output
	process      *netrunner.Process
	interruption *interruption

	theirs []io.Closer // files that are the command's, to close when it has them
	ours   []io.Closer // the other ends, to close when it has ended
}

// atomic32 is an atomic.Int32 that may be copied, so that vet lets a Cmd be copied
// where it lets one of os/exec be.
type atomic32 int32

func (a *atomic32) set() (before bool) { return atomic.SwapInt32((*int32)(a), 1) != 0 }

// Command returns a Cmd for a program and its arguments. A name without a slash is
// looked for with LookPath. Args[0] is the name, and not the path that was found.
func Command(name string, arg ...string) *Cmd {
	cmd := &Cmd{Path: name, Args: append([]string{name}, arg...)}
	if filepath.Base(name) == name {
		path, err := LookPath(name)
		if path != "" {
			cmd.Path = path
		}
		cmd.Err = err
	}
	return cmd
}

// CommandContext is like Command with a context, at whose end Cancel is called,
// which kills the command. It panics if the context is nil, as os/exec does.
func CommandContext(ctx context.Context, name string, arg ...string) *Cmd {
	if ctx == nil {
		panic("nil Context")
	}
	cmd := Command(name, arg...)
	cmd.ctx = ctx
	cmd.Cancel = func() error { return cmd.Process.Kill() }
	return cmd
}

// String returns the command as one would read it in a log; it is no shell syntax.
func (c *Cmd) String() string {
	if c.Err != nil || len(c.Args) == 0 {
		return strings.Join(c.Args, " ")
	}
	return strings.Join(append([]string{c.Path}, c.Args[1:]...), " ")
}

// Environ returns the environment that the command would have.
func (c *Cmd) Environ() []string { return c.standard().Environ() }

// standard is what of the command os/exec computes by itself.
func (c *Cmd) standard() *exec.Cmd {
	return &exec.Cmd{Env: c.Env, Dir: c.Dir, SysProcAttr: c.SysProcAttr}
}
