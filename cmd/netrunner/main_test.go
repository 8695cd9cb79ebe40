package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// The test binary impersonates netrunner and the programs that only tests need.
func TestMain(m *testing.M) {
	testscript.Main(guarded{m}, map[string]func(){
		"netrunner": main,
		"immune":    immune,
	})
}

// guarded runs the tests as a subreaper: whatever they lose becomes a child of
// the test binary, and fails it.
type guarded struct{ *testing.M }

func (g guarded) Run() int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "prctl:", err)
		return 1
	}
	// The race detector lets a program linger for a second at its exit.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := g.M.Run()
	if lost := proctest.ReapLost(5 * time.Second); len(lost) > 0 {
		fmt.Fprintf(os.Stderr, "processes left behind by the tests: %v\n", lost)
		return 1
	}
	return status
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": runForStatus},
	})
}

// runForStatus is the script command `status N program args…`: the program has
// to exit with status N.
func runForStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program [args…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
