// Package testenv has what os/exec's tests want of internal/testenv.
package testenv

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/netrunner-go/netrunner/exec"
)

// NoSpecialBuildTypes stands for a build like any other.
const NoSpecialBuildTypes = 0

// MustHaveExec and the others are true wherever this runs.
func MustHaveExec(testing.TB) {}

func MustHaveGoBuild(testing.TB) {}

func MustHaveSymlink(testing.TB) {}

func MustInternalLink(testing.TB, int) {}

// SkipFlaky is for systems that this does not run on.
func SkipFlaky(t testing.TB, issue int) {
	t.Fatalf("issue %d is none of Linux", issue)
}

func Executable(t testing.TB) string {
	path, err := os.Executable()
	if err != nil {
		if t == nil {
			panic(err)
		}
		t.Fatal(err)
	}
	return path
}

func GOROOT(t testing.TB) string { return os.Getenv("GOROOT") }

func GoToolPath(t testing.TB) string { return GOROOT(t) + "/bin/go" }

func Command(t testing.TB, name string, arg ...string) *exec.Cmd {
	return exec.CommandContext(t.Context(), name, arg...)
}

func SyscallIsNotSupported(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EROFS) || errors.Is(err, errors.ErrUnsupported) ||
		runtime.GOOS != "linux"
}
