package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/netrunner-go/netrunner/internal/shepherd"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of netrunner, Go and the helper",
		Args:  refuseArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "netrunner %s\ngo        %s\nplatform  %s/%s\nhelper    sha256 %s, %d bytes\n",
				moduleVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH, shepherd.Sum(), len(shepherd.Helper()))
			return err
		},
	}
}

// moduleVersion is the version that the go command has built, as in v1.2.3.
func moduleVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}
