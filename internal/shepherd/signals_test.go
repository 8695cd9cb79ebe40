package shepherd

import (
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// Signals, stop and kill: who gets them, and in which order.

func TestSignalsReachTheGroup(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		pid := s.start(s.shell("sleep $M & setsid sleep $M & echo running; wait"))
		s.says("running")
		var inGroup, outside int
		for _, sleeper := range o.awaitSleepers(2) {
			if proctest.Look(t, sleeper).Group == pid {
				inGroup = sleeper
			} else {
				outside = sleeper
			}
		}
		s.send(signalRequest{Signal: uint32(syscall.SIGSTOP)}.append(nil))
		awaitState(t, pid, 'T')
		awaitState(t, inGroup, 'T')
		if state := proctest.Look(t, outside).State; state != 'S' {
			t.Errorf("a process outside the group is in state %c", state)
		}
		s.send(signalRequest{Signal: uint32(syscall.SIGCONT)}.append(nil))
		awaitState(t, pid, 'S')
		awaitState(t, inGroup, 'S')
		s.send(signalRequest{Signal: uint32(syscall.SIGHUP)}.append(nil))
		if ended := s.endsWith("SIGHUP"); ended.Killed != 1 {
			t.Errorf("%d were killed; only the one outside the group was left", ended.Killed)
		}
	})
}

func TestRequestsOneAfterTheOther(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		// All in one message: none is lost, and none overtakes another.
		pid := s.start(s.spec("sleep", o.marker))
		var frames []byte
		frames = signalRequest{Signal: uint32(syscall.SIGSTOP)}.append(frames)
		frames = signalRequest{Signal: uint32(syscall.SIGWINCH)}.append(frames)
		frames = stopRequest{}.append(frames)
		frames = stopRequest{}.append(frames)
		awaitGone := watchExit(t, pid)
		s.send(frames)
		s.endsWith("SIGTERM")
		awaitGone()
		// What comes when nothing runs any more is not for the next command.
		s.send(killRequest{}.append(stopRequest{}.append(signalRequest{Signal: 9}.append(nil))))
		s.goesOn()
	})
}

// A command in its owner's group: the signals are for it alone.
func TestCommandInAGroupOfOthers(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		leader := exec.Command("sleep", o.marker)
		leader.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		must(t, leader.Start())
		s := o.shepherd()
		spec := s.shell("sleep $M & echo running; exec sleep $M")
		spec.Attributes.Group = leader.Process.Pid
		pid := s.start(spec)
		s.says("running")
		if group := proctest.Look(t, pid).Group; group != leader.Process.Pid {
			t.Errorf("its group is %d, not %d", group, leader.Process.Pid)
		}
		o.awaitSleepers(3)
		s.send(signalRequest{Signal: uint32(syscall.SIGSTOP)}.append(nil))
		awaitState(t, pid, 'T')
		if state := proctest.Look(t, leader.Process.Pid).State; state != 'S' {
			t.Errorf("the group's leader, which is not ours, is in state %c", state)
		}
		s.send(stopRequest{}.append(nil))
		s.endsWith("SIGTERM")
		if left := o.sleepers(); !slices.Equal(left, []int{leader.Process.Pid}) {
			t.Errorf("there are %v, of which %d is not ours", left, leader.Process.Pid)
		}
		must(t, leader.Process.Kill())
		_ = leader.Wait()
	})
}

func TestStop(t *testing.T) {
	const short = 100 * time.Millisecond
	tests := []struct {
		name, script string
		change       func(*Spec)
		status       string
		killed       uint32
		atLeast      time.Duration
	}{
		{"obeyed", "echo running; exec sleep $M", nil, "SIGTERM", 0, 0},
		{"obeyed in its own way", "sleep $M & trap 'exit 7' TERM; echo running; wait", nil, "7", 0, 0},
		{"another signal", "echo running; exec sleep $M", func(s *Spec) { s.StopSignal = syscall.SIGUSR1 }, "SIGUSR1", 0, 0},
		{"by SIGKILL", "trap '' TERM; sleep $M & echo running; wait", func(s *Spec) { s.StopSignal = syscall.SIGKILL }, "SIGKILL", 1, 0},
		{"ignored", "trap '' TERM; sleep $M & echo running; wait", func(s *Spec) { s.Grace = short }, "SIGKILL", 1, short},
		{"without grace", "trap '' TERM; sleep $M & echo running; wait", func(s *Spec) { s.Grace = 0 }, "SIGKILL", 1, 0},
		{"of what is stopped", "sleep $M & echo running; kill -STOP $$; exit 8", nil, "SIGTERM", 0, 0},
		{"obeyed, with a descendant elsewhere that obeys", "setsid sleep $M & echo running; wait", nil, "SIGTERM", 0, 0},
		{
			"obeyed, with a descendant elsewhere that ignores it", "setsid sh -c \"trap '' TERM; exec sleep $M\" & echo running; wait",
			func(s *Spec) { s.Grace = short }, "SIGTERM", 1, short,
		},
	}
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				s.in(t)
				spec := s.shell(test.script)
				if test.change != nil {
					test.change(spec)
				}
				pid := s.start(spec)
				s.says("running")
				if strings.Contains(test.script, "kill -STOP") {
					awaitState(t, pid, 'T')
				}
				o.awaitSleepers(1)
				begin := time.Now()
				s.send(stopRequest{}.append(nil))
				ended := s.endsWith(test.status)
				if took := time.Since(begin); took < test.atLeast {
					t.Errorf("it took %v, less than the grace", took)
				}
				if ended.Killed != test.killed || ended.Left != 0 || ended.Reusable != 1 {
					t.Errorf("%+v", ended)
				}
				if left := o.sleepers(); len(left) != 0 {
					t.Errorf("%v are left", left)
				}
			})
		}
		s.in(t)
		s.goesOn()
	})
}

func TestKillWhileStopping(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		s := o.shepherd()
		s.start(s.shell("trap 'echo told' TERM; echo running; sleep $M & while :; do wait; done"))
		s.says("running")
		s.send(stopRequest{}.append(nil))
		s.says("told")
		s.send(signalRequest{Signal: uint32(syscall.SIGTERM)}.append(nil)) // it is still relayed
		s.says("told")
		s.send(killRequest{}.append(nil))
		s.endsWith("SIGKILL")
		s.goesOn()
	})
}
