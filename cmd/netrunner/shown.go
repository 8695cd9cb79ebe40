package main

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// appendShown appends what a command has written, as text that only shows. Printable
// characters, spaces and tabs are left as they are. Everything else is written like
// \x1b or \u202e: control characters, colors too; those that turn the direction of
// writing, or show nothing; and what is not UTF-8.
func appendShown(b, text []byte) []byte {
	for len(text) > 0 {
		ascii := 0
		for ascii < len(text) && text[ascii] >= ' ' && text[ascii] <= '~' {
			ascii++
		}
		if ascii > 0 { // nearly all of nearly every text
			b, text = append(b, text[:ascii]...), text[ascii:]
			continue
		}
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1, r < ' ' && r != '\t', r == 0x7f:
			b = fmt.Appendf(b, `\x%02x`, text[0])
		case shows(r):
			b = append(b, text[:size]...)
		case r > 0xffff:
			b = fmt.Appendf(b, `\U%08x`, r)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		text = text[size:]
	}
	return b
}

// shows reports whether a character can be seen, or is a space of some width.
func shows(r rune) bool {
	return r == '\t' || unicode.IsGraphic(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// shown is appendShown of one line: for messages, whoever has put what into them.
func shown(text string) string { return string(appendShown(nil, []byte(text))) }

const (
	tabWidth = 8
	// maxWidth is the most columns that any other character has. Terminals do not
	// agree on which ones are wide, nor on marks, so all but ASCII counts as such.
	maxWidth = 2
)

// rowLen returns how many bytes of a shown text are sure to have room in some
// columns: at least one character.
func rowLen(text []byte, columns int) int {
	if len(text) <= columns/tabWidth { // whatever it is
		return len(text)
	}
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		switch {
		case r == '\t':
			columns -= tabWidth
		case r < utf8.RuneSelf:
			columns--
		default:
			columns -= maxWidth
		}
		if columns < 0 && at > 0 {
			return at
		}
		at += size
	}
	return len(text)
}
