package shepherd

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// The watchdogs themselves die, or are told of a death that is none.

func TestShepherdKilled(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		for _, tree := range trees {
			t.Run(tree.name, func(t *testing.T) {
				o.in(t)
				s := o.shepherd()
				s.start(s.shell(tree.script))
				s.says("running")
				o.awaitSleepers(tree.sleepers)
				must(t, syscall.Kill(s.pid, syscall.SIGKILL))
				s.hangsUp()
				// The answer is the watcher's word that nothing is left.
				o.control.send(settleRequest{Shepherd: uint32(s.pid)}.append(nil))
				if settled := expect[settledEvent](o.control, eventSettled); settled.Left != 0 {
					t.Errorf("%+v", settled)
				}
				if left := o.sleepers(); len(left) != 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
		o.in(t)
		o.shepherd().goesOn()
	})
}

// While the child still reads its strings, its shepherd is killed, and the
// watcher happens not to get to it: the program does not run.
func TestShepherdKilledBeforeExec(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.shell("echo running; exec sleep $M")
		frame, err := appendStart(nil, spec)
		must(t, err)
		s.send(frame[:len(frame)-10], append(spec.Descriptors, spec.Directory)...)
		var child int
		eventually(t, "a child that reads", func() (string, bool) {
			children := proctest.Children(s.pid)
			if len(children) == 1 {
				child = children[0].PID
			}
			return fmt.Sprint(children), len(children) == 1
		})
		childExits := watchExit(t, child)
		must(t, syscall.Kill(o.pid, syscall.SIGSTOP))
		awaitState(t, o.pid, 'T')
		must(t, syscall.Kill(s.pid, syscall.SIGKILL))
		s.exits()
		s.send(frame[len(frame)-10:])
		childExits()
		if sleepers := o.sleepers(); len(sleepers) != 0 {
			t.Errorf("%v run", sleepers)
		}
		must(t, syscall.Kill(o.pid, syscall.SIGCONT))
	})
}

// The owner asks, and is gone before it is told.
func TestSettleForNobody(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		must(t, syscall.Kill(o.pid, syscall.SIGSTOP))
		awaitState(t, o.pid, 'T')
		o.control.send(settleRequest{Shepherd: 1}.append(nil))
		o.control.close()
		must(t, syscall.Kill(o.pid, syscall.SIGCONT))
		o.watcherExits()
	})
}

func TestSettleOfAnotherIsAnsweredAtOnce(t *testing.T) {
	conform(t, func(_ *testing.T, o *owner) {
		s := o.shepherd()
		s.start(s.shell("echo running; exec sleep $M"))
		s.says("running")
		o.control.send(settleRequest{Shepherd: uint32(os.Getpid())}.append(nil))
		expect[settledEvent](o.control, eventSettled)
	})
}

// Not every SIGCHLD is for a child that has died.
func TestSIGCHLDForNoDeath(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		for _, unawaited := range []bool{false, true} {
			s := o.shepherd()
			must(t, syscall.Kill(s.pid, syscall.SIGCHLD))
			must(t, syscall.Kill(o.pid, syscall.SIGCHLD))
			spec := s.shell("echo running; exec sleep $M")
			spec.Unawaited = unawaited
			frame, err := appendStart(nil, spec)
			must(t, err)
			s.send(frame[:len(frame)-10], append(spec.Descriptors, spec.Directory)...)
			eventually(t, "a child that reads", func() (string, bool) { return "", len(proctest.Children(s.pid)) == 1 })
			for range 10 {
				must(t, syscall.Kill(s.pid, syscall.SIGCHLD))
			}
			s.send(frame[len(frame)-10:])
			expect[startedEvent](s.peer, eventStarted)
			s.says("running")
			must(t, syscall.Kill(s.pid, syscall.SIGCHLD))
			s.send(stopRequest{}.append(nil))
			s.endsWith("SIGTERM")
		}
	})
}

func TestWatcherKilled(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		s.start(s.shell("setsid sleep $M & echo running; exec sleep $M"))
		s.says("running")
		o.awaitSleepers(2)
		must(t, syscall.Kill(o.pid, syscall.SIGKILL))
		o.control.hangsUp()
		// The shepherd and its command go on, and so does what they promise.
		s.send(stopRequest{}.append(nil))
		if ended := s.endsWith("SIGTERM"); ended.Left != 0 || ended.Reusable != 1 {
			t.Errorf("%+v", ended)
		}
		s.start(s.shell("echo running; exec sleep $M"))
		s.says("running")
		s.close()
		s.exits()
	})
}

func TestWatcherStaysWhileItGuards(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		s.start(s.shell("setsid sleep $M & echo running; exec sleep $M"))
		s.says("running")
		o.awaitSleepers(2)
		o.control.close()
		// The owner has hung up on the watcher alone. The shepherd is still guarded.
		must(t, syscall.Kill(s.pid, syscall.SIGKILL))
		o.watcherExits()
		if left := o.sleepers(); len(left) != 0 {
			t.Errorf("%v are left", left)
		}
	})
}
