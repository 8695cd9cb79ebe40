package shepherd

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"testing"
	"testing/quick"
)

// eventOf encodes an event as a helper does.
func eventOf(kind uint32, fields any) []byte {
	return appendFrame(nil, requestHead{kind: kind}, fields)
}

// Whatever a helper says in an event is what is read from it.
func TestEventsRoundTrip(t *testing.T) {
	tests := map[string]any{
		"ready":   func(f readyEvent) bool { return roundTrips(eventReady, f) },
		"started": func(f startedEvent) bool { return roundTrips(eventStarted, f) },
		"failed":  func(f failedEvent) bool { return roundTrips(eventFailed, f) },
		"ended":   func(f endedEvent) bool { return roundTrips(eventEnded, f) },
		"settled": func(f settledEvent) bool { return roundTrips(eventSettled, f) },
		"hello":   func(f helloEvent) bool { return roundTrips(eventHello, f) },
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := quick.Check(test, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func roundTrips[T comparable](kind uint32, fields T) bool {
	frame := eventOf(kind, fields)
	ev, rest, ok, err := cutEvent(append(frame, "next"...))
	if err != nil || !ok || ev.kind != kind || string(rest) != "next" {
		return false
	}
	got, err := decode[T](ev)
	return err == nil && got == fields
}

// A request's head says how long it is, with what follows it.
func TestRequestsSayHowLongTheyAre(t *testing.T) {
	tests := []struct {
		name  string
		frame []byte
		kind  uint32
		after uint32 // bytes that follow the frame
	}{
		{"start", startRequest{Setup: 24, Strings: 1000}.append(nil), requestStart, 1024},
		{"signal", signalRequest{Signal: 15}.append(nil), requestSignal, 0},
		{"stop", stopRequest{}.append(nil), requestStop, 0},
		{"kill", killRequest{}.append(nil), requestKill, 0},
		{"spawn", spawnRequest{}.append(nil), requestSpawn, 0},
		{"settle", settleRequest{Shepherd: 1}.append(nil), requestSettle, 0},
		{"nudge", nudgeRequest{Shepherd: 1, Signal: 9}.append(nil), requestNudge, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if length := order.Uint32(test.frame); length != uint32(len(test.frame))+test.after {
				t.Errorf("length %d of %d bytes and %d that follow", length, len(test.frame), test.after)
			}
			if kind := order.Uint32(test.frame[4:]); kind != test.kind {
				t.Errorf("kind %d", kind)
			}
			if len(test.frame)%8 != 0 {
				t.Errorf("%d bytes: the C structures would have holes", len(test.frame))
			}
		})
	}
}

func TestCutEvent(t *testing.T) {
	ready := eventOf(eventReady, readyEvent{Shepherd: 7})
	tests := []struct {
		name      string
		bytes     []byte
		ok        bool
		malformed bool
	}{
		{"nothing", nil, false, false},
		{"part of a head", ready[:7], false, false},
		{"a head", ready[:8], false, false},
		{"all but a byte", ready[:len(ready)-1], false, false},
		{"a whole event", ready, true, false},
		{"two", append(ready, ready...), true, false},
		{"kind zero", headOnly(16, 0), false, true},
		{"kind that does not exist", headOnly(16, 99), false, true},
		{"largest length", headOnly(0xffffffff, eventReady), false, true},
		{"length of zero", headOnly(0, eventReady), false, true},
		{"length of another kind", headOnly(24, eventReady), false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ev, rest, ok, err := cutEvent(test.bytes)
			if ok != test.ok || errors.Is(err, errMalformed) != test.malformed {
				t.Errorf("ok %t, %v", ok, err)
			}
			if taken := len(test.bytes) - len(rest); ok && taken != headSize+len(ev.fields) {
				t.Errorf("it took %d bytes for %d of fields", taken, len(ev.fields))
			}
			if !ok && !bytes.Equal(rest, test.bytes) {
				t.Errorf("without an event it took %d bytes", len(test.bytes)-len(rest))
			}
		})
	}
}

func TestDecodeOfTooFewBytes(t *testing.T) {
	if _, err := decode[endedEvent](event{eventEnded, make([]byte, 10)}); !errors.Is(err, errMalformed) {
		t.Errorf("%v", err)
	}
}

// No event is larger than the buffer of a socket, or it could never be received.
func TestEveryEventFits(t *testing.T) {
	for kind := range uint32(100) {
		if size := eventSize(kind); size > largestEvent {
			t.Errorf("event %d has %d bytes", kind, size)
		}
	}
}

// FuzzCutEvent reads any bytes as a helper's events: it takes them one after the
// other, waits for more or refuses them, and makes nothing of its own of them.
func FuzzCutEvent(f *testing.F) {
	f.Add(eventOf(eventReady, readyEvent{Shepherd: 1}))
	f.Add(append(eventOf(eventStarted, startedEvent{Command: 2}), eventOf(eventEnded, endedEvent{Status: 9})...))
	f.Add(eventOf(eventFailed, failedEvent{Step: 6, Error: 2, Reusable: 1}))
	f.Add(eventOf(eventSettled, settledEvent{})[:9])
	f.Add(headOnly(0xffffffff, eventEnded))
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for rest := b; ; {
			ev, next, ok, err := cutEvent(rest)
			if !ok {
				if len(next) != len(rest) {
					t.Fatal("bytes are gone without an event")
				}
				if err == nil && len(rest) > largestEvent {
					t.Fatal("more than any event, and still not enough")
				}
				break
			}
			if err != nil || len(next) >= len(rest) || eventSize(ev.kind) != headSize+len(ev.fields) {
				t.Fatalf("event %d of %d bytes, %v", ev.kind, len(ev.fields), err)
			}
			decodeAny(t, ev)
			rest = next
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<10+16*uint64(len(b)) {
			t.Fatalf("%d bytes of memory for %d bytes", grown, len(b))
		}
	})
}

func decodeAny(t *testing.T, ev event) {
	t.Helper()
	again := func(fields any, err error) { // encodes it again
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(eventOf(ev.kind, fields)[headSize:], ev.fields) {
			t.Fatalf("%+v is not what was received", fields)
		}
	}
	switch ev.kind {
	case eventReady:
		again(decode[readyEvent](ev))
	case eventStarted:
		again(decode[startedEvent](ev))
	case eventFailed:
		again(decode[failedEvent](ev))
	case eventEnded:
		again(decode[endedEvent](ev))
	case eventSettled:
		again(decode[settledEvent](ev))
	case eventHello:
		again(decode[helloEvent](ev))
	}
}
