package expect_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/netrunner-go/netrunner/expect"
)

// Whatever a program writes, a wait ends with its context, and Close does not wait
// for all that has come. Both are prompt; the test gives busy machines more time,
// but less than one read of these took when it was drawn at one go.
func TestFloodHoldsUpNobody(t *testing.T) {
	const (
		timeout = 200 * time.Millisecond
		late    = 5 * time.Second
	)
	for _, test := range []struct{ name, begin, flood string }{
		{"a repeated character", "", "a\x1b[9999b"},
		{"many times", "a", "\x1b[9999b"},
		{"one beyond ASCII", "", "ä\x1b[9999b"},
		{"a wide one", "", "世\x1b[9999b"},
		{"more than there are numbers", "", "a\x1b[99999999999999999999b"},
		{"lines that scroll", "", "\n"},
		{"lines like stairs", "", "x\n"},
		{"tabs of lines", "", "\v\f"},
		{"lines in margins", "\x1b[2;59r\x1b[59H", "\n"},
		{"lines and returns in margins", "\x1b[2;59r\x1b[59H", "x\r\n"},
		{"lines between sides", "\x1b[?69h\x1b[2;239s\x1b[60H", "\n"},
		{"lines after all returns", strings.Repeat("x\r\n", 200), "\n"},
		{"an index", "\x1b[60H", "\x1bD"},
		{"an index upwards", "\x1b[1H", "\x1bM"},
		{"resets", "", "\x1bc"},
		{"the screen cleared", "", "\x1b[2J"},
		{"all above cleared", "\x1b[60;240H", "\x1b[1J"},
		{"the other screen", "", "\x1b[?1049h\x1b[?1049l"},
		{"many modes at once", "", "\x1b[?" + strings.Repeat("1049;", 700) + "1049h"},
		{"characters inserted", "", "\x1b[9999@"},
		{"lines inserted", "", "\x1b[9999L"},
		{"lines deleted", "", "\x1b[9999M"},
		{"characters deleted", "", "\x1b[9999P"},
		{"scrolled up", "", "\x1b[9999S"},
		{"scrolled down", "", "\x1b[9999T"},
		{"characters erased", "", "\x1b[9999X"},
		{"tabs", "", "\x1b[9999I"},
		{"tabs back", "", "\x1b[9999Z"},
		{"colors", "", "\x1b[1;2;3;4;5;6;7;8m"},
		{"wide text", "", "世界"},
		{"marks", "", "e\u0301\u0302"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, term := open(t, expect.Options{Rows: 60, Cols: 240})
			flood := test.begin + strings.Repeat(test.flood, 64<<10/len(test.flood))
			term.print(t, flood[:len(test.begin)+len(test.flood)])
			term.background(func() {
				for {
					if _, err := io.WriteString(term.output, flood); err != nil {
						return
					}
				}
			})
			for name, wait := range map[string]func(context.Context) error{
				"text":   func(ctx context.Context) error { return s.Expect(ctx, "never") },
				"screen": func(ctx context.Context) error { return s.ExpectOnScreen(ctx, "never") },
			} {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				start := time.Now()
				err := wait(ctx)
				cancel()
				if took := time.Since(start); took > late || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a wait for %s of %v took %v: %.100v", name, timeout, took, err)
				}
			}
			start := time.Now()
			must(t, s.Close())
			if took := time.Since(start); took > late {
				t.Errorf("Close took %v", took)
			}
		})
	}
}
