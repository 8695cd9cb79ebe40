package exec_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/netrunner-go/netrunner/exec"
)

// cannotPass are the standard library's tests that this package does not pass, and why.
var cannotPass = map[string]string{
	"TestWaitInterrupt/Exit-hang": "it wants the grandchild of a command that has exited to live, and Wait to give up after WaitDelay; here the grandchild is killed, and Wait has nothing to give up",
	"TestPrefixSuffixSaver":       "it is about an unexported type, which this package does not have",
	"TestDedupEnv":                "it is about an unexported function, for which this package calls os/exec",
}

// internalTests are the files of those about what is not exported.
var internalTests = map[string]string{"internal_test.go": "TestPrefixSuffixSaver", "env_test.go": "TestDedupEnv"}

// TestStandardLibrary runs os/exec's own tests against this package: those of this
// machine's GOROOT, with the imports changed, in a module of their own.
func TestStandardLibrary(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs another test binary, which -short does not want")
	}
	source := filepath.Join(goroot(t), "src", "os", "exec")
	dir := t.TempDir()
	writeStandardModule(t, dir)
	written := writeStandardTests(t, source, filepath.Join(dir, "exec"))
	for test := range cannotPass {
		if name, _, _ := strings.Cut(test, "/"); !written[name] {
			t.Errorf("there is no %s any more", name)
		}
	}

	args := []string{"test", "-json", "-count=1", "-skip=^TestWaitInterrupt$/^Exit-hang$"}
	if raceDetector {
		args = append(args, "-race")
	}
	// By this package, since it inherits no descriptor that somebody has left open, which a test would mind.
	cmd := exec.CommandContext(t.Context(), filepath.Join(goroot(t), "bin", "go"), append(args, "./exec")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOROOT="+goroot(t), "GODEBUG=", "GORACE=")
	if !raceDetector {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	}
	output, runErr := cmd.Output()
	results, log := readResults(t, output)
	passed := 0
	for name, result := range results {
		switch result {
		case "pass":
			passed++
		case "fail":
			t.Errorf("%s fails:\n%s", name, log[name])
		default:
			t.Errorf("%s is skipped:\n%s", name, log[name])
		}
	}
	if exit, ok := errors.AsType[*exec.ExitError](runErr); ok {
		t.Errorf("go test: %v\n%s%s", exit, exit.Stderr, log[""])
	} else if runErr != nil {
		t.Fatal(runErr)
	}
	for test := range written {
		if cannotPass[test] == "" && results[test] == "" {
			t.Errorf("%s was not run", test)
		}
	}
	t.Logf("%d tests and subtests of %s pass", passed, runtime.Version())
	if passed < 60 {
		t.Errorf("these can't be all")
	}
}

func goroot(t *testing.T) string {
	t.Helper()
	out, err := osexec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// writeStandardModule makes a module of the shims, which uses this one.
func writeStandardModule(t *testing.T, dir string) {
	t.Helper()
	root, err := filepath.Abs("..")
	check(t, err)
	// With this module's own requirements, so that nothing has to be looked up.
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	check(t, err)
	text := strings.Replace(string(mod), "module github.com/netrunner-go/netrunner", "module standard", 1) +
		"\nrequire github.com/netrunner-go/netrunner v0.0.0\nreplace github.com/netrunner-go/netrunner => " + root + "\n"
	check(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o600))
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o600))
	check(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "shims"))))
}

var (
	testFunction  = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	otherSystems  = regexp.MustCompile(`(?m)^//go:build (windows|plan9|!unix.*)$`)
	insidePackage = regexp.MustCompile(`(?m)^package exec$`)
	importRewrite = strings.NewReplacer(
		`"os/exec"`, `"github.com/netrunner-go/netrunner/exec"`,
		`"os/exec/internal/fdtest"`, `"standard/fdtest"`,
		`"internal/testenv"`, `"standard/testenv"`,
		`"internal/poll"`, `"standard/poll"`,
		`"internal/syscall/unix"`, `"standard/unix"`,
	)
)

// writeStandardTests copies the tests with other imports, and returns their names,
// also of those that it leaves out.
func writeStandardTests(t *testing.T, from, to string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(from, "*_test.go"))
	check(t, err)
	check(t, os.Mkdir(to, 0o700))
	written := map[string]bool{}
	for _, file := range append(files, filepath.Join(from, "read3.go")) {
		text, err := os.ReadFile(file)
		check(t, err)
		name := filepath.Base(file)
		if strings.HasSuffix(name, "_windows_test.go") || otherSystems.Match(text) {
			continue
		}
		for _, match := range testFunction.FindAllSubmatch(text, -1) {
			if string(match[1]) != "TestMain" {
				written[string(match[1])] = true
			}
		}
		if internalTests[name] != "" {
			continue
		}
		// Those in package exec itself find its exported names all the same.
		text = insidePackage.ReplaceAll(text, []byte("package exec\n\nimport . \"os/exec\""))
		check(t, os.WriteFile(filepath.Join(to, name), []byte(importRewrite.Replace(string(text))), 0o600))
	}
	return written
}

// readResults returns the result of each test, and what it has printed; under no name, what no test has.
func readResults(t *testing.T, output []byte) (results, log map[string]string) {
	t.Helper()
	results, log = map[string]string{}, map[string]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var event struct{ Action, Test, Output string }
		err := decoder.Decode(&event)
		if err == io.EOF {
			return results, log
		}
		check(t, err)
		switch event.Action {
		case "pass", "fail", "skip":
			if event.Test != "" {
				results[event.Test] = event.Action
			}
		case "output", "build-output":
			log[event.Test] += event.Output
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
