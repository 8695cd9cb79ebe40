package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/netrunner-go/netrunner/internal/shepherd"
)

func newHelperCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "helper",
		Short: "Put the helper where images and packages want it",
		Long: `netrunner watches over commands with a helper, a small program that it carries in
itself and starts from memory. Where programs that start from memory raise an
alarm, or are forbidden, install it as a file when the image or the package is
built: ` + shepherd.InstalledPath + ` is found by itself, any other
path by the environment variable ` + shepherd.HelperVariable + `.

Only the very helper of this version is accepted; see 'netrunner version'. It has to
be a regular file that nobody but root and the user can change, in such a directory.`,
		Args: refuseArguments,
		RunE: showHelp,
	}
	cmd.AddCommand(newInstallCommand())
	return cmd
}

func newInstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install [path]",
		Short: "Write the helper to a file, " + shepherd.InstalledPath + " unless a path is given",
		Long: `Write the helper to a file, ` + shepherd.InstalledPath + ` unless a path is
given. Missing directories are made. The file is replaced in one step, so that a
helper that runs meanwhile is not disturbed.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError(cmd, fmt.Errorf("unexpected argument %q", args[1]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path := shepherd.InstalledPath
			if len(args) > 0 {
				path = args[0]
			}
			if err := install(path); err != nil {
				return fmt.Errorf("install the helper: %w", err)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "wrote %s\nsha256 %s\n", path, shepherd.Sum())
			return err
		},
	}
}

func install(path string) error {
	// The rename would refuse a directory too, in words that help nobody.
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory, the path of a file is needed", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return shepherd.Install(path)
}
