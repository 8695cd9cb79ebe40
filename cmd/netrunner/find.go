package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/netrunner-go/netrunner"
)

// find makes a template of the command line, with the program looked up in PATH
// as timeout(1) and env(1) do: a directory of PATH that is not absolute counts,
// and a file that may not be executed is told from none.
func find(args []string) *netrunner.Cmd {
	cmd := netrunner.Command(args[0], args[1:]...)
	switch {
	case args[0] == "":
		cmd.Err = &exec.Error{Name: "", Err: exec.ErrNotFound}
	case errors.Is(cmd.Err, exec.ErrDot):
		cmd.Path, cmd.Err = filepath.Abs(cmd.Path)
	case errors.Is(cmd.Err, exec.ErrNotFound):
		if path := findFile(args[0]); path != "" {
			cmd.Path, cmd.Err = path, nil // the kernel will say what is wrong with it
		}
	}
	return cmd
}

// findFile returns the first file of that name in PATH, executable or not.
func findFile(name string) string {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
