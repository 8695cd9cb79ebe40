package netrunner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// DefaultKillTimeout is the time between the stop signal and SIGKILL when
// [Cmd.KillTimeout] is zero.
const DefaultKillTimeout = 5 * time.Second

// Leftovers says what becomes of processes that a command leaves behind when it
// exits by itself.
type Leftovers int

const (
	// KillLeftovers sends them SIGKILL. It is the zero value.
	KillLeftovers Leftovers = iota
	// LeaveLeftovers lets them live, even longer than the owner. It is for
	// commands whose job is to start a daemon. As long as the command itself
	// runs the tree is guarded as ever, and a stop ends all of it.
	LeaveLeftovers
)

// Cmd describes a command. It is a template: it can be started many times, by
// several goroutines at once as long as nobody changes it. Fields that os/exec
// has too mean the same here.
//
// The zero value is not usable: Path is needed. [Command] fills it in.
type Cmd struct {
	// Path is the program to run. Without a slash it is looked for in Dir, not
	// in PATH, as in os/exec; use Command for a lookup.
	Path string

	// Args are the arguments, Args[0] the command's own name. When it is empty,
	// the command gets Path as its only argument.
	Args []string

	// Env is the environment as "key=value" entries; of entries with the same
	// key the last one counts. Nil means the owner's environment.
	Env []string

	// Dir is the working directory. Empty means the owner's.
	Dir string

	// Stdin is the command's input. Nil means the null device. An *os.File is
	// passed to the command as it is; [Pipe] makes [Process.Stdin] usable;
	// anything else is copied through a pipe until it ends or the command does.
	//
	// A Read that still blocks when the command has ended is waited for no
	// longer than a tenth of a second, and goes on in the background.
	Stdin io.Reader

	// Stdout and Stderr take the command's output. An *os.File is passed to the
	// command as it is, unless MaxOutput asks for counting; [Pipe] makes
	// [Process.Stdout] or [Process.Stderr] usable; anything else is written to
	// from a pipe. When both are the same, at most one goroutine at a time
	// calls Write.
	//
	// A nil Stdout means the null device. A nil Stderr is read and thrown away,
	// but for its first and last 32 KiB, which an [ExitError] shows.
	Stdout io.Writer
	Stderr io.Writer

	// ExtraFiles become descriptors 3, 4 and so on of the command, at most 249
	// of them. For one that is nil the command has no descriptor of that number.
	// Nothing else but 0, 1 and 2 is inherited.
	ExtraFiles []*os.File

	// SysProcAttr holds attributes of Linux; nil means none. Of its fields Chroot,
	// Credential, Setsid, Setpgid, Pgid, Setctty, Noctty, Ctty, Foreground and
	// PidFD mean what they mean for os/exec. Pdeathsig is the signal that a stop
	// begins with when StopSignal is zero, and follows the owner's death, not that
	// of a thread (golang/go issue 27505). Ptrace, Cloneflags, Unshareflags,
	// UidMappings, GidMappings, AmbientCaps and UseCgroupFD are refused with an
	// error that wraps [errors.ErrUnsupported].
	SysProcAttr *syscall.SysProcAttr

	// Timeout is how long the command may run before it is stopped; the error
	// is then [ErrTimeout]. Zero means without limit.
	Timeout time.Duration

	// StopSignal is what a stop begins with: a cancelled context, the timeout,
	// the output limit, [Process.Stop], or the owner's death. Zero means SIGTERM.
	// With SIGKILL there is no grace.
	StopSignal syscall.Signal

	// KillTimeout is the grace: the time from the stop signal to SIGKILL for
	// everything that is still there. Zero means DefaultKillTimeout.
	KillTimeout time.Duration

	// MaxOutput is how many bytes, standard output and error together, the
	// command may write before it is stopped; the error is then
	// [ErrOutputLimit], and what came before it has been delivered. Zero means
	// without limit.
	MaxOutput int64

	// MaxLine is how long a line of [Cmd.Lines] may be, in bytes. Zero means
	// DefaultMaxLine.
	MaxLine int

	// PipeSize is how many bytes a pipe between the command and its owner holds
	// before the writer waits: a large one means fewer switches between the two.
	// The kernel rounds it up to a power of two pages, and gives an unprivileged
	// user no more than /proc/sys/fs/pipe-max-size (F_SETPIPE_SZ in man 2 fcntl);
	// one that can't be had that large is as large as it can be. Zero means the
	// kernel's choice, 64 KiB.
	PipeSize int

	// Leftovers says what becomes of what the command leaves behind.
	Leftovers Leftovers

	// Foreground keeps the command in the owner's process group, so that Ctrl-C,
	// Ctrl-Z and prompts on the terminal work as with os/exec. Without it the
	// command leads a process group of its own. The tree is guarded either way.
	// It is not the field of that name of SysProcAttr.
	Foreground bool

	// Terminal gives the command a pseudo-terminal. Nil means none.
	Terminal *Terminal

	// Observer is told when the command starts and how it ends. Nil means nobody,
	// and costs nothing.
	Observer *Observer

	// Err is why Command did not find the program. Start returns it.
	Err error
}

