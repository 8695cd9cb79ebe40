package asciicast

import (
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// fragment is the beginning of a character whose other bytes have not come yet.
type fragment struct {
	bytes [utf8.UTFMax]byte
	len   int // less than utf8.UTFMax
}

// finish appends what the held bytes have become by those that follow, and
// returns what of these is left.
func (f *fragment) finish(line, p []byte) (longer, rest []byte) {
	if f.len == 0 {
		return line, p
	}
	var joint [2 * utf8.UTFMax]byte // room for a whole character after each held byte
	n := copy(joint[:], f.bytes[:f.len])
	n += copy(joint[n:], p)
	at := 0
	for at < f.len {
		if !utf8.FullRune(joint[at:n]) { // all of p is in joint, and the character goes on
			f.len = copy(f.bytes[:], joint[at:n])
			return line, nil
		}
		c, size := utf8.DecodeRune(joint[at:n])
		line = appendRune(line, c)
		at += size
	}
	rest = p[at-f.len:]
	f.len = 0
	return line, rest
}

// appendText appends characters until the line has its full length, or the last
// one is unfinished. It returns how many bytes of p are in the line.
func appendText(line, p []byte, full int) (longer []byte, n int) {
	for n < len(p) && len(line) < full {
		if plain := plainLen(p[n:], full-len(line)); plain > 0 {
			line = append(line, p[n:n+plain]...)
			n += plain
			continue
		}
		if !utf8.FullRune(p[n:]) {
			break
		}
		c, size := utf8.DecodeRune(p[n:])
		line = appendRune(line, c)
		n += size
	}
	return line, n
}

// plainLen returns how many bytes of p, and not more than limit, are the same in JSON.
func plainLen(p []byte, limit int) int {
	for i, c := range p[:min(limit, len(p))] {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return i
		}
	}
	return min(limit, len(p))
}

func appendString(line []byte, s string) []byte {
	line = append(line, '"')
	for _, c := range s {
		line = appendRune(line, c)
	}
	return append(line, '"')
}

// appendRune escapes more than JSON asks for, since the format does: whatever
// cannot be printed. That U+0085 and U+2028 are among it matters: Python's
// splitlines takes them for the end of a line.
func appendRune(line []byte, c rune) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(line, '\\', byte(c))
	case strconv.IsPrint(c):
		return utf8.AppendRune(line, c)
	case c == '\n':
		return append(line, '\\', 'n')
	case c == '\r':
		return append(line, '\\', 'r')
	case c == '\t':
		return append(line, '\\', 't')
	case c > 0xffff: // two escapes, a surrogate pair (RFC 8259, section 7)
		high, low := utf16.EncodeRune(c)
		return appendEscape(appendEscape(line, high), low)
	default:
		return appendEscape(line, c)
	}
}

func appendEscape(line []byte, c rune) []byte {
	const hex = "0123456789abcdef"
	return append(line, '\\', 'u', hex[c>>12&15], hex[c>>8&15], hex[c>>4&15], hex[c&15])
}

// appendSeconds appends a time with microseconds, as asciinema does.
func appendSeconds(line []byte, t time.Duration) []byte {
	line = strconv.AppendInt(line, int64(t/time.Second), 10)
	line = append(line, '.')
	micros := int64(t % time.Second / time.Microsecond)
	for unit := int64(100_000); unit > 0; unit /= 10 {
		line = append(line, '0'+byte(micros/unit%10))
	}
	return line
}
