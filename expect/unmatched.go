package expect

import (
	"bytes"
	"unicode/utf8"
)

const (
	// maxUnmatched is how much text is kept for a match.
	maxUnmatched = 1 << 20
	// maxUnseen is how much of it may be new when somebody looks for a match.
	// What was there is looked at again together with that, and so a match is found
	// if it is no longer than the rest: 256 KiB, with a generous margin for what
	// comes at once.
	maxUnseen = maxUnmatched / 2
)

// unmatched is the text that nothing has matched. What is in it is never
// overwritten, only cut off and appended to, so that it can be searched while more comes.
type unmatched struct {
	bytes  []byte
	start  int64 // of bytes, in all of the text
	unseen int   // came since somebody has looked
	cr     bool  // a "\r" has come that may be that of a "\r\n"
}

func (u *unmatched) text(b []byte) {
	if u.cr {
		u.cr = false
		u.append([]byte{'\r'})
	}
	u.append(b)
}

func (u *unmatched) control(c byte) {
	switch c {
	case '\r':
		u.cr = true // several are like one
	case '\n':
		u.cr = false
		u.append([]byte{c})
	case '\t', '\b':
		u.text([]byte{c})
	}
}

// end says that no more text comes.
func (u *unmatched) end() { u.text(nil) }

func (u *unmatched) append(b []byte) {
	u.unseen += len(b)
	if len(u.bytes)+len(b) > cap(u.bytes) {
		u.bytes = append(make([]byte, 0, max(4<<10, 2*(len(u.bytes)+len(b)))), u.bytes...)
	}
	u.bytes = append(u.bytes, b...)
	if over := len(u.bytes) - maxUnmatched; over > 0 {
		for over < len(u.bytes) && !utf8.RuneStart(u.bytes[over]) {
			over++
		}
		u.cut(over)
	}
}

func (u *unmatched) cut(n int) {
	u.bytes = u.bytes[n:]
	u.start += int64(n)
}

// cutTo cuts what is before a place in all of the text.
func (u *unmatched) cutTo(place int64) {
	if n := place - u.start; n > 0 {
		u.cut(int(n))
	}
	u.unseen = min(u.unseen, len(u.bytes))
}

// tail returns the last lines, as much as a message can bear.
func (u *unmatched) tail(most int) string {
	b := u.bytes
	if over := len(b) - most; over > 0 {
		b = b[over:]
		if _, after, found := bytes.Cut(b, []byte("\n")); found {
			b = after
		}
	}
	return string(bytes.ToValidUTF8(b, nil))
}