// pipe is the type of Pipe.
type pipe struct{}

var errPipe = errors.New("netrunner.Pipe only stands for a pipe: read and write at the Process")

func (pipe) Read([]byte) (int, error)  { return 0, errPipe }
func (pipe) Write([]byte) (int, error) { return 0, errPipe }

// Pipe as [Cmd.Stdin], [Cmd.Stdout] or [Cmd.Stderr] asks for a pipe to the
// owner, whose end is [Process.Stdin], [Process.Stdout] or [Process.Stderr].
var Pipe pipe

// Input as [Cmd.Stdin] feeds the command what a sequence yields. The sequence is
// ranged over each time the command is started, and left when the command reads
// no more.
type Input iter.Seq[[]byte]

var errInput = errors.New("netrunner.Input is for Cmd.Stdin alone")

// Read only makes it an io.Reader. It always fails.
func (Input) Read([]byte) (int, error) { return 0, errInput }

// WriteTo writes all that the sequence yields.
func (in Input) WriteTo(w io.Writer) (written int64, err error) {
	for data := range in {
		n, err := w.Write(data)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// Command returns a template for a program with arguments. A name without a
// slash is looked for in PATH; a program that would be found in the current
// directory is refused with [exec.ErrDot], as os/exec does.
func Command(name string, arg ...string) *Cmd {
	cmd := &Cmd{Path: name, Args: append([]string{name}, arg...)}
	if filepath.Base(name) == name {
		path, err := exec.LookPath(name)
		if path != "" {
			cmd.Path = path
		}
		cmd.Err = err
	}
	return cmd
}

// With returns a copy of the template with more arguments. What its fields
// point to is shared.
func (c *Cmd) With(arg ...string) *Cmd {
	more := *c
	if len(more.Args) == 0 {
		more.Args = []string{more.Path}
	}
	more.Args = append(slices.Clip(more.Args), arg...)
	return &more
}

// String returns the command as one would read it in a log; it is no shell syntax.
func (c *Cmd) String() string {
	b := []byte(c.Path)
	for i, arg := range c.Args {
		if i > 0 {
			b = append(append(b, ' '), arg...)
		}
	}
	return string(b)
}

// Run starts the command and waits until its whole tree is gone. A status other
// than zero is an [*ExitError].
func (c *Cmd) Run(ctx context.Context) error {
	p, err := c.start(ctx, true, nil)
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}

// Output runs the command and returns its standard output, also with an error.
// Bound it with MaxOutput when the command is not to be trusted. Stdout must be nil.
func (c *Cmd) Output(ctx context.Context) ([]byte, error) {
	if c.Stdout != nil {
		return nil, c.notStarted(ctx, c.startError("check", "Stdout", errAlreadySet))
	}
	var out bytes.Buffer
	capture := *c
	capture.Stdout = &out
	err := capture.Run(ctx)
	return out.Bytes(), err
}

// CombinedOutput runs the command and returns its standard output and standard
// error in the order in which they were written. Stdout and Stderr must be nil.
func (c *Cmd) CombinedOutput(ctx context.Context) ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, c.notStarted(ctx, c.startError("check", "Stdout or Stderr", errAlreadySet))
	}
	var out bytes.Buffer
	capture := *c
	capture.Stdout, capture.Stderr = &out, &out
	err := capture.Run(ctx)
	return out.Bytes(), err
}

var errAlreadySet = errors.New("already set")
