package netrunner_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/netrunner-go/netrunner"
)

// Lines are what bufio.Scanner makes of the same text, however it is cut into
// writes.
func TestLinesAreThoseOfAScanner(t *testing.T) {
	leaveNothing(t)
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.OneOf(rapid.StringMatching(`[a-z]{0,9}`), rapid.SampledFrom([]string{"\r", "\n", "\r\n", strings.Repeat("x", 40_000)}))
		text := strings.Join(rapid.SliceOf(part).Draw(t, "text"), "")
		var want []string
		scanner := bufio.NewScanner(strings.NewReader(text))
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			want = append(want, scanner.Text())
		}
		cmd := netrunner.Command("cat")
		cmd.Stdin = netrunner.Input(func(yield func([]byte) bool) {
			for rest := []byte(text); len(rest) > 0; {
				n := rapid.IntRange(1, len(rest)).Draw(t, "write")
				if !yield(rest[:n]) {
					return
				}
				rest = rest[n:]
			}
		})
		var got []string
		for line, err := range cmd.Lines(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(line))
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%.200q, want %.200q", got, want)
		}
	})
}

func TestTheLastOfTheLoopIsTheError(t *testing.T) {
	leaveNothing(t)
	cancelled, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("enough")
	for _, test := range []struct {
		name  string
		cmd   *netrunner.Cmd
		ctx   context.Context
		lines int
		is    func(error) bool
	}{
		{"success", netrunner.Command("printf", `a\nb\n`), t.Context(), 2, nil},
		{"nothing", netrunner.Command("true"), t.Context(), 0, nil},
		{"failure", netrunner.Command("sh", "-c", "echo a; echo last words >&2; exit 3"), t.Context(), 1, func(err error) bool {
			var exit *netrunner.ExitError
			return errors.As(err, &exit) && exit.State.ExitCode() == 3 && string(exit.Stderr) == "last words\n"
		}},
		{"killed", netrunner.Command("sh", "-c", "echo a; kill -9 $$"), t.Context(), 1, isExit},
		{"no program", netrunner.Command("/nonexistent"), t.Context(), 0, func(err error) bool {
			return errors.As(err, new(*netrunner.StartError)) && errors.Is(err, os.ErrNotExist)
		}},
		{"timeout", &netrunner.Cmd{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Timeout: 50 * time.Millisecond}, t.Context(), 0, func(err error) bool {
			return errors.Is(err, netrunner.ErrTimeout)
		}},
		{"output limit", &netrunner.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", "exec yes"}, MaxOutput: 9}, t.Context(), 5, func(err error) bool {
			return errors.Is(err, netrunner.ErrOutputLimit)
		}},
		{"context", netrunner.Command("sh", "-c", "echo a; sleep 1000"), cancelled, 1, func(err error) bool { return errors.Is(err, why) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			lines := 0
			var last error
			for line, err := range test.cmd.Lines(test.ctx) {
				if last != nil {
					t.Fatalf("after %v there is %q, %v", last, line, err)
				}
				if last = err; err == nil {
					lines++
				}
				if test.ctx == cancelled {
					cancel(why)
				}
			}
			if lines != test.lines {
				t.Errorf("%d lines, want %d", lines, test.lines)
			}
			if test.is == nil && last != nil || test.is != nil && !test.is(last) {
				t.Errorf("the last is %v", last)
			}
		})
	}
}

func isExit(err error) bool { return errors.As(err, new(*netrunner.ExitError)) }

// Whoever leaves the loop early, by whatever way, leaves nothing behind.
func TestALoopThatIsLeftEarly(t *testing.T) {
	leaveNothing(t)
	mark := marker()
	cmd := netrunner.Command("sh", "-c", "setsid sleep $0 & echo first; echo other >&2; trap '' PIPE; while :; do echo more; done", mark)
	cmd.KillTimeout = 50 * time.Millisecond
	for _, test := range []struct {
		name string
		loop func()
	}{
		{"break", func() {
			for _, err := range cmd.Lines(t.Context()) {
				check(t, err)
				break
			}
		}},
		{"return", func() {
			for _, err := range cmd.Chunks(t.Context()) {
				check(t, err)
				return
			}
		}},
		{"panic", func() {
			defer func() { _ = recover() }()
			for _, err := range cmd.Lines(t.Context()) {
				check(t, err)
				panic("on purpose")
			}
		}},
		{"break, from both", func() {
			for _, err := range cmd.OutputLines(t.Context(), netrunner.Stdout|netrunner.Stderr) {
				check(t, err)
				break
			}
		}},
		{"panic, from both", func() {
			defer func() { _ = recover() }()
			for _, err := range cmd.OutputChunks(t.Context(), netrunner.Stdout|netrunner.Stderr) {
				check(t, err)
				panic("on purpose")
			}
		}},
		{"Goexit", func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				for _, err := range cmd.Lines(t.Context()) {
					check(t, err)
					runtime.Goexit()
				}
			}()
			<-done
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.loop()
			if left := marked(t, mark); len(left) > 0 {
				t.Errorf("there are %q", describe(left))
			}
		})
	}
}

