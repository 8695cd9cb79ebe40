package expect_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/netrunner-go/netrunner/expect"
)

func TestSend(t *testing.T) {
	s, term := open(t, expect.Options{})
	term.background(func() {
		for _, err := range []error{s.Send("raw\x00\xff"), s.SendLine("line"), s.SendLine(""), s.Press(expect.CtrlC, "q", expect.F5)} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	term.gets(t, "raw\x00\xffline\r\r\x03q\x1b[15~")
}

func TestSendToNobody(t *testing.T) {
	s, term := open(t, expect.Options{})
	_ = term.input.CloseWithError(errTest)
	for name, err := range map[string]error{"Send": s.Send("x"), "SendLine": s.SendLine("x"), "Press": s.Press(expect.Enter)} {
		if !errors.Is(err, errTest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, test := range []struct {
		key  expect.Key
		want string
	}{
		{expect.Ctrl('d'), "\x04"},
		{expect.Ctrl('D'), "\x04"},
		{expect.Ctrl('@'), "\x00"},
		{expect.Ctrl(' '), "\x00"},
		{expect.Ctrl('\\'), "\x1c"},
		{expect.Ctrl('_'), "\x1f"},
		{expect.Ctrl('/'), "\x1f"},
		{expect.Ctrl('?'), "\x7f"},
		{expect.Ctrl('ä'), "ä"},
		{expect.Ctrl('1'), "1"},
		{expect.Alt("x"), "\x1bx"},
		{expect.Alt("é"), "\x1bé"},
		{expect.Alt(expect.Enter), "\x1b\r"},
		{expect.Alt(expect.Ctrl('a')), "\x1b\x01"},
		{expect.Alt(expect.Left), "\x1b[1;3D"},
		{expect.Alt(expect.Delete), "\x1b[3;3~"},
		{expect.Alt(expect.F1), "\x1b[1;3P"},
		{expect.Alt(expect.F12), "\x1b[24;3~"},
		{expect.Alt(""), "\x1b"},
	} {
		if string(test.key) != test.want {
			t.Errorf("%q, want %q", test.key, test.want)
		}
	}
}

func TestPressAsTheProgramHasAsked(t *testing.T) {
	s, term := open(t, expect.Options{})
	press := func(keys ...expect.Key) {
		term.background(func() {
			if err := s.Press(keys...); err != nil {
				t.Error(err)
			}
		})
	}
	all := []expect.Key{expect.Up, expect.Down, expect.Right, expect.Left, expect.Home, expect.End, expect.PageUp, expect.F1, expect.Alt(expect.Up)}
	const normal, application = "\x1b[A\x1b[B\x1b[C\x1b[D\x1b[H\x1b[F\x1b[5~\x1bOP\x1b[1;3A", "\x1bOA\x1bOB\x1bOC\x1bOD\x1bOH\x1bOF\x1b[5~\x1bOP\x1b[1;3A"
	press(all...)
	term.gets(t, normal)
	for _, mode := range []struct{ output, want string }{
		{"\x1b[?1h", application},
		{"\x1b[?1l", normal},
		{"\x1b[?25;1h", application},
		{"\x1bc", normal},
	} {
		term.print(t, mode.output+"ready")
		must(t, s.Expect(testContext(t), "ready"))
		press(all...)
		term.gets(t, mode.want)
	}
}

func TestReplies(t *testing.T) {
	s, term := open(t, expect.Options{Rows: 10, Cols: 40})
	for _, test := range []struct{ name, asked, answer string }{
		{"cursor", "\x1b[3;7Habc\x1b[6n", "\x1b[3;10R"},
		{"cursor after text that nobody has looked at", "\x1b[H" + strings.Repeat("x\r\n", 100) + "yz\x1b[6n", "\x1b[10;3R"},
		{"size", "\x1b[999;999H\x1b[6n", "\x1b[10;40R"},
		{"size by itself", "\x1b[18t", "\x1b[8;10;40t"},
		{"status", "\x1b[5n", "\x1b[0n"},
		{"attributes", "\x1b[c", "\x1b[?62;1;6;22c"},
		{"mode", "\x1b[?7$p", "\x1b[?7;1$y"},
		{"background", "\x1b]11;?\x1b\\", "\x1b]11;rgb:0000/0000/0000\x07"},
	} {
		t.Run(test.name, func(t *testing.T) {
			term.print(t, test.asked)
			term.gets(t, test.answer)
		})
	}
	must(t, s.Send("")) // which needs nobody who reads
}

// A program that asks and does not listen is read all the same.
func TestRepliesThatNobodyReads(t *testing.T) {
	s, term := open(t, expect.Options{})
	for range 100 {
		term.print(t, strings.Repeat("\x1b[6n", 100))
	}
	term.print(t, "done")
	must(t, s.Expect(testContext(t), "done"))
	term.background(func() { _, _ = io.Copy(io.Discard, term.input) })
	must(t, s.Send("x"))
}
