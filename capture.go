package netrunner

import "fmt"

// captureSize is how much of each end of an output is kept for an error.
const captureSize = 32 << 10

// capture keeps the first and the last bytes that were written to it.
type capture struct {
	head  []byte
	tail  []byte // a ring once it is full
	at    int    // where the ring begins
	total int64
}

func (c *capture) Write(b []byte) (int, error) {
	n := len(b)
	c.total += int64(n)
	if room := captureSize - len(c.head); room > 0 {
		room = min(room, len(b))
		c.head = append(c.head, b[:room]...)
		b = b[room:]
	}
	b = b[max(0, len(b)-captureSize):]
	room := min(captureSize-len(c.tail), len(b))
	c.tail = append(c.tail, b[:room]...)
	for b = b[room:]; len(b) > 0; {
		n := copy(c.tail[c.at:], b)
		b = b[n:]
		c.at = (c.at + n) % captureSize
	}
	return n, nil
}

// bytes returns what was kept, with a note in the place of what was not.
func (c *capture) bytes() []byte {
	all := c.head
	if missing := c.total - int64(len(c.head)+len(c.tail)); missing > 0 {
		all = fmt.Appendf(all, "\n… %d bytes left out …\n", missing)
	}
	all = append(all, c.tail[c.at:]...)
	return append(all, c.tail[:c.at]...)
}
