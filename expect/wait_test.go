package expect_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/netrunner-go/netrunner/expect"
)

func TestExpect(t *testing.T) {
	for _, test := range []struct {
		name   string
		pieces []string
		texts  []string
	}{
		{"one after the other", []string{"one two three"}, []string{"one", "three"}},
		{"the same again", []string{"a a"}, []string{"a", "a"}},
		{"across reads", []string{"lo", "g", "in: "}, []string{"login: "}},
		{"colors in between", []string{"lo\x1b[1;31mg\x1b[0min"}, []string{"login"}},
		{"a sequence across reads", []string{"lo\x1b", "[1;", "31mgin"}, []string{"login"}},
		{"a title in between", []string{"log\x1b]0;title", "\x1b", "\\in"}, []string{"login"}},
		{"UTF-8 across reads", []string{"gr\xc3", "\xbc\xc3", "\x9fe"}, []string{"grüße"}},
		{"line ends", []string{"a\r\nb\r", "\nc\r\r\nd"}, []string{"a\nb\nc\nd"}},
		{"a sequence in a line end", []string{"a\r\x1b[K\nb"}, []string{"a\nb"}},
		{"carriage returns", []string{"10%\r20%\r", "\r", "30%"}, []string{"10%\r20%\r30%"}},
		{"NULs and bells", []string{"a\x00b\x07c\x00"}, []string{"abc"}},
		{"tabs and backspaces", []string{"a\tb\bc"}, []string{"a\tb\bc"}},
		{"broken UTF-8", []string{"a\xffb\xc3(\xe2\x82"}, []string{"a\ufffdb\ufffd("}},
		{"an empty text", []string{"a"}, []string{"", "a", ""}},
		{"an empty text before anything", nil, []string{""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, term := open(t, expect.Options{})
			term.background(func() { term.print(t, test.pieces...) })
			for _, text := range test.texts {
				must(t, s.Expect(testContext(t), text))
			}
		})
	}
}

func TestExpectUsesUpWhatHasMatched(t *testing.T) {
	s, term := open(t, expect.Options{})
	term.print(t, "one two")
	must(t, s.Expect(testContext(t), "two"))
	term.print(t, " three")
	must(t, s.Expect(testContext(t), "three"))
	err := s.Expect(ended(t), "one")
	if failed := failure(t, err, errTest); failed.Unmatched != "" {
		t.Errorf("unmatched is %q", failed.Unmatched)
	}
}

func TestExpectRegexp(t *testing.T) {
	s, term := open(t, expect.Options{})
	term.background(func() { term.print(t, "job 1", "7 of \x1b[1m20\x1b[m\r", "\n$ ") })
	groups, err := s.ExpectRegexp(testContext(t), regexp.MustCompile(`(?m)^job (\d+) of (\d+)(,.*)?$\n`))
	must(t, err)
	if want := []string{"job 17 of 20\n", "17", "20", ""}; !reflect.DeepEqual(groups, want) {
		t.Errorf("the groups are %q, want %q", groups, want)
	}
	if _, err := s.ExpectRegexp(testContext(t), regexp.MustCompile(`^\$ `)); err != nil {
		t.Errorf("^ after a match: %v", err)
	}
	if groups, err := s.ExpectRegexp(testContext(t), regexp.MustCompile(``)); err != nil || len(groups) != 1 {
		t.Errorf("an empty expression: %q, %v", groups, err)
	}
}

