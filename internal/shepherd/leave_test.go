package shepherd

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// What is told to stay is left.

func TestLeave(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		// One of its children is dead and not reaped when it exits: that one is not left.
		// (A shell reaps when it likes, Perl when it is told to.)
		r, w, err := os.Pipe()
		must(t, err)
		spec := s.shell("setsid sleep $M & sleep $M & " +
			`exec perl -e '$| = 1; my $child = fork || exit; print "$child\n"; <STDIN>; exec "true"'`)
		spec.Descriptors[0] = int(r.Fd())
		spec.Leave = true
		s.start(spec)
		must(t, r.Close())
		line, err := s.out.ReadString('\n')
		must(t, err)
		dead, err := strconv.Atoi(strings.TrimSpace(line))
		must(t, err)
		awaitState(t, dead, 'Z')
		o.awaitSleepers(2)
		must(t, w.Close())
		ended := s.endsWith("0")
		if ended.Left != 2 || ended.Killed != 0 || ended.Reusable != 0 {
			t.Errorf("%+v", ended)
		}
		s.hangsUp()
		sleepers := o.awaitSleepers(2)
		for _, pid := range sleepers {
			if !slices.Contains(ended.LeftPids[:2], uint32(pid)) {
				t.Errorf("process %d is left, and is not in %v", pid, ended.LeftPids)
			}
			if parent := proctest.Look(t, pid).Parent; parent != s.pid {
				t.Errorf("the parent of what is left is %d, not the shepherd", parent)
			}
		}
		if name := proctest.Look(t, s.pid).Name; name != "netrunner: left" {
			t.Errorf("its parent calls itself %q", name)
		}
		// The watcher goes, since nothing has to be guarded; what is left stays.
		o.control.close()
		o.watcherExits()
		if left := o.sleepers(); len(left) != 2 {
			t.Errorf("of 2 that are left on purpose there are %v", left)
		}
		for _, pid := range sleepers {
			must(t, syscall.Kill(pid, syscall.SIGKILL))
		}
		s.exits()
	})
}

func TestLeaveWhenNothingIsLeft(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		// The command's child is dead and has not been waited for: it is not left.
		r, w, err := os.Pipe()
		must(t, err)
		spec := s.shell("true & exec cat <&3")
		spec.Descriptors = append(spec.Descriptors, int(r.Fd()))
		spec.Leave = true
		pid := s.start(spec)
		must(t, r.Close())
		eventually(t, "a dead child", func() (string, bool) {
			children := proctest.Children(pid)
			return fmt.Sprint(children), len(children) == 1 && children[0].State == 'Z'
		})
		must(t, w.Close())
		if ended := s.endsWith("0"); ended.Left != 0 || ended.Reusable != 1 {
			t.Errorf("%+v", ended)
		}
		s.goesOn()
	})
}

// What is told to stay is not told so when it is stopped.
func TestStopLeavesNothing(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		spec := s.shell("setsid sleep $M & echo running; exec sleep $M")
		spec.Leave = true
		s.start(spec)
		s.says("running")
		o.awaitSleepers(2)
		s.send(stopRequest{}.append(nil))
		if ended := s.endsWith("SIGTERM"); ended.Left != 0 {
			t.Errorf("%+v", ended)
		}
	})
}
