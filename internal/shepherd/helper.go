package shepherd

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
)

// InstalledPath is where a package or an image puts the helper.
const InstalledPath = "/usr/libexec/netrunner/shepherd"

// HelperVariable names the environment variable that names the helper.
const HelperVariable = "NETRUNNER_HELPER"

// helperName is argv[0] of the watcher: room for the names that it gives itself.
const helperName = "netrunner: shepherd"

// Helper is the helper of this architecture, a static executable. It is empty
// where there is none.
func Helper() []byte { return helper }

// Sum is the SHA-256 of the helper, in hexadecimal.
var Sum = sync.OnceValue(func() string { return fmt.Sprintf("%x", sha256.Sum256(helper)) })

// HelperError says that no helper could be started, and what was tried.
type HelperError struct {
	Attempts []error // one a way, in the order in which they were tried
}

func (e *HelperError) Error() string {
	text := "no helper could be started"
	for _, attempt := range e.Attempts {
		text += "; " + attempt.Error()
	}
	return text
}

// Unwrap makes every attempt visible to errors.Is and errors.As.
func (e *HelperError) Unwrap() []error { return e.Attempts }

var (
	errNoHelper   = errors.New("there is no helper for this architecture")
	errPrivileged = errors.New("not looked at: this program has more privileges than whoever has set its environment")
)

// startHelper runs `exec` with a path of the helper, in one way after the other
// until it succeeds. The path names an open descriptor wherever there is a /proc,
// and is good until exec returns. `named` is what the program asked for; it and the
// environment's choice are the only way when they are set, since whoever names a
// helper has a reason not to run another.
func startHelper(named string, exec func(path string) error) (way string, err error) {
	trusted := !privileged()
	if named == "" && trusted {
		named = os.Getenv(HelperVariable)
	}
	if named != "" {
		if err := execFile(named, exec); err != nil {
			return "", &HelperError{[]error{fmt.Errorf("named file: %w", err)}}
		}
		return named, nil
	}
	if len(helper) == 0 {
		return "", &HelperError{[]error{errNoHelper}}
	}
	ways := []struct {
		name  string
		start func(func(string) error) (string, error)
	}{
		{"installed file", func(exec func(string) error) (string, error) { return InstalledPath, execFile(InstalledPath, exec) }},
		{"memory", execMemory},
		{"cache file", func(exec func(string) error) (string, error) {
			if !trusted {
				return "", errPrivileged
			}
			return execCached(exec)
		}},
	}
	failed := &HelperError{}
	for _, way := range ways {
		path, err := way.start(exec)
		if err == nil {
			return path, nil
		}
		failed.Attempts = append(failed.Attempts, fmt.Errorf("%s: %w", way.name, err))
	}
	return "", failed
}
