package shepherd

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A command of the same user can take its shepherd's place and lie. That is no
// boundary (SECURITY.md). But no lie crashes or blocks the owner, makes it grow,
// or comes back as a figure that can't be.

// liar is a shepherd whose other end is the test's.
func liar(t *testing.T, fresh bool, says ...[]byte) *Shepherd {
	t.Helper()
	ours, theirs, err := newSocket()
	must(t, err)
	t.Cleanup(ours.close)
	for _, lie := range says {
		_, err := unix.Write(theirs, lie)
		must(t, err)
	}
	must(t, unix.Shutdown(theirs, unix.SHUT_WR)) // and then nothing more
	t.Cleanup(func() { _ = unix.Close(theirs) })
	return &Shepherd{sock: ours, watcher: &watcher{handle: &processHandle{}, sock: ours, writing: newTurn(), reading: newTurn()}, fresh: fresh}
}

func TestLiesAtTheStart(t *testing.T) {
	ready := eventOf(eventReady, readyEvent{Shepherd: 7})
	for _, test := range []struct {
		name  string
		fresh bool
		says  [][]byte
		want  outcome
	}{
		{"nothing, from a new one", true, nil, stillborn},
		{"nothing, from an old one", false, nil, lost},
		{"ready, and nothing more", true, [][]byte{ready}, lost},
		{"ready twice", true, [][]byte{ready, ready}, lost},
		{"a shepherd without pid", true, [][]byte{eventOf(eventReady, readyEvent{})}, lost},
		{"a shepherd with a pid that can't be", true, [][]byte{eventOf(eventReady, readyEvent{Shepherd: pidLimit})}, lost},
		{"a command of one that was never ready", true, [][]byte{eventOf(eventStarted, startedEvent{Command: 7})}, lost},
		{"ready, from an old one", false, [][]byte{ready}, lost},
		{"the end before the beginning", false, [][]byte{eventOf(eventEnded, endedEvent{})}, lost},
		{"an answer to nobody", false, [][]byte{eventOf(eventSettled, settledEvent{})}, lost},
		{"no frame", false, [][]byte{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, lost},
		{"half a frame", false, [][]byte{eventOf(eventStarted, startedEvent{Command: 7})[:9]}, lost},
		{"a command without pid", false, [][]byte{eventOf(eventStarted, startedEvent{})}, lost},
		{"a command with a pid that can't be", false, [][]byte{eventOf(eventStarted, startedEvent{Command: math.MaxUint32})}, lost},
		{"a step that does not exist", false, [][]byte{eventOf(eventFailed, failedEvent{Step: 99, Error: math.MaxUint32})}, failed},
		{"a refusal", false, [][]byte{eventOf(eventFailed, failedEvent{Step: uint32(StepExec), Error: 2, Reusable: 77})}, refused},
		{"a command", false, [][]byte{eventOf(eventStarted, startedEvent{Command: 7})}, runs},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := liar(t, test.fresh, test.says...)
			a := s.start(t.Context(), []byte("request"), nil)
			if a.outcome != test.want {
				t.Errorf("the outcome is %d, %v, want %d", a.outcome, a.err, test.want)
			}
			if a.err != nil && a.err.Error() == "" {
				t.Error("the error says nothing")
			}
		})
	}
}

func TestLiesAtTheEnd(t *testing.T) {
	most := endedEvent{
		UserTime: math.MaxUint64, SystemTime: math.MaxUint64, MaxRss: math.MaxUint64, MinorFaults: math.MaxUint64, MajorFaults: math.MaxUint64,
		VoluntarySwitches: math.MaxUint64, InvoluntarySwitches: math.MaxUint64,
		Status: math.MaxUint32, Killed: math.MaxUint32, Left: math.MaxUint32, LeftPids: [8]uint32{0, 1, math.MaxUint32, pidLimit, pidLimit - 1},
	}
	s := liar(t, false, eventOf(eventEnded, most))
	r := &Running{shepherd: s, pid: 7, pidfd: -1}
	ended, reusable, err := r.awaitEnd()
	if err != nil || reusable {
		t.Errorf("%v, %v", reusable, err)
	}
	u := ended.Usage
	for name, figure := range map[string]int64{
		"user time": int64(u.UserTime), "system time": int64(u.SystemTime), "memory": u.MaxRSS, "minor faults": u.MinorFaults, "major faults": u.MajorFaults,
		"voluntary switches": u.VoluntarySwitches, "involuntary switches": u.InvoluntarySwitches, "killed": int64(ended.Killed), "left": int64(ended.Left),
	} {
		if figure < math.MaxInt32 {
			t.Errorf("%s is %d", name, figure)
		}
	}
	if len(ended.LeftPIDs) != 2 || ended.LeftPIDs[0] != 1 || ended.LeftPIDs[1] != pidLimit-1 {
		t.Errorf("left are %v", ended.LeftPIDs)
	}

	if again := liar(t, false, eventOf(eventEnded, endedEvent{}), eventOf(eventStarted, startedEvent{Command: 7})); again != nil {
		r := &Running{shepherd: again, pid: 7, pidfd: -1}
		if _, _, err := r.awaitEnd(); err != nil || again.sock.clean() {
			t.Errorf("what follows the end is overlooked: %v", err)
		}
	}
	for _, lie := range [][]byte{nil, []byte("no frame at all"), eventOf(eventStarted, startedEvent{Command: 7})} {
		r := &Running{shepherd: liar(t, false, lie), pid: 7, pidfd: -1}
		if _, _, err := r.awaitEnd(); err == nil {
			t.Errorf("%q is taken for an end", lie)
		}
	}
}

// Whoever never hangs up and never speaks is waited for as long as the context lasts.
func TestSilence(t *testing.T) {
	ours, theirs, err := newSocket()
	must(t, err)
	defer ours.close()
	defer unix.Close(theirs) //nolint:errcheck // it is the test's
	failed := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { cancel(failed) })
	s := &Shepherd{sock: ours, watcher: &watcher{handle: &processHandle{}, sock: ours, writing: newTurn(), reading: newTurn()}}
	if a := s.start(ctx, []byte("request"), nil); a.outcome != givenUp || !errors.Is(a.err, failed) {
		t.Errorf("the outcome is %d, %v", a.outcome, a.err)
	}
	if _, err := ours.receive(); err == nil {
		t.Error("a socket that was given up still works")
	}
}
