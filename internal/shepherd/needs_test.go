package shepherd

import (
	"os"
	"os/exec"
	"testing"
)

// What tests need of the machine that not every machine has.

// stranger is a user without privileges who has no process on this machine.
const stranger = 61_184

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("this test runs the helper as another user, and is not run by root")
	}
}

func needProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// needOrphans skips a test of what becomes of orphans.
func needOrphans(t *testing.T, b build) {
	t.Helper()
	if b.noOrphans != "" {
		t.Skip(b.noOrphans)
	}
}

// buildDirectoryFor is a directory that other users may enter.
func buildDirectoryFor(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "netrunner-test-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}
