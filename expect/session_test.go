package expect_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/netrunner-go/netrunner/expect"
)

func TestNewRefusesSizes(t *testing.T) {
	for _, size := range [][2]int{{-1, 80}, {24, -1}, {1 << 16, 1}, {1, 1 << 16}, {2000, 2000}, {1 << 62, 1 << 62}} {
		term := newTerminal()
		if _, err := expect.New(term, expect.Options{Rows: size[0], Cols: size[1]}); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%v: %v", size, err)
		}
		if err := term.Close(); err != nil { // it is still open
			t.Errorf("%v: %v", size, err)
		}
	}
}

func TestClose(t *testing.T) {
	s, term := open(t, expect.Options{})
	term.print(t, "last words")
	waits := make(chan error)
	for _, wait := range []func() error{
		func() error { return s.Expect(testContext(t), "x") },
		func() error { return s.Expect(testContext(t), "y") },
		func() error { return s.ExpectEOF(testContext(t)) },
		func() error { return s.ExpectOnScreen(testContext(t), "x") },
		func() error { return s.Send("nobody reads this") },
	} {
		term.background(func() { waits <- wait() })
	}
	must(t, s.ExpectOnScreen(testContext(t), "last words"))
	must(t, s.Close())
	for range 5 {
		if err := <-waits; !errors.Is(err, os.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a wait has ended with %v", err)
		}
	}
	must(t, s.Close())
	if err := s.Send("x"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("send: %v", err)
	}
	fails(t, s.ExpectEOF(testContext(t)), os.ErrClosed)
	if !s.Screen().Contains("last words") {
		t.Errorf("the screen:\n%s", s.Screen().Box())
	}
}

// Without Close nothing is left either when the output has ended: TestMain looks.
func TestEndWithoutClose(t *testing.T) {
	term := newTerminal()
	s, err := expect.New(term, expect.Options{})
	must(t, err)
	term.print(t, "\x1b[6n")
	term.gets(t, "\x1b[1;1R")
	term.exit()
	must(t, s.ExpectEOF(testContext(t)))
}

func TestLog(t *testing.T) {
	var log bytes.Buffer
	s, term := open(t, expect.Options{Log: &log})
	output := "\x1b[31ma\xff\r\n\x00b"
	term.print(t, output)
	must(t, s.Expect(testContext(t), "b"))
	must(t, s.Close())
	if log.String() != output {
		t.Errorf("the log has %q", log.String())
	}
}

func TestLogThatFails(t *testing.T) {
	term := newTerminal()
	s, err := expect.New(term, expect.Options{Log: failingWriter{}})
	must(t, err)
	term.print(t, "a", "b", "c")
	must(t, s.Expect(testContext(t), "c"))
	if err := s.Close(); !errors.Is(err, errTest) {
		t.Errorf("close: %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errTest }

func TestResize(t *testing.T) {
	s, term := open(t, expect.Options{Rows: 4, Cols: 12})
	var sizes []string
	term.resize = func(rows, cols int) error {
		sizes = append(sizes, fmt.Sprint(rows, cols))
		return nil
	}
	term.print(t, "1\r\n2\r\n3\r\n4 long line")
	must(t, s.ExpectOnScreen(testContext(t), "ne"))
	must(t, s.Resize(2, 4))
	if got := s.Screen(); got.String() != "3\n4 lo" || got.Cursor() != (expect.Cursor{Row: 1, Col: 3}) {
		t.Errorf("smaller: %s", got.Box())
	}
	must(t, s.Resize(30, 100))
	term.print(t, "!\x1b[99;99Hx")
	must(t, s.ExpectScreen(testContext(t), func(screen *expect.Screen) bool { return screen.Cell(29, 98).Text == "x" }))
	if err := s.Resize(0, 80); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("to no rows: %v", err)
	}
	if want := []string{"2 4", "30 100"}; fmt.Sprint(sizes) != fmt.Sprint(want) {
		t.Errorf("the terminal was given %q", sizes)
	}
	term.resize = func(int, int) error { return errTest }
	if err := s.Resize(10, 10); !errors.Is(err, errTest) {
		t.Errorf("when the terminal refuses: %v", err)
	}
	if rows, cols := s.Screen().Size(); rows != 30 || cols != 100 {
		t.Errorf("the screen has %d rows and %d columns", rows, cols)
	}
}

// The cursor that was saved need not be on the screen any more.
func TestResizeWithSavedCursor(t *testing.T) {
	s, term := open(t, expect.Options{Rows: 20, Cols: 80})
	term.print(t, "\x1b[20;80H\x1b7\x1b[?1049h\x1b[20;80H")
	term.print(t, "ready")
	must(t, s.Expect(testContext(t), "ready"))
	must(t, s.Resize(3, 5))
	term.print(t, "\x1b[?1049l\x1b8\x1bH\x1b[3gx\x1b8y\r\n\r\nend")
	must(t, s.ExpectOnScreen(testContext(t), "end"))
}

func TestResizeDuringOutput(t *testing.T) {
	s, term := open(t, expect.Options{})
	done := make(chan struct{})
	term.background(func() {
		defer term.exit()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				term.print(t, fmt.Sprintf("\x1b[%d;%dH\x1b[3%dm中文%d\x1b[2;%dr\r\n\x1b[6n", i%50, i%200, i%8, i, i%60))
			}
		}
	})
	term.background(func() { _, _ = io.Copy(io.Discard, term.input) })
	for i := range 200 {
		must(t, s.Resize(1+i*7%60, 1+i*13%200))
		rows, cols := s.Screen().Size()
		if rows != 1+i*7%60 || cols != 1+i*13%200 {
			t.Errorf("the screen has %d rows and %d columns", rows, cols)
		}
	}
	close(done)
	must(t, s.ExpectEOF(testContext(t)))
}

