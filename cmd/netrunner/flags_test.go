package main

import (
	"math"
	"syscall"
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for _, test := range []struct {
		text string
		want int64 // zero for a refusal
	}{
		{"1", 1},
		{"4096", 4096},
		{"512K", 512 << 10},
		{"512k", 512 << 10},
		{"10M", 10 << 20},
		{"1G", 1 << 30},
		{"2T", 2 << 40},
		{"9223372036854775807", math.MaxInt64},
		{"8388607T", 8388607 << 40},
		{"8388608T", 0}, // 2^63
		{"9223372036854775808", 0},
		{"0", 0},
		{"0K", 0},
		{"-1", 0},
		{"+1", 0},
		{"", 0},
		{"K", 0},
		{"1.5M", 0},
		{"10MB", 0},
		{"10 M", 0},
		{"1P", 0},
		{"0x10", 0},
		{"1_0", 0},
	} {
		var got size
		err := got.Set(test.text)
		if int64(got) != test.want || (err == nil) != (test.want != 0) {
			t.Errorf("%q: %d, %v; want %d", test.text, got, err, test.want)
		}
	}
}

func TestDuration(t *testing.T) {
	const refused = time.Duration(-1)
	for _, test := range []struct {
		text string
		want time.Duration
	}{
		{"0", 0},
		{"10", 10 * time.Second},
		{"0.5", 500 * time.Millisecond},
		{"90s", 90 * time.Second},
		{"1m30s", 90 * time.Second},
		{"250ms", 250 * time.Millisecond},
		{"9223372036", 9223372036 * time.Second},
		{"", refused},
		{"-1", refused},
		{"-1s", refused},
		{"1d", refused},
		{"soon", refused},
		{"NaN", refused},
		{"Inf", refused},
		{"9223372037", refused},
		{"1e300", refused},
	} {
		var got duration
		err := got.Set(test.text)
		if test.want == refused {
			if err == nil {
				t.Errorf("%q: %v, want a refusal", test.text, time.Duration(got))
			}
		} else if err != nil || time.Duration(got) != test.want {
			t.Errorf("%q: %v, %v; want %v", test.text, time.Duration(got), err, test.want)
		}
	}
}

func TestSignalNames(t *testing.T) {
	for _, test := range []struct {
		text string
		want syscall.Signal // zero for a refusal
	}{
		{"TERM", syscall.SIGTERM},
		{"SIGTERM", syscall.SIGTERM},
		{"term", syscall.SIGTERM},
		{"15", syscall.SIGTERM},
		{"KILL", syscall.SIGKILL},
		{"1", syscall.SIGHUP},
		{"64", 64},
		{"0", 0},
		{"65", 0},
		{"-1", 0},
		{"", 0},
		{"SIG", 0},
		{"SIGSIGTERM", 0},
		{"TERMINATE", 0},
	} {
		var got stopSignal
		err := got.Set(test.text)
		if syscall.Signal(got) != test.want || (err == nil) != (test.want != 0) {
			t.Errorf("%q: %d, %v; want %d", test.text, got, err, test.want)
		}
	}
	// What the help and the completion name is accepted.
	for _, name := range signalNames() {
		var s stopSignal
		if err := s.Set(name); err != nil || s.String() != name {
			t.Errorf("%q: %v, and its name is then %q", name, err, s.String())
		}
	}
}
