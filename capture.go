package netrunner

import (
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// captureSize is how much of each end of an output is kept for an error.
const captureSize = 32 << 10

// captureDelay is how long a command runs before its standard error, if nobody
// has asked for it, is read by a goroutine. Most small commands are over by
// then, and what they have said is in the pipe: the goroutine and its wake-ups
// would cost a tenth of such a command's time.
const captureDelay = 10 * time.Millisecond

// capture reads a pipe, and keeps the first and the last bytes of what comes.
type capture struct {
	pipe  int // until the goroutine has it
	timer *time.Timer
	begun chan struct{} // closed when out is set
	done  chan struct{} // closed when the goroutine has ended
	out   *outlet

	head  []byte
	tail  []byte // a ring once it is full
	at    int    // where the ring begins
	total int64
}

func newCapture(pipe int) *capture {
	return &capture{pipe: pipe, begun: make(chan struct{}), done: make(chan struct{})}
}

// start sees to it that the command never waits for long for its standard error
// to be read, and is stopped at once when it is too much.
func (c *capture) start(r *run) {
	delay := captureDelay
	if r.limit > 0 {
		delay = 0
	}
	c.timer = time.AfterFunc(delay, func() {
		defer close(c.done)
		c.out = &outlet{file: os.NewFile(uintptr(c.pipe), "Stderr"), bytes: &r.counters.bytesErr, run: r}
		close(c.begun)
		defer c.out.file.Close()                  //nolint:errcheck // it was only read
		r.copied(c.out.copyTo(c, func(int64) {})) // never fails to write
	})
}

// end reads what is left, when the command's tree is gone.
func (c *capture) end(r *run) {
	if !c.timer.Stop() {
		<-c.begun
		c.out.end()
		<-c.done
		return
	}
	defer unix.Close(c.pipe) //nolint:errcheck // it was only read
	var buffer [4096]byte
	for rest := inPipe(c.pipe, math.MaxInt64); rest > 0; {
		n, _ := readOnce(uintptr(c.pipe), buffer[:min(rest, int64(len(buffer)))]) // EAGAIN: somebody outside the tree holds it
		if n == 0 {
			return
		}
		rest -= int64(n)
		r.counters.read(&r.counters.bytesErr, n)
		_, _ = c.Write(buffer[:r.allow(n)]) // never fails
	}
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
