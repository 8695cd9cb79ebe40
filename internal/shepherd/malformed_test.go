package shepherd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Frames that nobody of ours sends: malformed, at the wrong time, in pieces, or with more than they need.

func frameOf(kind uint32, fields ...uint32) []byte {
	b := headOnly(uint32(headSize+4*len(fields)), kind)
	for _, field := range fields {
		b = binary.NativeEndian.AppendUint32(b, field)
	}
	return b
}

func TestMalformedFramesToAShepherd(t *testing.T) {
	valid := startRequest{StopSignal: 15, Descriptors: 4, Arguments: 1, Environment: 0, Setup: 24, Strings: 10}
	changed := func(change func(*startRequest)) []byte {
		r := valid
		change(&r)
		return append(append(r.append(nil), make([]byte, r.Setup&0xff)...), "/bin/true\x00"...)
	}
	tests := []struct {
		name        string
		frame       []byte
		descriptors int
	}{
		{"length of zero", headOnly(0, requestStop), 0},
		{"length below the head's", headOnly(7, requestStop), 0},
		{"length beyond the frame's", headOnly(9, requestStop), 0},
		{"largest length", append(headOnly(0xffffffff, requestSignal), make([]byte, 8)...), 0},
		{"kind zero", headOnly(8, 0), 0},
		{"kind that does not exist", headOnly(8, 99), 0},
		{"largest kind", headOnly(8, 0xffffffff), 0},
		{"no frame at all", []byte("GET / HTTP/1.1\r\n\r\n"), 0},
		{"signal 0", frameOf(requestSignal, 0, 0), 0},
		{"signal 65", frameOf(requestSignal, 65, 0), 0},
		{"largest signal", frameOf(requestSignal, 0xffffffff, 0), 0},
		{"signal without its fields", headOnly(8, requestSignal), 0},
		{"stop with a descriptor", stopRequest{}.append(nil), 1},
		{"a watcher's request: spawn", spawnRequest{}.append(nil), 1},
		{"a watcher's request: settle", settleRequest{Shepherd: 5}.append(nil), 0},
		{"a watcher's request: nudge", nudgeRequest{Shepherd: 5, Signal: 9}.append(nil), 0},
		{"start without descriptors", changed(func(*startRequest) {}), 0},
		{"start with one too few", changed(func(*startRequest) {}), 3},
		{"start with one too many", changed(func(*startRequest) {}), 5},
		{"start without 0, 1, 2 and a directory", changed(func(r *startRequest) { r.Descriptors = 3 }), 3},
		{"start with more than a message can carry", changed(func(r *startRequest) { r.Descriptors = 1 << 31 }), 4},
		{"start with stop signal 0", changed(func(r *startRequest) { r.StopSignal = 0 }), 4},
		{"start with stop signal 65", changed(func(r *startRequest) { r.StopSignal = 65 }), 4},
		{"start with more arguments than bytes", changed(func(r *startRequest) { r.Arguments = 0xffffffff }), 4},
		{"start with more environment than bytes", changed(func(r *startRequest) { r.Environment = 0xffffffff }), 4},
		{"start with counts that overflow together", changed(func(r *startRequest) { r.Arguments, r.Environment = 1<<31, 1<<31 }), 4},
		{"start with one string too many", changed(func(r *startRequest) { r.Arguments = 10 }), 4},
		{"start without setup", changed(func(r *startRequest) { r.Setup = 0 }), 4},
		{"start with half a setup", changed(func(r *startRequest) { r.Setup = 16 }), 4},
		{"start with a setup of an odd size", changed(func(r *startRequest) { r.Setup = 28 }), 4},
		{"start with a call too many", changed(func(r *startRequest) { r.Calls, r.Setup = 2, 24+2*32-8 }), 4},
		{"start with more calls than bytes", changed(func(r *startRequest) { r.Calls = 0xffffffff }), 4},
		{"start with sizes that overflow together", changed(func(r *startRequest) { r.Setup, r.Strings = 1<<31, 1<<31 }), 4},
		{"start without strings", append(startRequest{StopSignal: 15, Descriptors: 4, Setup: 24}.append(nil), make([]byte, 24)...), 4},
		{"start of a wrong length", append(headOnly(68, requestStart), changed(func(*startRequest) {})[headSize:]...), 4},
	}
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		null := int(openFile(t, os.DevNull).Fd())
		for _, running := range []bool{false, true} {
			for _, test := range tests {
				t.Run(fmt.Sprintf("%s, running %t", test.name, running), func(t *testing.T) {
					o.in(t)
					s := o.shepherd()
					if running {
						s.start(s.shell("trap '' TERM; setsid sleep $M & echo running; exec sleep $M"))
						s.says("running")
						o.awaitSleepers(2)
					}
					s.send(test.frame, slices.Repeat([]int{null}, test.descriptors)...)
					s.hangsUp()
					s.exits()
					if left := o.sleepers(); len(left) != 0 {
						t.Errorf("%v are left", left)
					}
				})
			}
		}
		o.in(t)
		o.shepherd().goesOn()
	})
}

