package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/shepherd"
)

// runOptions are the flags of netrunner run.
type runOptions struct {
	timeout   duration
	grace     duration
	signal    stopSignal
	maxOutput size
	leave     bool
	dir       string
	env       []string
	clearEnv  bool
	stats     string
	log       bool
	pty       bool
	record    string
	recordIn  bool
}

func newRunCommand() *cobra.Command {
	options := &runOptions{grace: duration(netrunner.DefaultKillTimeout), signal: stopSignal(syscall.SIGTERM)}
	cmd := &cobra.Command{
		Use:   "run [flags] -- command [args…]",
		Short: "Run a command, and clear away all that it has started",
		Long: `Run a command with netrunner's own input, output and environment, wait until
it has ended, and kill whatever it has left running in the background. If
netrunner itself dies, even by SIGKILL, the command and all its descendants are
ended too.

SIGTERM, SIGINT, SIGHUP and SIGQUIT to netrunner stop the command; a second one
kills it at once. With a terminal on standard input the command is the
foreground job: Ctrl-C, Ctrl-Z and password prompts work as without netrunner.

With --pty (-t) the command has a terminal of its own, of the size of yours, which
gets each key as it is pressed. Ctrl-Z suspends the command and netrunner together,
unless the command is a shell or wants the key for itself.

With --log or --max-output the command writes to pipes, even if netrunner writes
to a terminal. A line is then logged when its end is there.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(cmd, errors.New("no command given"))
			}
			return nil
		},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := options.check(cmd.Flags()); err != nil {
				return usageError(cmd, err)
			}
			return options.run(args)
		},
	}
	groups := options.flags()
	for _, group := range groups {
		cmd.Flags().AddFlagSet(group.flags)
	}
	// From the command's name on, all is the command's.
	cmd.Flags().SetInterspersed(false)
	cmd.SetUsageFunc(func(cmd *cobra.Command) error { return printRunUsage(cmd, groups) })
	completeRun(cmd)
	return cmd
}

// flagGroup is a heading of the help and the flags below it.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

func (o *runOptions) flags() []flagGroup {
	group := func(title string) flagGroup {
		flags := pflag.NewFlagSet(title, pflag.ContinueOnError)
		flags.SortFlags = false
		return flagGroup{title, flags}
	}
	ending := group("When to end the command")
	ending.flags.Var(&o.timeout, "timeout", "stop it after `D`: 90s, 1m30s, or plain seconds; 0 is never")
	ending.flags.Var(&o.maxOutput, "max-output", "stop it when it has written more than `N` bytes, standard\noutput and error together: 4096, 512K, 10M, 1G")

	how := group("How to end it")
	how.flags.Var(&o.signal, "signal", "the signal that stops it: `NAME` or number")
	how.flags.Var(&o.grace, "grace", "kill what does not obey after `D`; 0 is at once")
	how.flags.BoolVar(&o.leave, "leave", false, "leave running what it leaves in the background when it\nexits by itself: for commands that start a daemon")

	surroundings := group("What the command gets")
	surroundings.flags.StringVar(&o.dir, "dir", "", "the `DIR` that it runs in")
	surroundings.flags.StringArrayVar(&o.env, "env", nil, "set an environment variable, `K=V`; may be repeated")
	surroundings.flags.BoolVar(&o.clearEnv, "clear-env", false, "give it no other environment than --env")

	surroundings.flags.BoolVarP(&o.pty, "pty", "t", false, "give it a terminal of its own: for programs that insist on one")

	report := group("What you get")
	report.flags.BoolVar(&o.log, "log", false, "put time and source before each line of its output, in\ncolor on a terminal unless NO_COLOR is set:\n15:04:05.000 out │ text")
	report.flags.StringVar(&o.stats, "stats", "", "write figures as JSON to `FILE` at the end, '-' for standard\nerror; bytes of output are among them with --log or --max-output;\nno link is followed, and the file is for you alone")
	report.flags.StringVar(&o.record, "record", "", "record its terminal to `FILE`, for 'asciinema play'; implies\n--pty; the file is made as with --stats")
	report.flags.BoolVar(&o.recordIn, "record-input", false, "record what is typed too, passwords included")
	report.flags.BoolP("help", "h", false, "show this help")
	return []flagGroup{ending, how, surroundings, report}
}

// check refuses what flags of their kind allow but which can't be meant.
func (o *runOptions) check(flags *pflag.FlagSet) error {
	// An empty variable in a script must not mean the current directory.
	for name, value := range map[string]string{"dir": o.dir, "stats": o.stats, "record": o.record} {
		if flags.Changed(name) && value == "" {
			return fmt.Errorf("--%s is empty", name)
		}
	}
	o.pty = o.pty || o.record != ""
	switch {
	case o.pty && o.log:
		return errors.New("--log does not go with --pty: a terminal has one stream, and no lines")
	case o.recordIn && o.record == "":
		return errors.New("--record-input needs --record")
	}
	for _, entry := range o.env {
		if key, _, ok := strings.Cut(entry, "="); !ok || key == "" {
			return fmt.Errorf("--env %q is not of the form K=V", entry)
		}
	}
	return nil
}

// run starts the command and waits for it. The error carries the exit status.
func (o *runOptions) run(args []string) (err error) {
	stats, err := openStats(o.stats)
	if err != nil {
		return fmt.Errorf("stats: %w", err)
	}
	cmd := o.command(args)
	var window *window
	if o.pty {
		if window, err = openWindow(o.record); err != nil {
			return err
		}
		window.prepare(cmd, o.recordIn)
		defer func() { err = cmp.Or(err, window.end()) }()
	}
	var lines *outputLog
	if o.log {
		lines = newOutputLog()
		cmd.Stdout, cmd.Stderr = lines.out, lines.err
	}
	// A reader of our output that has gone shows as an error of the write.
	ignoreBrokenPipe()
	signals := catchSignals(cmd.Foreground)
	shepherd.Attach() // netrunner waits for it, so that it needs nobody else to be reaped
	defer awaitHelper()
	process, err := cmd.Start(context.Background())
	if err != nil {
		err = startError(err)
		return stats.finish(err, &report{Command: args, Reason: err.Error()})
	}
	signals.relay(process)
	var windowErr error
	if window != nil {
		if windowErr = window.begin(process); windowErr != nil {
			_ = process.HangUp()
		}
	}
	state, err := process.Wait()
	if lines != nil {
		err = cmp.Or(err, lines.finish())
	}
	r := &report{Command: args, Reason: cmp.Or(reason(err), signals.reason())}
	r.addState(state)
	if o.maxOutput > 0 || o.log || o.pty {
		r.addOutput(process.Stats())
	}
	return stats.finish(cmp.Or(windowErr, endError(state, err)), r)
}

// command turns the options into a template.
func (o *runOptions) command(args []string) *netrunner.Cmd {
	cmd := find(args)
	cmd.Env = o.environment()
	cmd.Dir = o.dir
	cmd.Stdin = os.Stdin
	cmd.Stdout, cmd.Stderr = outputs(o.maxOutput > 0)
	cmd.Timeout = time.Duration(o.timeout)
	cmd.StopSignal = syscall.Signal(o.signal)
	cmd.KillTimeout = time.Duration(o.grace)
	if o.grace == 0 {
		cmd.StopSignal = syscall.SIGKILL // a Cmd takes zero for the default
	}
	cmd.MaxOutput = int64(o.maxOutput)
	if o.leave {
		cmd.Leftovers = netrunner.LeaveLeftovers
	}
	cmd.Foreground = term.IsTerminal(int(os.Stdin.Fd()))
	return cmd
}

// environment returns the command's environment, or nil for netrunner's own.
func (o *runOptions) environment() []string {
	switch {
	case o.clearEnv:
		return append([]string{}, o.env...) // never nil
	case len(o.env) == 0:
		return nil
	}
	// With PWD as os/exec sets it for a directory.
	return append((&exec.Cmd{Dir: o.dir}).Environ(), o.env...)
}

// outputs returns what the command writes to. When output is counted it passes
// through pipes, and two of them would lose the order of what goes to one place.
func outputs(counted bool) (stdout, stderr io.Writer) {
	if counted && sameFile(os.Stdout, os.Stderr) {
		return os.Stdout, os.Stdout
	}
	return os.Stdout, os.Stderr
}

func sameFile(a, b *os.File) bool {
	first, err := a.Stat()
	if err != nil {
		return false
	}
	second, err := b.Stat()
	return err == nil && os.SameFile(first, second)
}

// awaitHelper waits until the helper's processes are gone, so that whoever waits
// for netrunner finds nothing of it. They exit by themselves; one that still has
// something to clear away is not waited for.
func awaitHelper() {
	const patience = time.Second
	gone := make(chan struct{})
	go func() {
		netrunner.CloseIdle()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(patience):
	}
}

// completeRun says what the shell may offer for the values of flags.
func completeRun(cmd *cobra.Command) {
	nothing := cobra.NoFileCompletions
	for name, complete := range map[string]cobra.CompletionFunc{
		"timeout":    nothing,
		"grace":      nothing,
		"max-output": nothing,
		"env":        nothing,
		"signal":     cobra.FixedCompletions(signalNames(), cobra.ShellCompDirectiveNoFileComp),
		"dir": func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	} {
		if err := cmd.RegisterFlagCompletionFunc(name, complete); err != nil {
			panic(err) // there is no such flag
		}
	}
}
