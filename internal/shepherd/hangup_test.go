package shepherd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// The owner is gone, and so is all that it had started.

func TestHangUp(t *testing.T) {
	const obeys, ignores = "echo running; exec sleep $M", "trap '' TERM; echo running; sleep $M & while :; do wait; done"
	tests := []struct {
		name    string
		prepare func(*testing.T, *ward)
	}{
		{"before the first event", func(*testing.T, *ward) {}},
		{"idle", func(_ *testing.T, s *ward) { s.goesOn() }},
		{"after half a head", func(_ *testing.T, s *ward) { s.send([]byte{8, 0, 0}) }},
		{"after half a request", func(_ *testing.T, s *ward) { s.send(startRequest{}.append(nil)[:30]) }},
		{"after half the strings", func(t *testing.T, s *ward) {
			spec := s.spec("sleep", s.owner.marker)
			frame, err := appendStart(nil, spec)
			must(t, err)
			s.send(frame[:len(frame)-10], append(spec.Descriptors, spec.Directory)...)
			eventually(t, "a child that reads", func() (string, bool) { return "", len(proctest.Children(s.pid)) == 1 })
		}},
		{"after a whole request", func(_ *testing.T, s *ward) { s.request(s.spec("sleep", s.owner.marker)) }},
		{"running", func(_ *testing.T, s *ward) {
			s.start(s.shell(obeys))
			s.says("running")
		}},
		{"running what ignores it", func(_ *testing.T, s *ward) {
			spec := s.shell(ignores)
			spec.Grace = 50 * time.Millisecond
			s.start(spec)
			s.says("running")
		}},
		{"running, without grace", func(_ *testing.T, s *ward) {
			spec := s.shell(ignores)
			spec.Grace = 0
			s.start(spec)
			s.says("running")
		}},
		{"stopping", func(_ *testing.T, s *ward) {
			spec := s.shell("trap 'echo told' TERM; echo running; sleep $M & while :; do wait; done")
			spec.Grace = 100 * time.Millisecond
			s.start(spec)
			s.says("running")
			s.send(stopRequest{}.append(nil))
			s.says("told")
		}},
		{"clearing", func(_ *testing.T, s *ward) {
			s.start(s.shell(trees[len(trees)-1].script))
			s.says("running")
			s.send(killRequest{}.append(nil))
		}},
		{"ended, not yet read", func(t *testing.T, s *ward) {
			s.request(s.spec("true"))
			eventually(t, "both events", func() (string, bool) {
				raw, err := s.conn.SyscallConn()
				must(t, err)
				var n int
				must(t, raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }))
				must(t, err)
				return strconv.Itoa(n), n > 100
			})
		}},
	}
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				o.in(t)
				s := o.shepherd()
				test.prepare(t, s)
				s.close()
				s.exits()
				if left := o.sleepers(); len(left) != 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
		o.in(t)
	})
}

// However early the owner is gone: what runs is told to stop before it is killed.
func TestHangUpWhenItHasJustStarted(t *testing.T) {
	conform(t, func(_ *testing.T, o *owner) {
		for _, unawaited := range []bool{false, true} {
			s := o.shepherd()
			spec := s.shell("trap 'echo told; exit' TERM; echo running; while :; do sleep 0.01; done")
			spec.Unawaited = unawaited
			s.request(spec)
			s.says("running")
			s.close()
			s.says("told")
			s.exits()
		}
	})
}

// The owner's end of every socket has leaked into another process, here the
// test, so that its death hangs nothing up.
func TestOwnersDeathWithoutHangUp(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		needOrphans(t, b)
		if b.emulated && !pidfdUnderQemu(t, b) {
			t.Skip("this qemu-aarch64-static has no pidfd_open")
		}
		self, err := os.Executable()
		must(t, err)
		o := startOwner(t, b, &start{before: []string{self}, env: []string{programVariable + "=owner"}})
		for _, script := range []string{"", "echo running; exec sleep $M", "trap '' TERM; echo running; sleep $M & while :; do wait; done"} {
			s := o.shepherd()
			defer s.exits()
			if script != "" {
				spec := s.shell(script)
				spec.Grace = 10 * time.Millisecond
				s.start(spec)
				s.says("running")
			}
		}
		must(t, syscall.Kill(o.pid, syscall.SIGKILL))
		eventually(t, "nothing is left", func() (string, bool) {
			left := o.processes()
			return fmt.Sprint(left), len(left) == 0
		})
	})
}

// pidfdUnderQemu: whether a watcher has a pidfd of its owner.
func pidfdUnderQemu(t *testing.T, b build) bool {
	t.Helper()
	o := startOwner(t, b, nil)
	o.shepherd()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", o.pid))
	must(t, err)
	return slices.ContainsFunc(links, func(link string) bool {
		target, _ := os.Readlink(link)
		return strings.Contains(target, "pidfd")
	})
}