func TestMalformedFramesToAWatcher(t *testing.T) {
	tests := []struct {
		name        string
		frame       []byte
		descriptors int
	}{
		{"kind zero", headOnly(8, 0), 0},
		{"kind that does not exist", headOnly(8, 99), 0},
		{"length beyond the frame's", headOnly(16, requestSpawn), 1},
		{"spawn without a socket", spawnRequest{}.append(nil), 0},
		{"spawn with two", spawnRequest{}.append(nil), 2},
		{"settle of nothing", settleRequest{}.append(nil), 0},
		{"settle of no pid", settleRequest{Shepherd: 0xffffffff}.append(nil), 0},
		{"settle with a descriptor", settleRequest{Shepherd: 1}.append(nil), 1},
		{"nudge of nothing", nudgeRequest{Signal: 18}.append(nil), 0},
		{"nudge of no pid", nudgeRequest{Shepherd: 1 << 22, Signal: 18}.append(nil), 0},
		{"nudge with a descriptor", nudgeRequest{Shepherd: 1, Signal: 18}.append(nil), 1},
		{"a shepherd's request: stop", stopRequest{}.append(nil), 0},
		{"a shepherd's request: kill", killRequest{}.append(nil), 0},
		{"a shepherd's request: signal", signalRequest{Signal: 15}.append(nil), 0},
		{"a shepherd's request: start", startRequest{StopSignal: 15, Descriptors: 4, Strings: 1}.append(nil), 4},
	}
	eachBuild(t, func(t *testing.T, b build) {
		null := int(openFile(t, os.DevNull).Fd())
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				o := startOwner(t, b, nil)
				s := o.shepherd()
				s.start(s.shell("echo running; exec sleep $M"))
				s.says("running")
				o.control.send(test.frame, slices.Repeat([]int{null}, test.descriptors)...)
				o.control.hangsUp()
				// Its shepherds go on, and it stays for them.
				s.send(stopRequest{}.append(nil))
				s.endsWith("SIGTERM")
				s.close()
				o.watcherExits()
			})
		}
	})
}

func TestStartWhileRunning(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		needOrphans(t, o.build)
		for _, script := range []string{
			"trap '' TERM; setsid sleep $M & echo running; exec sleep $M",
			"trap 'echo told' TERM; sleep $M & sleep $M & echo running; while :; do wait; done", // and is being stopped
		} {
			s := o.shepherd()
			s.start(s.shell(script))
			s.says("running")
			o.awaitSleepers(2)
			if strings.Contains(script, "told") {
				s.send(stopRequest{}.append(nil))
				s.says("told")
			}
			spec := s.spec("true")
			frame, err := appendStart(nil, spec)
			must(t, err)
			if err := s.trySend(frame, append(spec.Descriptors, spec.Directory)...); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Fatal(err)
			}
			s.hangsUp()
			s.exits()
			if left := o.sleepers(); len(left) != 0 {
				t.Errorf("%v are left", left)
			}
		}
	})
}

