package asciicast_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/netrunner-go/netrunner/internal/asciicast"
)

// recordTo in the environment makes the test binary a program that records into this file.
const recordTo = "ASCIICAST_TEST_RECORD_TO"

func TestMain(m *testing.M) {
	if path := os.Getenv(recordTo); path != "" {
		if err := recordUntilKilled(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

var moment = time.Unix(1504467315, 999_999_999)

func TestHeader(t *testing.T) {
	tests := []struct {
		name   string
		header asciicast.Header
		want   string
	}{
		{
			"as little as possible",
			asciicast.Header{Timestamp: moment},
			`{"version": 2, "width": 80, "height": 24, "timestamp": 1504467315}`,
		},
		{
			"all of it",
			asciicast.Header{
				Width: 132, Height: 50, Timestamp: moment, IdleTimeLimit: 2500 * time.Millisecond,
				Command: "top -b && true", Title: "Demo",
				Env: map[string]string{"TERM": "xterm-256color", "SHELL": "/bin/zsh"},
			},
			`{"version": 2, "width": 132, "height": 50, "timestamp": 1504467315, "idle_time_limit": 2.5, ` +
				`"command": "top -b && true", "title": "Demo", "env": {"SHELL": "/bin/zsh", "TERM": "xterm-256color"}}`,
		},
		{
			"the largest terminal, an environment without variables",
			asciicast.Header{Width: 65535, Height: 65535, Timestamp: moment, Env: map[string]string{}},
			`{"version": 2, "width": 65535, "height": 65535, "timestamp": 1504467315, "env": {}}`,
		},
		{
			"text that is none",
			asciicast.Header{Timestamp: moment, Title: "a\"\\\n\x1b\xff\u2028é", Command: "\xe2\x82"},
			`{"version": 2, "width": 80, "height": 24, "timestamp": 1504467315, "command": "` + "\ufffd\ufffd" +
				`", "title": "a\"\\\n\u001b` + "\ufffd" + `\u2028é"}`,
		},
		{
			"a limit that limits nothing",
			asciicast.Header{Timestamp: moment, IdleTimeLimit: -time.Second},
			`{"version": 2, "width": 80, "height": 24, "timestamp": 1504467315}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var file bytes.Buffer
			r, err := asciicast.New(&file, test.header)
			check(t, err)
			check(t, r.Close())
			if got := file.String(); got != test.want+"\n" {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestTheHeaderTellsTheTimeOfDay(t *testing.T) {
	before := time.Now().Unix()
	var file bytes.Buffer
	_, err := asciicast.New(&file, asciicast.Header{})
	check(t, err)
	var header struct{ Timestamp int64 }
	check(t, json.Unmarshal(file.Bytes(), &header))
	if header.Timestamp < before || header.Timestamp > time.Now().Unix() {
		t.Errorf("timestamp %d, began after %d", header.Timestamp, before)
	}
}

func TestSizesThatNoTerminalHas(t *testing.T) {
	for _, size := range [][2]int{{-1, 24}, {80, -1}, {65536, 24}, {80, 1 << 40}} {
		var file bytes.Buffer
		var sizeError *asciicast.SizeError
		r, err := asciicast.New(&file, asciicast.Header{Width: size[0], Height: size[1]})
		if !errors.As(err, &sizeError) || *sizeError != (asciicast.SizeError{Columns: size[0], Rows: size[1]}) || r != nil || file.Len() != 0 {
			t.Errorf("New: %v, %v, %q", r, err, file.String())
		}
		r, recorded := begin(t)
		if err := r.Resize(size[0], size[1]); !errors.As(err, &sizeError) {
			t.Errorf("Resize: %v", err)
		}
		check(t, r.Output([]byte("goes on")))
		check(t, r.Close())
		if got := recorded(); got != `[1.000000, "o", "goes on"]`+"\n" {
			t.Errorf("after a resize that failed: %s", got)
		}
	}
}

// Each step is an event told to the Recorder, one second after the one before.
type step struct {
	kind byte
	text string
}

func output(text string) step { return step{'o', text} }
func input(text string) step  { return step{'i', text} }
func resize(size string) step { return step{'r', size} }

func (s step) tell(t *testing.T, r *asciicast.Recorder) {
	t.Helper()
	switch s.kind {
	case 'o':
		check(t, r.Output([]byte(s.text)))
	case 'i':
		check(t, r.Input([]byte(s.text)))
	case 'r':
		var columns, rows int
		_, err := fmt.Sscanf(s.text, "%dx%d", &columns, &rows)
		check(t, err)
		check(t, r.Resize(columns, rows))
	}
}

func TestEvents(t *testing.T) {
	tests := []struct {
		name  string
		steps []step
		want  []string
	}{
		{"nothing", nil, nil},
		{"nothing, told", []step{output(""), input("")}, nil},
		{
			"one of each",
			[]step{output("hello"), input("h"), resize("100x50")},
			[]string{`[1.000000, "o", "hello"]`, `[2.000000, "i", "h"]`, `[3.000000, "r", "100x50"]`},
		},
		{
			"a terminal that does not know its size",
			[]step{resize("0x0"), resize("0x7"), resize("65535x1")},
			[]string{`[1.000000, "r", "80x24"]`, `[2.000000, "r", "80x7"]`, `[3.000000, "r", "65535x1"]`},
		},
		{
			"control characters",
			[]step{output("\x1b[1;31mred\x1b[0m\r\n\ttab\x00\x07\b\v\f\x7f\u0085\u009b")},
			[]string{`[1.000000, "o", "\u001b[1;31mred\u001b[0m\r\n\ttab\u0000\u0007\u0008\u000b\u000c\u007f\u0085\u009b"]`},
		},
		{
			"what JSON escapes, and what it need not",
			[]step{output(`"quoted" \n </script> & '`)},
			[]string{`[1.000000, "o", "\"quoted\" \\n </script> & '"]`},
		},
		{
			"characters",
			[]step{output("é € 漢字 😀")},
			[]string{`[1.000000, "o", "é € 漢字 😀"]`},
		},
		{
			"characters that cannot be printed",
			[]step{output("\u00a0\u200d\u2028\u2029\ufeff\ue0b0\U000e0001\U0010ffff")},
			[]string{`[1.000000, "o", "\u00a0\u200d\u2028\u2029\ufeff\ue0b0\udb40\udc01\udbff\udfff"]`},
		},
		{
			"bytes of no character",
			[]step{output("a\xffb\xc0\xafc\xed\xa0\x80d\xf4\x90\x80\x80e\x80")},
			[]string{`[1.000000, "o", "a?b??c???d????e?"]`},
		},
		{
			"a character in two pieces",
			[]step{output("a\xe2\x82"), output("\xacb")},
			[]string{`[1.000000, "o", "a"]`, `[2.000000, "o", "€b"]`},
		},
		{
			"a character byte by byte",
			[]step{output("\xf0"), output("\x9f"), output(""), output("\x98"), output("\x80")},
			[]string{`[5.000000, "o", "😀"]`},
		},
		{
			"a character whose rest does not come",
			[]step{output("\xf0\x9f\x98"), output("a")},
			[]string{`[2.000000, "o", "???a"]`},
		},
		{
			"a character in the place of another one's rest",
			[]step{output("\xf0\x9f\x98"), output("\xe2\x82"), output("\xac\xc3")},
			[]string{`[2.000000, "o", "???"]`, `[3.000000, "o", "€"]`, `[4.000000, "o", "?"]`},
		},
		{
			"a rest that is too long",
			[]step{output("\xc3"), output("\xa9\xa9")},
			[]string{`[2.000000, "o", "é?"]`},
		},
		{
			"pieces of two streams",
			[]step{output("\xe2"), input("\xc3"), output("\x82"), input("\xa9"), output("\xac")},
			[]string{`[4.000000, "i", "é"]`, `[5.000000, "o", "€"]`},
		},
		{
			"a resize within a character: it is shown afterwards",
			[]step{output("a\xe2\x82"), resize("100x50"), output("\xac")},
			[]string{`[1.000000, "o", "a"]`, `[2.000000, "r", "100x50"]`, `[3.000000, "o", "€"]`},
		},
		{
			"a resize within what turns out to be none",
			[]step{output("a\xe2\x82"), resize("100x50"), output("b")},
			[]string{`[1.000000, "o", "a"]`, `[2.000000, "r", "100x50"]`, `[3.000000, "o", "??b"]`},
		},
		{
			"a character that is never finished",
			[]step{input("\xc3"), output("a\xe2\x82")},
			[]string{`[2.000000, "o", "a"]`, `[3.000000, "o", "??"]`, `[4.000000, "i", "?"]`},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, recorded := begin(t)
			for _, s := range test.steps {
				s.tell(t, r)
			}
			check(t, r.Close())
			var want strings.Builder
			for _, line := range test.want {
				want.WriteString(strings.ReplaceAll(line, "?", "\ufffd") + "\n")
			}
			if got := recorded(); got != want.String() {
				t.Errorf("got\n%swant\n%s", got, want.String())
			}
		})
	}
}

func TestTimes(t *testing.T) {
	tests := []struct {
		name string
		now  []time.Duration
		want string
	}{
		{"the first moment", []time.Duration{0}, `[0.000000, "o", "."]`},
		{"less than a microsecond", []time.Duration{999}, `[0.000000, "o", "."]`},
		{"microseconds", []time.Duration{1234567890}, `[1.234567, "o", "."]`},
		{"leading zeros", []time.Duration{10*time.Second + 20*time.Microsecond}, `[10.000020, "o", "."]`},
		{"a year", []time.Duration{365 * 24 * time.Hour}, `[31536000.000000, "o", "."]`},
		{
			"a clock that goes back",
			[]time.Duration{2 * time.Second, time.Second, -time.Second, 3 * time.Second},
			`[2.000000, "o", "."]|[2.000000, "o", "."]|[2.000000, "o", "."]|[3.000000, "o", "."]`,
		},
		{"a clock that begins before zero", []time.Duration{-1}, `[0.000000, "o", "."]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, recorded := begin(t)
			for _, now := range test.now {
				r.SetClock(func() time.Duration { return now })
				check(t, r.Output([]byte(".")))
			}
			if got := strings.ReplaceAll(strings.TrimSpace(recorded()), "\n", "|"); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// However it comes in pieces, a text is recorded as the same text.
func TestTextTornAnywhere(t *testing.T) {
	text := "aé€😀" + "\xc3" + "\xe2\x82" + "\xf0\x9f\x98" + "z\xff\xf0\x9f\x98\x80"
	want := decoded(text)
	for first := range len(text) + 1 {
		for second := first; second <= len(text); second++ {
			r, recorded := begin(t)
			for _, piece := range []string{text[:first], text[first:second], text[second:]} {
				check(t, r.Output([]byte(piece)))
				check(t, r.Input([]byte(piece)))
			}
			check(t, r.Close())
			got := decode(t, recorded())
			if got.output != want || got.input != want {
				t.Fatalf("torn at %d and %d: %+q and %+q, want %+q", first, second, got.output, got.input, want)
			}
		}
	}
}

func TestMuchAtOnceBecomesManyEvents(t *testing.T) {
	tests := []struct{ name, text string }{
		{"plain", strings.Repeat("0123456789abcdef", asciicast.MaxLine/4)},
		{"escaped", strings.Repeat("\x01", asciicast.MaxLine)},
		{"pairs", strings.Repeat("\U0010ffff", asciicast.MaxLine)},
		{"wide", strings.Repeat("a漢", asciicast.MaxLine)},
		{"no text", strings.Repeat("\xff", asciicast.MaxLine)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, recorded := begin(t)
			check(t, r.Output([]byte(test.text)))
			file := recorded()
			for line := range strings.Lines(file) {
				if most := asciicast.MaxLine + len(`\udbff\udfff"]`) + 1; len(line) > most {
					t.Errorf("a line of %d bytes, at most %d", len(line), most)
				}
			}
			if got := decode(t, file).output; got != decoded(test.text) {
				t.Errorf("%d characters came back, want %d", utf8.RuneCountInString(got), utf8.RuneCountInString(test.text))
			}
		})
	}
}