func TestALineThatIsTooLong(t *testing.T) {
	leaveNothing(t)
	for _, test := range []struct {
		limit  int
		text   string
		lines  []string
		partly string // what comes with the error
	}{
		{5, "12345\n", []string{"12345"}, ""},
		{5, "12345\r\n1\n", []string{"12345", "1"}, ""},
		{5, "12345", []string{"12345"}, ""},
		{5, "1\n123456\n2\n", []string{"1"}, "12345"},
		{5, "123456", nil, "12345"},
		{1 << 17, strings.Repeat("x", 1<<17) + "\n", []string{strings.Repeat("x", 1<<17)}, ""},
		{1 << 17, strings.Repeat("x", 1<<17+1), nil, strings.Repeat("x", 1<<17)},
		{0, strings.Repeat("x", netrunner.DefaultMaxLine+1), nil, strings.Repeat("x", netrunner.DefaultMaxLine)},
	} {
		cmd := netrunner.Command("cat")
		cmd.Stdin = strings.NewReader(test.text)
		cmd.MaxLine = test.limit
		var lines []string
		partly := ""
		for line, err := range cmd.Lines(testContext(t)) {
			if err == nil {
				lines = append(lines, string(line))
				continue
			}
			partly = string(line)
			if !errors.Is(err, bufio.ErrTooLong) {
				t.Errorf("limit %d: %v", test.limit, err)
			}
		}
		if fmt.Sprint(lines) != fmt.Sprint(test.lines) || partly != test.partly {
			t.Errorf("limit %d: %.50q and %.50q, want %.50q and %.50q", test.limit, lines, partly, test.lines, test.partly)
		}
	}
}

// Both streams come with their source, each in its order; what was written one
// after the other comes one after the other.
func TestBothStreamsInTheOrderOfTheirArrival(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", `
		for i in 1 2 3 4 5 6; do
			read next; echo out $i
			read next; echo err $i >&2
		done`)
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	cmd.Stdin = netrunner.Input(func(yield func([]byte) bool) {
		for range turn {
			if !yield([]byte("next\n")) {
				return
			}
		}
	})
	var all []string
	for o, err := range cmd.OutputLines(testContext(t), netrunner.Stdout|netrunner.Stderr) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%v: %s", o.From, o.Data))
		turn <- struct{}{}
	}
	close(turn)
	var want []string
	for i := 1; i <= 6; i++ {
		want = append(want, fmt.Sprintf("stdout: out %d", i), fmt.Sprintf("stderr: err %d", i))
	}
	if fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", all, want)
	}
}

func TestOnlyStderr(t *testing.T) {
	leaveNothing(t)
	var out bytes.Buffer
	cmd := netrunner.Command("sh", "-c", "echo out; printf err >&2")
	cmd.Stdout = &out
	for o, err := range cmd.OutputChunks(testContext(t), netrunner.Stderr) {
		if o.From != netrunner.Stderr || string(o.Data) != "err" || err != nil {
			t.Errorf("%v %q %v", o.From, o.Data, err)
		}
	}
	if out.String() != "out\n" {
		t.Errorf("stdout is %q", out.String())
	}
}

// What nobody could read or write is refused before anything starts.
func TestALoopThatCannotBe(t *testing.T) {
	leaveNothing(t)
	var out bytes.Buffer
	for _, test := range []struct {
		name string
		cmd  netrunner.Cmd
		from netrunner.Stream
		want string
	}{
		{"Stdout is set", netrunner.Cmd{Stdout: &out}, netrunner.Stdout, `check "Stdout": already set`},
		{"Stderr is set", netrunner.Cmd{Stderr: &out}, netrunner.Stdout | netrunner.Stderr, `check "Stderr": already set`},
		{"Stdin is a pipe", netrunner.Cmd{Stdin: netrunner.Pipe}, netrunner.Stdout, `check "Stdin": is a pipe that nobody`},
		{"the other is a pipe", netrunner.Cmd{Stderr: netrunner.Pipe}, netrunner.Stdout, `check "Stderr": is a pipe that nobody`},
		{"no stream", netrunner.Cmd{}, 0, `check "stream 0": is unknown`},
		{"another stream", netrunner.Cmd{}, 4, `check "stream 4": is unknown`},
		{"a negative limit", netrunner.Cmd{MaxLine: -1}, netrunner.Stdout, `check "MaxLine": is negative`},
		{"a negative size", netrunner.Cmd{PipeSize: -1}, netrunner.Stdout, `check "PipeSize": is negative`},
	} {
		test.cmd.Path = "/bin/true"
		count := 0
		for _, err := range test.cmd.OutputLines(t.Context(), test.from) {
			count++
			if !errors.As(err, new(*netrunner.StartError)) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %s", test.name, err, test.want)
			}
		}
		if count != 1 {
			t.Errorf("%s: %d errors", test.name, count)
		}
	}
}
