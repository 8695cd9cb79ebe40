package shepherd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// build is one way to have the helper. All of them have to behave alike.
type build struct {
	name      string
	argv      []string // how it is started
	skip      string   // what this machine lacks for it
	product   bool     // its memory is that of the product
	sanitized bool     // it reports what AddressSanitizer and UBSan find
	emulated  bool     // another architecture's, under qemu's user mode
	noOrphans string   // why orphans don't become the shepherd's children
}

// namedHelper makes the tests run with one helper alone: coverage.sh has one
// that counts its lines.
const namedHelper = "NETRUNNER_TEST_HELPER"

var buildDirectory string

var builds = sync.OnceValue(func() []build {
	if path := os.Getenv(namedHelper); path != "" {
		return []build{{name: "named", argv: []string{path}}}
	}
	var err error
	if buildDirectory, err = os.MkdirTemp("", "netrunner-helpers-"); err != nil {
		panic(err)
	}
	// Some tests run the helper as another user.
	if err := os.Chmod(buildDirectory, 0o755); err != nil {
		panic(err)
	}
	return []build{embeddedBuild(), sanitizedBuild(), arm64Build()}
})

func removeBuilds() {
	if buildDirectory != "" {
		_ = os.RemoveAll(buildDirectory)
	}
}

func embeddedBuild() build {
	b := build{name: "embedded", product: true}
	if len(helper) == 0 {
		b.skip = "no helper is embedded for " + runtime.GOARCH
		return b
	}
	path := filepath.Join(buildDirectory, "shepherd-embedded")
	if err := Install(path); err != nil {
		b.skip = err.Error()
	}
	b.argv = []string{path}
	return b
}

var csources = []string{"main.c", "watcher.c", "shepherd.c", "command.c", "tree.c", "channel.c"}

func sanitizedBuild() build {
	b := build{name: "sanitized", sanitized: true}
	compiler := ""
	for _, name := range []string{"gcc", "clang"} {
		if path, err := exec.LookPath(name); err == nil {
			compiler = path
			break
		}
	}
	if compiler == "" {
		b.skip = "neither gcc nor clang is installed"
		return b
	}
	path := filepath.Join(buildDirectory, "shepherd-sanitized")
	args := []string{
		"-std=c99", "-D_GNU_SOURCE", "-g", "-O1", "-fno-omit-frame-pointer",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", path,
	}
	cc := exec.Command(compiler, append(args, csources...)...)
	cc.Dir = "csrc"
	if out, err := cc.CombinedOutput(); err != nil {
		// A compiler without the sanitizers' libraries lacks something; sources that do not compile are a fault.
		if !strings.Contains(string(out), "asan") && !strings.Contains(string(out), "ubsan") {
			panic(fmt.Sprintf("%s: %v\n%s", compiler, err, out))
		}
		b.skip = compiler + " has no libraries for -fsanitize=address,undefined"
	}
	b.argv = []string{path}
	return b
}

func arm64Build() build {
	b := build{name: "arm64", emulated: true}
	if runtime.GOARCH == "arm64" {
		b.skip = "the embedded helper is the one for arm64"
		return b
	}
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		b.skip = "qemu-aarch64-static is not installed (Debian's qemu-user-static)"
		return b
	}
	content, err := os.ReadFile("bin/shepherd-linux-arm64")
	if err != nil {
		panic(err)
	}
	path := filepath.Join(buildDirectory, "shepherd-arm64")
	b.argv = []string{qemu, path}
	write := func() {
		if err := os.WriteFile(path, content, 0o755); err != nil {
			panic(err)
		}
	}
	if write(); answers(b.argv) {
		return b
	}
	// The helper does nothing where it can't be a subreaper. So that the rest of
	// it can be tested, its copy asks for what every process is: dumpable.
	replace := func(from, to uint32) {
		content = bytes.ReplaceAll(content, binary.LittleEndian.AppendUint32(nil, from), binary.LittleEndian.AppendUint32(nil, to))
	}
	replace(0x52800480, 0x52800080) // mov w0, #PR_SET_CHILD_SUBREAPER to mov w0, #PR_SET_DUMPABLE
	b.noOrphans = "qemu-aarch64-static knows no PR_SET_CHILD_SUBREAPER, so that no orphan becomes the shepherd's child"
	if write(); !answers(b.argv) {
		b.skip = "the helper does not start under qemu-aarch64-static"
	}
	return b
}

// answers reports whether the watcher, so started, answers a request.
func answers(argv []string) bool {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer unix.Close(pair[0]) //nolint:errcheck // it is only read
	control := os.NewFile(uintptr(pair[1]), "control")
	cmd := exec.Command(argv[0], append(argv[1:], attached)...)
	cmd.ExtraFiles = []*os.File{control}
	if err := cmd.Start(); err != nil {
		return false
	}
	_ = control.Close()
	_, _ = unix.Write(pair[0], settleRequest{Shepherd: 1}.append(nil)) // it may have gone
	var first [largestEvent]byte
	n, _ := unix.Read(pair[0], first[:])
	_ = unix.Shutdown(pair[0], unix.SHUT_RDWR)
	_ = cmd.Wait()
	return n >= headSize && order.Uint32(first[4:]) == eventHello
}

// conform runs a test with every helper, each with a watcher of its own. The test
// speaks the protocol with a real helper and looks at what becomes of its
// processes from outside, in /proc. It ends with the owner's hang-up, after which
// nothing may be left: see owner.leaveNothing.
func conform(t *testing.T, test func(t *testing.T, o *owner)) {
	t.Helper()
	eachBuild(t, func(t *testing.T, b build) { test(t, startOwner(t, b, nil)) })
}

func eachBuild(t *testing.T, test func(t *testing.T, b build)) {
	t.Helper()
	for _, b := range builds() {
		t.Run(b.name, func(t *testing.T) {
			if b.skip != "" {
				t.Skip(b.skip)
			}
			test(t, b)
		})
	}
}
