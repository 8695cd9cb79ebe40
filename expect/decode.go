package expect

import (
	"unicode/utf8"
)

// maxSequence is how long an escape sequence may be. A longer one, which could
// only be a picture or the clipboard, is skipped.
const maxSequence = 4 << 10

// Characters that end or begin something.
const (
	bell       = '\a'
	cancel     = 0x18
	substitute = 0x1a
	escape     = 0x1b
	rubout     = 0x7f
)

// sink takes what a decoder finds, in its order. The slices are its own only
// until it returns.
type sink interface {
	text(printable []byte) // valid UTF-8
	control(c byte)        // below 0x20
	sequence(seq []byte)   // from its ESC to its end, and well formed
}

// decoder divides output into text, control characters and escape sequences,
// whatever pieces it comes in. The emulator has a parser too; ours exists because
// text is needed without a screen, and because that one takes the bytes of UTF-8
// for control characters: 0x9c, which ends a title at the first "✓" (0xe2 0x9c 0x93).
type decoder struct {
	state   decoderState
	seq     []byte
	skip    bool   // the sequence is too long or makes no sense
	partial []byte // a character whose rest has not come
}

type decoderState uint8

const (
	inText      decoderState = iota
	inEscape                 // after ESC, and what is between it and a final byte
	inCSI                    // after ESC [
	inString                 // after ESC ] and the like
	inStringESC              // after an ESC in there, which should be that of its end
)

func (d *decoder) decode(b []byte, to sink) {
	if len(d.partial) > 0 {
		b = append(d.partial, b...)
		d.partial = nil
	}
	for len(b) > 0 {
		if d.state == inText {
			b = b[d.plain(b, to):]
			continue
		}
		if b[0] >= utf8.RuneSelf && d.state != inString {
			// No terminal with UTF-8 knows 8-bit control characters, so this is
			// text, and the sequence before it is cut off.
			d.state = inText
			continue
		}
		d.sequenceByte(b[0], to)
		b = b[1:]
	}
}

// end says that no more output comes.
func (d *decoder) end(to sink) {
	if len(d.partial) > 0 {
		to.text([]byte(string(utf8.RuneError)))
		d.partial = nil
	}
}

// plain decodes what is at the front of b, outside of sequences, and returns its length.
func (d *decoder) plain(b []byte, to sink) int {
	if n := printable(b); n > 0 {
		to.text(b[:n])
		return n
	}
	switch c := b[0]; {
	case c == escape:
		d.begin(inEscape)
		return 1
	case c < ' ':
		to.control(c)
		return 1
	case c == rubout:
		return 1 // a terminal ignores it
	case !utf8.FullRune(b):
		d.partial = append(d.partial, b...)
		return len(b)
	}
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError && n == 1 {
		to.text([]byte(string(utf8.RuneError)))
	}
	return n // or it is one of U+0080 to U+009f, which show nothing
}

// printable returns how much of the front of b is valid and printable.
func printable(b []byte) (n int) {
	for n < len(b) {
		if c := b[n]; c < utf8.RuneSelf {
			if c < ' ' || c == rubout {
				return n
			}
			n++
			continue
		}
		r, size := utf8.DecodeRune(b[n:])
		if size == 1 || r < 0xa0 {
			return n
		}
		n += size
	}
	return n
}

func (d *decoder) begin(state decoderState) {
	d.state = state
	if state == inEscape {
		d.seq = append(d.seq[:0], escape)
		d.skip = false
	}
}

func (d *decoder) collect(c byte) {
	if len(d.seq) >= maxSequence {
		d.skip = true
		return
	}
	d.seq = append(d.seq, c)
}

// finish hands the sequence on, unless it is to be skipped.
func (d *decoder) finish(to sink) {
	d.state = inText
	if !d.skip {
		to.sequence(d.seq)
	}
}

// sequenceByte takes a byte within a sequence, the way a VT500 does
// (https://vt100.net/emu/dec_ansi_parser).
func (d *decoder) sequenceByte(c byte, to sink) {
	switch {
	case c == cancel || c == substitute:
		d.state = inText
		return
	case c == escape && d.state == inString:
		d.state = inStringESC
		return
	case c == escape:
		d.begin(inEscape)
		return
	}
	switch d.state {
	case inEscape:
		d.escapeByte(c, to)
	case inCSI:
		d.csiByte(c, to)
	case inString:
		if c == bell && d.seq[1] == ']' {
			d.finish(to)
		} else if c >= ' ' {
			d.collect(c)
		}
	case inStringESC:
		if c == '\\' {
			d.finish(to)
			return
		}
		d.begin(inEscape) // the string was not ended, and is void
		d.escapeByte(c, to)
	}
}

func (d *decoder) escapeByte(c byte, to sink) {
	switch {
	case c < ' ':
		to.control(c)
		return
	case c == rubout:
		return
	}
	d.collect(c)
	if c < '0' { // an intermediate byte
		return
	}
	if len(d.seq) == 2 {
		switch c {
		case '[':
			d.state = inCSI
			return
		case ']', 'P', 'X', '^', '_':
			d.state = inString
			return
		}
	}
	d.finish(to)
}

func (d *decoder) csiByte(c byte, to sink) {
	switch {
	case c < ' ':
		to.control(c)
		return
	case c == rubout:
		return
	case c >= '0' && c < '@':
		last := d.seq[len(d.seq)-1]
		isPrefix := c >= '<'
		if last < '0' || isPrefix && len(d.seq) > 2 {
			d.skip = true // a parameter after an intermediate byte, or a prefix after a parameter
		}
	}
	d.collect(c)
	if c >= '@' {
		d.finish(to)
	}
}