// An event that is full when the clock is about to need another digit.
func TestNothingIsLeftOfAFullEvent(t *testing.T) {
	r, recorded := begin(t)
	times := []time.Duration{9 * time.Second, 10 * time.Second}
	r.SetClock(func() time.Duration {
		now := times[0]
		times = times[1:]
		return now
	})
	text := strings.Repeat("x", asciicast.MaxLine-len(`[9.000000, "o", "`))
	check(t, r.Output([]byte(text)))
	if got := recorded(); got != `[9.000000, "o", "`+text+"\"]\n" {
		t.Errorf("recorded %d bytes, which end by %q", len(got), got[max(0, len(got)-40):])
	}
}

func TestAnyNumberOfGoroutines(t *testing.T) {
	var file lines
	file.t = t
	r, err := asciicast.New(&file, asciicast.Header{})
	check(t, err)
	const each = 500
	var tellers sync.WaitGroup
	for teller := range 4 {
		tellers.Go(func() {
			for i := range each {
				word := fmt.Sprintf("%c%d ", 'a'+teller, i)
				var err error
				switch teller {
				case 0:
					err = r.Input([]byte(word))
				case 1:
					err = r.Resize(80+i, 24)
				default:
					err = r.Output([]byte(word))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	tellers.Wait()
	check(t, r.Close())
	_, events, _ := strings.Cut(file.String(), "\n")
	got := decode(t, events)
	if got.events != 4*each {
		t.Errorf("%d events, want %d", got.events, 4*each)
	}
	next := map[byte]int{} // of each goroutine: its events are in its order
	for _, word := range strings.Fields(got.input + got.output) {
		if want := fmt.Sprint(next[word[0]]); word[1:] != want {
			t.Fatalf("%q, want %s of this goroutine", word, want)
		}
		next[word[0]]++
	}
}

func TestCloseAmongEvents(t *testing.T) {
	r, err := asciicast.New(io.Discard, asciicast.Header{})
	check(t, err)
	var tellers sync.WaitGroup
	for range 4 {
		tellers.Go(func() {
			for {
				if err := r.Output([]byte("x")); err != nil {
					if !errors.Is(err, os.ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	check(t, r.Close())
	tellers.Wait()
}

func TestAfterClose(t *testing.T) {
	r, recorded := begin(t)
	check(t, r.Output([]byte("a\xc3")))
	check(t, r.Close())
	before := recorded()
	for name, err := range tellAll(r) {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(t, r.Close())
	if after := recorded(); after != before {
		t.Errorf("recorded after Close: %s", after)
	}
}

// tellAll returns what each method says.
func tellAll(r *asciicast.Recorder) map[string]error {
	return map[string]error{
		"Output": r.Output([]byte("x")),
		"Input":  r.Input([]byte("x")),
		"Resize": r.Resize(1, 1),
	}
}

func TestNoSpaceForTheHeader(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("cannot open /dev/full: %v", err)
	}
	defer full.Close()
	if r, err := asciicast.New(full, asciicast.Header{}); !errors.Is(err, syscall.ENOSPC) || r != nil {
		t.Errorf("%v, %v, want ENOSPC", r, err)
	}
}

func TestTheFirstErrorIsTheLast(t *testing.T) {
	enospc := &os.PathError{Op: "write", Path: "x.cast", Err: syscall.ENOSPC}
	tests := []struct {
		name  string
		short bool  // writes less, and does not say why
		err   error // of the writer
		want  error
		tell  func(r *asciicast.Recorder) error
	}{
		{"Output", false, enospc, syscall.ENOSPC, func(r *asciicast.Recorder) error { return r.Output([]byte("x")) }},
		{"Input", false, enospc, syscall.ENOSPC, func(r *asciicast.Recorder) error { return r.Input([]byte("x")) }},
		{"Resize", false, enospc, syscall.ENOSPC, func(r *asciicast.Recorder) error { return r.Resize(1, 1) }},
		{"Close", false, enospc, syscall.ENOSPC, func(r *asciicast.Recorder) error {
			return errors.Join(r.Output([]byte("\xc3")), r.Input([]byte("\xc3")), r.Close())
		}},
		{"much at once", false, enospc, syscall.ENOSPC, func(r *asciicast.Recorder) error {
			return r.Output(make([]byte, asciicast.MaxLine))
		}},
		{"a short write", true, nil, io.ErrShortWrite, func(r *asciicast.Recorder) error { return r.Output([]byte("x")) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &failing{after: 1, short: test.short, err: test.err}
			r, err := asciicast.New(w, asciicast.Header{})
			check(t, err)
			first := test.tell(r)
			if !errors.Is(first, test.want) || !strings.HasPrefix(first.Error(), "write the recording: ") {
				t.Fatalf("%v, want %v", first, test.want)
			}
			w.err = errors.New("another error")
			for name, err := range tellAll(r) {
				if !errors.Is(err, test.want) {
					t.Errorf("%s: %v, want %v", name, err, first)
				}
			}
			for range 2 {
				if err := r.Close(); !errors.Is(err, test.want) {
					t.Errorf("Close: %v, want %v", err, first)
				}
			}
			if w.writes != 2 {
				t.Errorf("%d writes, want one of the header and one that fails", w.writes)
			}
		})
	}
}

// failing fails from the write after some on.
type failing struct {
	after  int
	short  bool
	err    error
	writes int
}

func (f *failing) Write(b []byte) (int, error) {
	if f.writes++; f.writes <= f.after {
		return len(b), nil
	}
	if f.short {
		return len(b) - 1, f.err
	}
	return 0, f.err
}

func TestEventsAllocateNothing(t *testing.T) {
	r, err := asciicast.New(io.Discard, asciicast.Header{})
	check(t, err)
	text := []byte("\x1b[1mbold\x1b[0m 漢字 \xff\r\n\xe2\x82")
	record := func() {
		_ = r.Output(text)
		_ = r.Input(text)
		_ = r.Resize(80, 24)
	}
	record() // the line's buffer is allocated
	if n := testing.AllocsPerRun(100, record); n != 0 {
		t.Errorf("%v allocations", n)
	}
	check(t, r.Close())
}

// What was recorded until then is whole, except for the last line.
func TestKilledInTheMiddle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "killed.cast")
	runtime.LockOSThread() // the death of a thread is that of a parent (man 2 prctl, PR_SET_PDEATHSIG)
	defer runtime.UnlockOSThread()
	recorder := exec.Command(os.Args[0])
	recorder.Env = append(os.Environ(), recordTo+"="+path)
	recorder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	recorder.Stderr = os.Stderr
	begun, err := recorder.StdoutPipe()
	check(t, err)
	check(t, recorder.Start())
	_, readErr := begun.Read(make([]byte, 1))
	check(t, recorder.Process.Kill())
	check(t, readErr)
	if err := recorder.Wait(); recorder.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the recorder: %v, want killed", err)
	}
	file, err := os.ReadFile(path)
	check(t, err)
	whole := file[:bytes.LastIndexByte(file, '\n')+1]
	_, events, _ := strings.Cut(string(whole), "\n")
	if got := decode(t, events); got.events < recordedAtLeast || strings.Trim(got.output, "é") != "" {
		t.Errorf("%d events, want %d or more, all of them é", got.events, recordedAtLeast)
	}
}

const recordedAtLeast = 100

// recordUntilKilled tells when some events are recorded. It ends by itself, lest
// it fill the disk.
func recordUntilKilled(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	r, err := asciicast.New(file, asciicast.Header{})
	if err != nil {
		return err
	}
	text := []byte(strings.Repeat("é", asciicast.MaxLine/4))
	for i := range 10_000 {
		if err := r.Output(text); err != nil {
			return err
		}
		if i == recordedAtLeast {
			fmt.Print("x")
		}
	}
	return r.Close()
}

// begin begins a recording whose clock gains a second with each event. What
// recorded returns has no header.
func begin(t *testing.T) (r *asciicast.Recorder, recorded func() string) {
	t.Helper()
	file := lines{t: t}
	r, err := asciicast.New(&file, asciicast.Header{})
	check(t, err)
	var now time.Duration
	r.SetClock(func() time.Duration {
		now += time.Second
		return now
	})
	return r, func() string {
		_, events, _ := strings.Cut(file.String(), "\n")
		return events
	}
}

// lines wants a whole line in each call of Write.
type lines struct {
	bytes.Buffer
	t *testing.T
}

func (l *lines) Write(b []byte) (int, error) {
	if !bytes.HasSuffix(b, []byte("\n")) || bytes.Count(b, []byte("\n")) != 1 {
		l.t.Errorf("not one line: %q", b)
	}
	return l.Buffer.Write(b)
}

// recording is what a player sees.
type recording struct {
	events        int
	output, input string
}

// decode reads events as another program would, and wants them to be as the
// format says: three elements, printable characters, a time that does not go back.
func decode(t *testing.T, events string) (all recording) {
	t.Helper()
	var output, input strings.Builder
	last := 0.0
	for line := range strings.Lines(events) {
		for _, c := range strings.TrimSuffix(line, "\n") {
			if !unicode.IsPrint(c) {
				t.Fatalf("%+q in %+q", c, line)
			}
		}
		var event []any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%+q: %v", line, err)
		}
		if len(event) != 3 {
			t.Fatalf("%+q has %d elements", line, len(event))
		}
		now, kind, text := event[0].(float64), event[1].(string), event[2].(string)
		if now < last {
			t.Fatalf("%+q comes after %f", line, last)
		}
		last = now
		switch kind {
		case "o":
			output.WriteString(text)
		case "i":
			input.WriteString(text)
		case "r":
		default:
			t.Fatalf("%+q is of an unknown kind", line)
		}
		all.events++
	}
	all.output, all.input = output.String(), input.String()
	return all
}

// decoded is what text is to become.
func decoded(text string) string { return string([]rune(text)) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzText tells the same text as output and input, in pieces of different
// sizes, with resizes in between.
func FuzzText(f *testing.F) {
	f.Add([]byte("plain"), []byte{1})
	f.Add([]byte("é€😀\xff\u2028\x1b[0m\r\n"), []byte{1, 2})
	f.Add([]byte("\xf0\x9f\x98\xf0\x9f\x98\x80\xe2\x82"), []byte{3, 0, 1})
	f.Add([]byte("\U0010ffff\u0085\"\\\x7f\xed\xa0\x80"), []byte{255, 7, 3})
	f.Fuzz(func(t *testing.T, text, sizes []byte) {
		text = text[:min(len(text), 1<<10)] // longer ones say the same, slowly
		if len(sizes) == 0 {
			sizes = []byte{1}
		}
		var file lines
		file.t = t
		r, err := asciicast.New(&file, asciicast.Header{Title: string(text)})
		check(t, err)
		tell := func(one, other func([]byte) error) {
			for i, rest := 0, text; len(rest) > 0; i++ {
				n := min(1+int(sizes[i%len(sizes)]), len(rest))
				check(t, one(rest[:n]))
				check(t, other(rest[:n]))
				rest = rest[n:]
			}
		}
		tell(r.Output, func(piece []byte) error { return r.Resize(len(piece), len(text)&0xffff) })
		tell(r.Input, func([]byte) error { return nil })
		check(t, r.Close())
		first, events, _ := strings.Cut(file.String(), "\n")
		var header struct{ Title string }
		check(t, json.Unmarshal([]byte(first), &header))
		want := decoded(string(text))
		if got := decode(t, events); got.output != want || got.input != want || header.Title != want {
			t.Errorf("got %+q, %+q, and %+q as title, want %+q", got.output, got.input, header.Title, want)
		}
	})
}

func BenchmarkOutput(b *testing.B) {
	for _, bench := range []struct{ name, text string }{
		{"plain", strings.Repeat("drwxr-xr-x 2 root root 4096 ", 146)},
		{"colours", strings.Repeat("\x1b[01;34mbin\x1b[0m\r\n", 241)},
		{"wide", strings.Repeat("漢字", 683)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r, err := asciicast.New(io.Discard, asciicast.Header{})
			if err != nil {
				b.Fatal(err)
			}
			text := []byte(bench.text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Output(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
