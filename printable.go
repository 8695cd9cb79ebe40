package netrunner

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// printable returns text from elsewhere, as a message may show it: as it is, or,
// where it would do more to a terminal than be read, as a quoted Go string. That
// is so for control characters, bytes that are no UTF-8, and what Unicode gives no
// shape: format characters turn the order of what is read, or hide in it.
func printable(text string) string {
	if utf8.ValidString(text) && strings.IndexFunc(text, unprintable) < 0 {
		return text
	}
	return strconv.Quote(text)
}

func unprintable(r rune) bool { return !strconv.IsPrint(r) }

// shown returns the text of an error as printable does.
func shown(err error) string { return printable(err.Error()) }

// shownError is an error with such a text.
type shownError struct{ err error }

func (e shownError) Error() string { return shown(e.err) }
func (e shownError) Unwrap() error { return e.err }