// A descriptor among the strings is not the command's. They are not read beyond it.
func TestDescriptorAmongTheStrings(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.spec("true", "one", "two", "three")
		frame, err := appendStart(nil, spec)
		must(t, err)
		s.send(frame[:len(frame)-20], append(spec.Descriptors, spec.Directory)...)
		s.send(frame[len(frame)-20:len(frame)-10], spec.Directory)
		failed := expect[failedEvent](s.peer, eventFailed)
		if Step(failed.Step) != StepStrings || syscall.Errno(failed.Error) != syscall.ECONNRESET || failed.Reusable != 0 {
			t.Errorf("%v: %v, reusable %d", Step(failed.Step), syscall.Errno(failed.Error), failed.Reusable)
		}
		s.hangsUp()
		s.exits()
	})
}

// An owner's socket may add other things to what comes, such as credentials.
func TestOtherControlMessages(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		p, theirs := newPeer(t)
		must(t, unix.SetsockoptInt(int(theirs.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
		o.control.send(spawnRequest{}.append(nil), int(theirs.Fd()))
		must(t, theirs.Close())
		expect[readyEvent](p, eventReady)
		s := &ward{peer: p, owner: o}
		s.goesOn()
	})
}

// More descriptors than one message can carry come in two.
func TestMoreDescriptorsThanFit(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		before := descriptorsOf(t, s.pid)
		null := slices.Repeat([]int{int(openFile(t, os.DevNull).Fd())}, MaxDescriptors+1)
		frame := append(startRequest{StopSignal: 15, Descriptors: 300, Arguments: 1, Setup: 8, Strings: 10}.append(nil), make([]byte, 8)...)
		s.send(frame[:headSize], null...)
		s.send(frame[headSize:40], null...)
		eventually(t, "the shepherd has taken what fits, and closed the rest", func() (string, bool) {
			now := descriptorsOf(t, s.pid)
			return strconv.Itoa(now), now == before+len(null)
		})
		s.send(frame[40:])
		s.hangsUp()
		s.exits()
	})
}

// However small the pieces are in which it comes.
func TestRequestInPieces(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		spec := s.shell("echo running; exec sleep $M")
		frame, err := appendStart(nil, spec)
		must(t, err)
		descriptors := append(spec.Descriptors, spec.Directory)
		for i := range frame {
			if i < len(descriptors) {
				s.send(frame[i:i+1], descriptors[i])
			} else {
				s.send(frame[i : i+1])
			}
		}
		expect[startedEvent](s.peer, eventStarted)
		s.says("running")
		for _, b := range (stopRequest{}).append(nil) {
			s.send([]byte{b})
		}
		s.endsWith("SIGTERM")
		s.goesOn()
	})
}

func TestWatchersRequestInPieces(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		o.shepherd().close()
		eventually(t, "only the watcher is there", func() (string, bool) {
			left := o.processes()
			return fmt.Sprint(left), len(left) == 1
		})
		before := descriptorsOf(t, o.pid)
		p, theirs := newPeer(t)
		frame := spawnRequest{}.append(nil)
		o.control.send(frame[:3], int(theirs.Fd()))
		must(t, theirs.Close())
		eventually(t, "the watcher has taken them", func() (string, bool) {
			now := descriptorsOf(t, o.pid)
			return strconv.Itoa(now), now == before+1
		})
		o.control.send(frame[3:])
		expect[readyEvent](p, eventReady)
	})
}

// A socket that is no owner's: a shepherd is forked, can't speak, and goes.
func TestSpawnForADeadSocket(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		null := openFile(t, os.DevNull)
		o.control.send(spawnRequest{}.append(nil), int(null.Fd()))
		p, theirs := newPeer(t)
		p.close()
		o.control.send(spawnRequest{}.append(nil), int(theirs.Fd()))
		must(t, theirs.Close())
		o.shepherd().goesOn()
		eventually(t, "only the watcher and its one shepherd", func() (string, bool) {
			now := o.processes()
			return fmt.Sprint(now), len(now) == 2
		})
	})
}
