package expect

import (
	"fmt"
	"strings"
)

// maxShown is how much of the unmatched text an Error keeps.
const maxShown = 4 << 10

// Error says that something has not come. It wraps the reason.
type Error struct {
	// Want is what was waited for, like `"login: "`.
	Want string

	// Err is why the wait has ended: the cause of its context (context.Cause), which
	// is context.DeadlineExceeded after Options.Timeout; io.EOF when the output is at
	// its end; os.ErrClosed after Close; or why the output could not be read.
	Err error

	// Screen is what a user saw at that moment.
	Screen *Screen

	// Unmatched is the last of the text that nothing has matched, at most 4 KiB.
	Unmatched string

	ended error // context.Canceled or context.DeadlineExceeded, if the context has ended
}

// Error says what was waited for and why in vain, and shows the screen and the last
// lines that nothing has matched.
func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "expect %s: %v", e.Want, e.Err)
	if e.Screen != nil {
		fmt.Fprintf(&text, "\n%s", e.Screen.Box())
	}
	const most = 10
	lines := strings.Split(e.Unmatched, "\n")
	switch {
	case e.Unmatched == "":
		text.WriteString("\nall text has been matched")
	case len(lines) > most:
		fmt.Fprintf(&text, "\nnot matched: … %q", strings.Join(lines[len(lines)-most:], "\n"))
	default:
		fmt.Fprintf(&text, "\nnot matched: %q", e.Unmatched)
	}
	return text.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Is says whether the target is why the context has ended. Its cause need not be
// that, and who asks for context.DeadlineExceeded wants to know it all the same.
func (e *Error) Is(target error) bool { return e.ended != nil && e.ended == target }

// Box returns the screen in a frame, for a message. Below it are the place of the
// cursor, and how many rows were left out because there is nothing in them.
func (s *Screen) Box() string {
	var box strings.Builder
	border := func(left, right, text string) {
		if text != "" {
			text = " " + text + " "
		}
		width := s.cols - len([]rune(text))
		fmt.Fprintf(&box, "%s%s%s%s", left, text, strings.Repeat("─", max(width, 0)), right)
	}
	border("┌", "┐", fmt.Sprintf("%d rows, %d columns", s.rows, s.cols))
	last := s.rows - 1
	for last > s.cursor.Row && s.Line(last) == "" {
		last--
	}
	for row := range last + 1 {
		// All cells, and not the line: it is as wide as the screen.
		fmt.Fprintf(&box, "\n│%s│", textOf(s.row(row)))
	}
	below := fmt.Sprintf("cursor at %d,%d", s.cursor.Row, s.cursor.Col)
	if s.cursor.Hidden {
		below += ", hidden"
	}
	if empty := s.rows - 1 - last; empty > 0 {
		below += fmt.Sprintf(", %d empty rows below", empty)
	}
	box.WriteByte('\n')
	border("└", "┘", below)
	return box.String()
}
