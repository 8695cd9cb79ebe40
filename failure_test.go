package netrunner_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
)

// What the helpers may not have any more: descriptors to receive a request with,
// memory for its strings. Every start works or says which step failed, nothing
// is left, and with the limit gone all is well again.
func TestAHelperRunsOut(t *testing.T) {
	long := make([]string, 200) // more than a shepherd has room for without asking the kernel
	for i := range long {
		long[i] = strings.Repeat("x", 1000)
	}
	for _, test := range []struct {
		name     string
		resource int
		from     uint64 // enough
		step     uint64
		args     []string
		errno    syscall.Errno
	}{
		{"descriptors", unix.RLIMIT_NOFILE, 16, 1, nil, syscall.EMFILE},
		{"memory", unix.RLIMIT_AS, 1 << 20, 32 << 10, long, syscall.ENOMEM},
	} {
		for _, who := range []string{"watcher", "shepherd"} {
			t.Run(test.name+" of the "+who, func(t *testing.T) {
				leaveNothing(t)
				failed := 0
				for limit := test.from; ; limit -= test.step {
					ctx := testContext(t)
					check(t, netrunner.Command("true").Run(ctx))
					helper := children(t, os.Getpid())[0]
					if who == "shepherd" {
						helper = children(t, helper)[0]
					}
					var before unix.Rlimit
					check(t, unix.Prlimit(helper, test.resource, nil, &before))
					check(t, unix.Prlimit(helper, test.resource, &unix.Rlimit{Cur: limit, Max: before.Max}, nil))
					var running []*netrunner.Process
					mark := marker()
					// The second needs a new shepherd, if the first one runs.
					for range 2 {
						p, err := netrunner.Command("sh", append([]string{"-c", "sleep $0 & wait", mark}, test.args...)...).Start(ctx)
						var refused *netrunner.StartError
						switch {
						case err == nil:
							running = append(running, p)
						case errors.As(err, &refused) && errors.Is(err, test.errno):
							failed++
						case errors.As(err, &refused):
							t.Logf("limit %d: %v", limit, err)
						default:
							t.Errorf("limit %d: %v, want a StartError", limit, err)
						}
					}
					for _, p := range running {
						_ = p.Kill()
						_, _ = p.Wait()
					}
					if left := marked(t, mark); len(left) > 0 {
						t.Errorf("limit %d: there are %q", limit, describe(left))
					}
					netrunner.CloseIdle() // and with it the helpers that have the limit
					if limit < test.step {
						break
					}
				}
				if failed == 0 {
					t.Errorf("no start has failed with %v", test.errno)
				}
				check(t, netrunner.Command("true").Run(testContext(t)))
			})
		}
	}
}
