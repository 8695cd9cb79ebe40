package expect

import (
	"strings"
	"unicode"
)

// Key is what a key sends, for [Session.Press]. A character is its own key:
// Press("q") presses q.
type Key string

// Keys.
const (
	Enter     Key = "\r"
	Tab       Key = "\t"
	ShiftTab  Key = "\x1b[Z"
	Esc       Key = "\x1b"
	Space     Key = " "
	Backspace Key = "\x7f"
	Up        Key = "\x1b[A"
	Down      Key = "\x1b[B"
	Right     Key = "\x1b[C"
	Left      Key = "\x1b[D"
	Home      Key = "\x1b[H"
	End       Key = "\x1b[F"
	Insert    Key = "\x1b[2~"
	Delete    Key = "\x1b[3~"
	PageUp    Key = "\x1b[5~"
	PageDown  Key = "\x1b[6~"
	F1        Key = "\x1bOP"
	F2        Key = "\x1bOQ"
	F3        Key = "\x1bOR"
	F4        Key = "\x1bOS"
	F5        Key = "\x1b[15~"
	F6        Key = "\x1b[17~"
	F7        Key = "\x1b[18~"
	F8        Key = "\x1b[19~"
	F9        Key = "\x1b[20~"
	F10       Key = "\x1b[21~"
	F11       Key = "\x1b[23~"
	F12       Key = "\x1b[24~"

	CtrlC Key = "\x03" // interrupts
	CtrlD Key = "\x04" // ends the input
	CtrlZ Key = "\x1a" // suspends
)

// Ctrl returns a character's key with the control key held. Where that has no
// meaning it is the character.
func Ctrl(character rune) Key {
	switch c := unicode.ToUpper(character); {
	case c >= '@' && c <= '_':
		return Key(c - '@')
	case c == ' ':
		return "\x00"
	case c == '?':
		return Backspace
	case c == '/':
		return "\x1f"
	}
	return Key(character)
}

// Alt returns a key with the alt key held.
func Alt(key Key) Key {
	const alt = "3" // by xterm's count of modifiers
	sequence := string(key)
	switch parameters, isCSI := strings.CutPrefix(sequence, "\x1b["); {
	case isCSI && len(parameters) == 1:
		return Key("\x1b[1;" + alt + parameters)
	case isCSI && strings.HasSuffix(parameters, "~"):
		return Key("\x1b[" + strings.TrimSuffix(parameters, "~") + ";" + alt + "~")
	}
	if final, isSS3 := strings.CutPrefix(sequence, "\x1bO"); isSS3 && len(final) == 1 {
		return Key("\x1b[1;" + alt + final)
	}
	return Esc + key
}

// in returns what a key sends in application cursor mode (DECCKM), if it is on.
func (k Key) in(applicationCursor bool) string {
	if applicationCursor {
		switch k {
		case Up, Down, Right, Left, Home, End:
			return "\x1bO" + string(k[2:])
		}
	}
	return string(k)
}