func TestExpectAny(t *testing.T) {
	re := func(expression string) expect.Pattern { return expect.Regexp(regexp.MustCompile(expression)) }
	for _, test := range []struct {
		name     string
		patterns []expect.Pattern
		want     expect.Match
	}{
		{"the only one", []expect.Pattern{expect.Text("no"), expect.Text("cd")}, expect.Match{Index: 1, Before: "ab", Groups: []string{"cd"}}},
		{"the one that ends first", []expect.Pattern{expect.Text("bcde"), expect.Text("cd")}, expect.Match{Index: 1, Before: "ab", Groups: []string{"cd"}}},
		{"the first of those", []expect.Pattern{re("c(d)"), expect.Text("bcd")}, expect.Match{Index: 0, Before: "ab", Groups: []string{"cd", "d"}}},
		{"text before the end", []expect.Pattern{expect.EOF, expect.Text("f")}, expect.Match{Index: 1, Before: "abcde", Groups: []string{"f"}}},
		{"the end", []expect.Pattern{expect.Text("x"), expect.EOF}, expect.Match{Index: 1, Before: "abcdef", Groups: []string{""}}},
		{"the end by itself", []expect.Pattern{expect.EOF}, expect.Match{Index: 0, Before: "abcdef", Groups: []string{""}}},
		{"an expression at the end", []expect.Pattern{expect.EOF, re(`\z`)}, expect.Match{Index: 1, Before: "abcdef", Groups: []string{""}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, term := open(t, expect.Options{})
			term.print(t, "abcdef")
			term.exit()
			awaitEnd(t, s)
			m, err := s.ExpectAny(testContext(t), test.patterns...)
			must(t, err)
			if !reflect.DeepEqual(m, test.want) {
				t.Errorf("the match is %+v, want %+v", m, test.want)
			}
		})
	}
}

// awaitEnd waits for the end of the output without using it up.
func awaitEnd(t *testing.T, s *expect.Session) {
	t.Helper()
	fails(t, s.ExpectScreen(testContext(t), func(*expect.Screen) bool { return false }), io.EOF)
}

