// Command netrunner runs other programs and never loses one: nothing that a
// command has started is left when netrunner is gone, by whatever death.
//
// See netrunner --help, and package github.com/netrunner-go/netrunner for the
// same from Go.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func main() { os.Exit(execute(os.Args[1:], os.Stderr)) }

// execute runs netrunner with its arguments and returns its exit status.
func execute(args []string, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	err := root.Execute()
	status, message := explain(err)
	if message != "" {
		fmt.Fprintln(stderr, "netrunner: "+message) //nolint:errcheck // there is nowhere else to say it
	}
	return status
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "netrunner",
		Short: "Run commands that leave nothing behind",
		Long: `netrunner runs a command and never loses it: nothing that the command has
started is left when netrunner is gone. That holds when netrunner is killed with
SIGKILL, and for a command that ignores SIGTERM, forks, or turns into a daemon.`,
		Example: `  netrunner run -- make test
  netrunner run --timeout 10m -- ./nightly.sh`,
		Version:           moduleVersion(),
		Args:              refuseArguments,
		DisableAutoGenTag: true,
		// One line a message, and all of them printed at one place.
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true,
		RunE:               showHelp,
	}
	root.SetVersionTemplate("netrunner {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, err) })
	root.AddCommand(newRunCommand(), newHelperCommand(), newVersionCommand())
	refuseUnknownShells(root)
	return root
}

// refuseUnknownShells makes completion for a shell that it does not know an
// error: cobra's own command prints its help, with status 0.
func refuseUnknownShells(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Args = refuseArguments
			cmd.RunE = showHelp
		}
	}
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// refuseArguments is for commands that take none.
func refuseArguments(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasSubCommands():
		return usageError(cmd, fmt.Errorf("unknown command %q", args[0]))
	}
	return usageError(cmd, fmt.Errorf("unexpected argument %q", args[0]))
}

// usageError adds where the right usage is to be read.
func usageError(cmd *cobra.Command, err error) error {
	return fmt.Errorf("%w (see '%s --help')", err, cmd.CommandPath())
}
