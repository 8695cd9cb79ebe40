package expect_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"time"

	"github.com/netrunner-go/netrunner/expect"
)

// play runs a program that is in this process, on a terminal in memory.
func play(program func(printf func(format string, args ...any), input *bufio.Reader)) *terminal {
	t := newTerminal()
	t.background(func() {
		program(func(format string, args ...any) { _, _ = fmt.Fprintf(t.output, format, args...) }, bufio.NewReader(t.input))
		t.exit()
	})
	return t
}

// What is driven need not be a process: here it is a function.
func ExampleNew() {
	terminal := play(func(printf func(string, ...any), input *bufio.Reader) {
		printf("\x1b[1mname:\x1b[0m ")
		name, _ := input.ReadString('\r')
		printf("%s\r\nhello, %s\r\n", name, name)
	})
	s, err := expect.New(terminal, expect.Options{Timeout: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // a terminal in memory closes

	ctx := context.Background()
	if err := s.Expect(ctx, "name: "); err != nil {
		log.Fatal(err)
	}
	if err := s.SendLine("world"); err != nil {
		log.Fatal(err)
	}
	if err := s.ExpectEOF(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Screen().Line(1))
	// Output: hello, world
}

// There is more than one way in which it can go on.
func ExampleSession_ExpectAny() {
	s, err := expect.New(play(func(printf func(string, ...any), _ *bufio.Reader) {
		printf("connecting ...\r\nPermission denied\r\n")
	}), expect.Options{Timeout: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // a terminal in memory closes

	m, err := s.ExpectAny(context.Background(), expect.Text("$ "), expect.Text("denied"), expect.EOF)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d, after %q\n", m.Index, m.Before)
	// Output: 1, after "connecting ...\nPermission "
}

// What matters of a menu is the line that is shown in reverse.
func ExampleSession_ExpectScreen() {
	s, err := expect.New(play(func(printf func(string, ...any), input *bufio.Reader) {
		printf("\x1b[2J\x1b[?1h\x1b[H\x1b[7mOpen\x1b[0m\r\nQuit")
		key, _ := input.ReadString('B') // the last of a cursor key, downwards
		printf("\x1b[HOpen\r\n\x1b[7mQuit\x1b[0m\r\nby %q", key)
	}), expect.Options{Timeout: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // a terminal in memory closes

	ctx := context.Background()
	chosen := func(item string) func(*expect.Screen) bool {
		return func(screen *expect.Screen) bool {
			row, col, found := screen.Find(item)
			return found && screen.Cell(row, col).Reverse
		}
	}
	if err := s.ExpectScreen(ctx, chosen("Open")); err != nil {
		log.Fatal(err)
	}
	if err := s.Press(expect.Down); err != nil {
		log.Fatal(err)
	}
	if err := s.ExpectScreen(ctx, chosen("Quit")); err != nil {
		log.Fatal(err)
	}
	if err := s.ExpectEOF(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Screen())
	// Output:
	// Open
	// Quit
	// by "\x1bOB"
}

// A test that has failed shows what a user would have seen.
func ExampleError() {
	s, err := expect.New(play(func(printf func(string, ...any), _ *bufio.Reader) {
		printf("\x1b[31mno such host\x1b[0m\r\n")
	}), expect.Options{Rows: 5, Cols: 40, Timeout: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // a terminal in memory closes

	fmt.Println(s.Expect(context.Background(), "password: "))
	// Output:
	// expect "password: ": EOF
	// ┌ 5 rows, 40 columns ────────────────────┐
	// │no such host                            │
	// │                                        │
	// └ cursor at 1,0, 3 empty rows below ─────┘
	// not matched: "no such host\n"
}
