package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const runStatuses = `Exit status:
  the command's own, or
  124      it ran longer than --timeout, or wrote more than --max-output
  125      netrunner itself failed, or was called wrongly
  126      the command was found but could not be executed
  127      the command was not found
  128+N    signal N ended the command (137 for SIGKILL, 143 for SIGTERM)
`

const runExamples = `Examples:
  Run a build; nothing of it survives, whatever becomes of this terminal:
    netrunner run -- make -j8

  Give a test run ten minutes, then SIGTERM, and SIGKILL after thirty seconds:
    netrunner run --timeout 10m --grace 30s -- go test ./...

  Take at most ten megabytes from a program that is not to be trusted:
    netrunner run --max-output 10M --clear-env -- ./untrusted >out.txt

  See what a job has used:
    netrunner run --stats usage.json -- ./nightly.sh

  Keep what a build says, and when:
    netrunner run --log -- make >build.log 2>&1

  Record a session of a program that wants a terminal:
    netrunner run --record session.cast -- vim notes.txt

  Start a daemon that is to stay:
    netrunner run --leave -- nginx
`

// printRunUsage prints what follows the description in the help: the flags by
// what they are for, the exit statuses, and examples.
func printRunUsage(cmd *cobra.Command, groups []flagGroup) error {
	var text strings.Builder
	fmt.Fprintf(&text, "Usage:\n  %s\n\n", cmd.UseLine())
	for _, group := range groups {
		fmt.Fprintf(&text, "%s:\n%s\n", group.title, group.flags.FlagUsages())
	}
	text.WriteString(runStatuses + "\n" + runExamples)
	_, err := fmt.Fprint(cmd.OutOrStderr(), text.String())
	return err
}