func TestExpectNothing(t *testing.T) {
	s, _ := open(t, expect.Options{})
	for name, patterns := range map[string][]expect.Pattern{"none": nil, "a nil expression": {expect.Text("x"), expect.Regexp(nil)}} {
		m, err := s.ExpectAny(testContext(t), patterns...)
		if err == nil || m.Index != -1 || !strings.Contains(err.Error(), "nothing to wait for") {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestExpectEOF(t *testing.T) {
	for _, test := range []struct {
		name  string
		error error // of Read
		want  error
	}{
		{"EOF", io.EOF, nil},
		{"EIO", &os.PathError{Op: "read", Path: "/dev/ptmx", Err: syscall.EIO}, nil},
		{"wrapped", fmt.Errorf("all read: %w", io.EOF), nil},
		{"another error", errTest, errTest},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, term := open(t, expect.Options{})
			term.print(t, "last words\xc3")
			_ = term.output.CloseWithError(test.error)
			err := s.ExpectEOF(testContext(t))
			if test.want == nil {
				must(t, err)
				must(t, s.ExpectEOF(testContext(t))) // it stays at its end
				fails(t, s.Expect(testContext(t), "last"), io.EOF)
				return
			}
			if failed := failure(t, err, test.want); failed.Unmatched != "last words\ufffd" {
				t.Errorf("unmatched is %q", failed.Unmatched)
			}
		})
	}
}

func TestExpectFailsAtTheEnd(t *testing.T) {
	s, term := open(t, expect.Options{Rows: 3, Cols: 20})
	term.background(func() {
		term.print(t, "\x1b[31mno such", " file\r\nbye\r")
		term.exit()
	})
	failed := failure(t, s.Expect(testContext(t), "done"), io.EOF)
	if failed.Want != `"done"` || failed.Unmatched != "no such file\nbye\r" || failed.Screen.Line(0) != "no such file" {
		t.Errorf("the error is %+v", failed)
	}
	fails(t, s.ExpectOnScreen(testContext(t), "done"), io.EOF)
	must(t, s.ExpectOnScreen(testContext(t), "no such file\nbye"))
	must(t, s.Expect(testContext(t), "bye")) // what there is can still be matched
}

func TestErrorShowsTheScreen(t *testing.T) {
	s, term := open(t, expect.Options{Rows: 5, Cols: 40})
	term.print(t, "\x1b[31mtwo 中文\x1b[m\r\nlogin: \x1b[?25l")
	must(t, s.ExpectOnScreen(testContext(t), "login:"))
	err := s.Expect(ended(t), "password: ")
	want := `expect "password: ": a reason of the test
┌ 5 rows, 40 columns ────────────────────┐
│two 中文                                │
│login:                                  │
└ cursor at 1,7, hidden, 3 empty rows below ┘
not matched: "two 中文\nlogin: "`
	if err.Error() != want {
		t.Errorf("the error is\n%s\nwant\n%s", err, want)
	}
	must(t, s.Expect(testContext(t), "login"))
	err = s.ExpectScreen(ended(t), func(*expect.Screen) bool { return false })
	if !strings.HasPrefix(err.Error(), "expect a screen: ") {
		t.Errorf("the error is %v", err)
	}
}

func TestErrorWithManyLines(t *testing.T) {
	s, term := open(t, expect.Options{})
	for i := range 3000 {
		term.print(t, fmt.Sprintf("line %d\r\n", i))
	}
	must(t, s.ExpectOnScreen(testContext(t), "line 2999"))
	err := s.Expect(ended(t), "nothing")
	if failed := failure(t, err, errTest); len(failed.Unmatched) > 4<<10 || !strings.HasPrefix(failed.Unmatched, "line 2") {
		t.Errorf("unmatched is %d bytes, %.20q…", len(failed.Unmatched), failed.Unmatched)
	}
	if text := err.Error(); !strings.HasSuffix(text, `\nline 2999\n"`) || !strings.Contains(text, `not matched: … "line 2991\n`) {
		t.Errorf("the error is %s", text)
	}
	must(t, s.Expect(testContext(t), "line 0\n")) // all of it is still there
}

func TestExpectWithContexts(t *testing.T) {
	s, term := open(t, expect.Options{})
	term.print(t, "prompt")
	must(t, s.ExpectOnScreen(testContext(t), "prompt"))

	failed := failure(t, s.Expect(ended(t), "other"), errTest)
	if !errors.Is(failed, context.Canceled) {
		t.Errorf("%v is not context.Canceled", failed.Err)
	}
	fails(t, s.ExpectOnScreen(ended(t), "other"), errTest)
	must(t, s.Expect(ended(t), "prompt")) // what is there is found all the same
	must(t, s.ExpectOnScreen(ended(t), "prompt"))

	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	fails(t, s.Expect(short, "other"), context.DeadlineExceeded)
	fails(t, s.ExpectOnScreen(short, "other"), context.DeadlineExceeded)

	caused, cancelCaused := context.WithTimeoutCause(t.Context(), time.Millisecond, errTest)
	defer cancelCaused()
	failed = failure(t, s.ExpectEOF(caused), context.DeadlineExceeded)
	if failed.Err != errTest {
		t.Errorf("the cause is %v", failed.Err)
	}
}

// A cause need not be comparable.
func TestExpectWithAnOddCause(t *testing.T) {
	s, _ := open(t, expect.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(oddError{"odd"})
	fails(t, s.Expect(ctx, "x"), context.Canceled)
}

type oddError []string

func (e oddError) Error() string { return e[0] }

func TestTimeout(t *testing.T) {
	s, _ := open(t, expect.Options{Timeout: 20 * time.Millisecond})
	for name, err := range map[string]error{
		"text":   s.Expect(t.Context(), "x"),
		"screen": s.ExpectOnScreen(t.Context(), "x"),
		"end":    s.ExpectEOF(t.Context()),
	} {
		if fails(t, err, context.DeadlineExceeded); !strings.Contains(err.Error(), "deadline exceeded after 20ms\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who waits for text while somebody else does has to wait, but not without end.
func TestExpectTakesTurns(t *testing.T) {
	s, term := open(t, expect.Options{})
	first := make(chan error)
	term.background(func() {
		_, err := s.ExpectRegexp(testContext(t), regexp.MustCompile(`first`))
		first <- err
	})
	for { // until the other has its turn
		if err := s.Expect(ended(t), "never"); !errors.Is(err, errTest) {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		err := s.Expect(short, "")
		cancel()
		if err != nil {
			fails(t, err, context.DeadlineExceeded)
			break
		}
	}
	second := make(chan error)
	term.background(func() { second <- s.Expect(testContext(t), "second") })
	must(t, s.ExpectScreen(testContext(t), func(*expect.Screen) bool { return true })) // needs no turn
	term.print(t, "second first second")
	must(t, <-first)
	must(t, <-second)
}