// A program may write without end while nobody waits for anything.
func TestHugeOutputFillsNoMemory(t *testing.T) {
	s, term := open(t, expect.Options{})
	before := heap()
	chunk := strings.Repeat("\x1b[32mall work and no play\x1b[0m\r\n", 100)
	for range 50_000_000 / len(chunk) {
		term.print(t, chunk)
	}
	term.print(t, "end")
	must(t, s.ExpectOnScreen(testContext(t), "end"))
	if grown := heap() - before; grown > 16<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if m, err := s.ExpectAny(testContext(t), expect.Text("end")); err != nil || len(m.Before) > 1<<20 || len(m.Before) < 1<<20-100 {
		t.Errorf("%d bytes before the end, %v", len(m.Before), err)
	}
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// Whatever comes between two looks, who waits for text gets to see all of it.
func TestHugeOutputMissesNothing(t *testing.T) {
	s, term := open(t, expect.Options{})
	term.background(func() {
		filler := strings.Repeat("filler ", 4000)
		for i := range 10 {
			for range 100 { // 2.8 MB
				term.print(t, filler)
			}
			term.print(t, fmt.Sprintf("needle <%d>", i))
		}
	})
	for i := range 10 {
		must(t, s.Expect(testContext(t), fmt.Sprintf("needle <%d>", i)))
	}
}

func TestConcurrentUse(t *testing.T) {
	s, term := open(t, expect.Options{})
	// The program echoes what it reads, and asks where the cursor is all the time.
	term.background(func() {
		b := make([]byte, 100)
		for {
			n, err := term.input.Read(b)
			if err != nil {
				return
			}
			if _, err := term.output.Write(append(bytes.ReplaceAll(b[:n], []byte("\x1b"), []byte("^")), "\x1b[6n"...)); err != nil {
				return
			}
			if bytes.Contains(b[:n], []byte("R")) { // the answers would never end
				continue
			}
		}
	})
	var users sync.WaitGroup
	for i := range 4 {
		users.Go(func() {
			for j := range 50 {
				text := fmt.Sprintf("<%d %d>", i, j)
				if err := s.Send(text); err != nil {
					t.Error(err)
				}
				if err := s.Press(expect.Up, expect.CtrlC); err != nil {
					t.Error(err)
				}
				_ = s.Screen()
				if err := s.Expect(testContext(t), ">"); err != nil {
					t.Error(err)
				}
				if err := s.Resize(20+i, 80+j); err != nil {
					t.Error(err)
				}
				if err := s.ExpectScreen(testContext(t), func(*expect.Screen) bool { return true }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Wait()
}

// A fault of the emulator is told to who waits for the screen, and to nobody else.
func TestEmulatorPanics(t *testing.T) {
	s, term := open(t, expect.Options{})
	term.print(t, "before")
	must(t, s.ExpectOnScreen(testContext(t), "before"))
	waits := make(chan error)
	term.background(func() { waits <- s.ExpectOnScreen(testContext(t), "after") })
	s.BreakEmulator()
	term.print(t, " and after\x1b[6n\r\n")
	if err := <-waits; err == nil || !strings.Contains(err.Error(), "emulator has panicked: told to") {
		t.Errorf("the wait has ended with %v", err)
	}
	must(t, s.Expect(testContext(t), "and after\n"))
	must(t, s.Resize(10, 10))
	if !s.Screen().Contains("before") {
		t.Errorf("the screen is %q", s.Screen())
	}
}
