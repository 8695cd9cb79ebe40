package netrunner_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

func init() {
	helperPrograms["detached"] = func([]string) {
		if err := netrunner.Command("true").Run(context.Background()); err != nil {
			panic(err)
		}
		fmt.Printf("after a command: %d\n", len(proctest.Children(os.Getpid())))
		p, err := netrunner.Command("sleep", "1000").Start(context.Background())
		if err != nil {
			panic(err)
		}
		fmt.Printf("during another: %d\n", len(proctest.Children(os.Getpid())))
		script := `read children </proc/self/task/$$/children; echo "as another program: ${children:-0}"`
		if err := syscall.Exec("/bin/sh", []string{"sh", "-c", script}, []string{fmt.Sprint("M=", p.PID())}); err != nil {
			panic(err)
		}
	}
}

// The watcher is nobody's child of importance. A program that waits for its
// children finds none of ours, nor does the program that takes its place.
func TestDetached(t *testing.T) {
	leaveNothing(t)
	for range 5 {
		cmd := helperCommand(t, "detached")
		cmd.Env = append(cmd.Env, detachedVariable+"=1")
		out, err := cmd.Output(testContext(t))
		check(t, err)
		if want := "after a command: 0\nduring another: 0\nas another program: 0\n"; string(out) != want {
			t.Errorf("the children of the owner are\n%s, not\n%s", out, want)
		}
	}
}

// A first process of a PID namespace inherits the watcher, and reaps it like
// any other orphan.
func TestAFirstProcessReapsItsWatchers(t *testing.T) {
	leaveNothing(t)
	cmd := helperCommand(t, "first-process")
	cmd.Env = append(cmd.Env, detachedVariable+"=1")
	inside := netrunner.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", cmd.Path)
	inside.Env = cmd.Env
	out, err := inside.CombinedOutput(testContext(t))
	if err != nil && strings.Contains(string(out), "Operation not permitted") {
		t.Skip("this user may not make a PID namespace")
	}
	check(t, err)
	if string(out) != "left: 0\n" {
		t.Errorf("it says %q", out)
	}
}

func init() {
	helperPrograms["first-process"] = func([]string) {
		for range 5 {
			if err := netrunner.Command("true").Run(context.Background()); err != nil {
				panic(err)
			}
			netrunner.CloseIdle()
		}
		fmt.Printf("left: %d\n", len(proctest.Children(os.Getpid())))
	}
}
