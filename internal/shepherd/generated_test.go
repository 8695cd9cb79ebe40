package shepherd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func sameFile(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.ReadFile(got)
	must(t, err)
	b, err := os.ReadFile(want)
	must(t, err)
	if !bytes.Equal(a, b) {
		t.Errorf("%s is not what is made from its source: run go generate ./internal/shepherd", want)
	}
}

// Both sides and the document speak of one protocol: that of protocol.txt.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	dir := t.TempDir()
	const doc = "../../docs/protocol.md"
	content, err := os.ReadFile(doc)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "protocol.md"), content, 0o600))
	cmd := exec.Command("go", "run", "./genprotocol", "-table", "protocol.txt",
		"-go", filepath.Join(dir, "frames_gen.go"), "-c", filepath.Join(dir, "frames.h"), "-doc", filepath.Join(dir, "protocol.md"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sameFile(t, filepath.Join(dir, "frames_gen.go"), "frames_gen.go")
	sameFile(t, filepath.Join(dir, "frames.h"), "csrc/frames.h")
	sameFile(t, filepath.Join(dir, "protocol.md"), doc)
}

// The binaries that are embedded are what the source beside them makes.
func TestBinariesAreCurrent(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skipf("build.sh builds on amd64, and this is %s", runtime.GOARCH)
	}
	for _, pinned := range []struct{ name, pkg, version string }{
		{"gcc", "gcc-12", "12.2.0-14"},
		{"musl-gcc", "musl-tools", "1.2.3-1"},
		{"ld", "binutils", "2.40-2"},
		{"aarch64-linux-gnu-gcc", "gcc-12-aarch64-linux-gnu", "12.2.0-14"},
	} {
		if _, err := exec.LookPath(pinned.name); err != nil {
			t.Skipf("%s is not installed", pinned.name)
		}
		out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", pinned.pkg).Output()
		if err != nil {
			t.Skipf("this is no Debian with %s: %v", pinned.pkg, err)
		}
		if !strings.HasPrefix(string(out), pinned.version) {
			t.Skipf("the binaries are built with %s %s, and here is %s", pinned.pkg, pinned.version, out)
		}
	}
	if testing.Short() {
		t.Skip("it takes some seconds, and -short says that there are none")
	}
	dir := t.TempDir()
	if out, err := exec.Command("sh", "build.sh", dir).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "Failed to fetch") || strings.Contains(string(out), "Unable to locate package") {
			t.Skipf("Debian's packages can't be fetched here: %s", out)
		}
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"shepherd-linux-amd64", "shepherd-linux-arm64"} {
		sameFile(t, filepath.Join(dir, name), filepath.Join("bin", name))
	}
}
