package netrunner

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
)

// DefaultMaxLine is how long a line may be, in bytes, when [Cmd.MaxLine] is zero.
const DefaultMaxLine = 1 << 20

// A loop's buffer grows from the first to the second as long as reads fill it:
// a thousand commands that say little cost little. The second is a pipe's usual
// capacity, and no read brings more (man 7 pipe).
const (
	firstChunkSize = 4 << 10
	chunkSize      = 64 << 10
)

// Stream names where output comes from: Stdout, Stderr, or, to ask for them, both:
// Stdout | Stderr.
type Stream uint8

// The streams.
const (
	Stdout Stream = 1 << iota
	Stderr
)

// String returns the field's name in lower case.
func (s Stream) String() string {
	switch s {
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	case Stdout | Stderr:
		return "stdout and stderr"
	}
	return fmt.Sprintf("stream %d", uint8(s))
}

// Output is a line or a chunk, and where it comes from.
type Output struct {
	From Stream
	Data []byte // valid until the next one is asked for
}

// Lines runs the command, each time it is ranged over, and yields the lines of
// its standard output, without "\n" or "\r\n". The last need not have one. A line
// is valid until the next is asked for. Nothing is read before it is asked for:
// a command that is ahead waits in the kernel's pipe.
//
// When the command fails, the last that is yielded is its error, as [Process.Wait]
// returns it, or a [*StartError]. A line of more than MaxLine bytes ends the loop
// with [bufio.ErrTooLong], and comes with as much of it as was allowed. A loop
// that is left early, or that panics, stops the command and waits until its tree
// is gone; the command's own error is then nobody's.
//
// Stdout must be nil or Pipe, Stdin must not be Pipe.
func (c *Cmd) Lines(ctx context.Context) iter.Seq2[[]byte, error] {
	return onlyData(c.OutputLines(ctx, Stdout))
}

// Chunks is like Lines, and yields what comes as it comes, in pieces of at most
// 64 KiB, or of PipeSize.
func (c *Cmd) Chunks(ctx context.Context) iter.Seq2[[]byte, error] {
	return onlyData(c.OutputChunks(ctx, Stdout))
}

// OutputLines is like Lines for the streams that are asked for. Two of them come
// in the order of their arrival, as far as two pipes allow to know it: what comes
// in one piece is not torn apart, and each stream keeps its own order. Of each
// stream one chunk may be read before it is asked for.
//
// The fields of the streams that are asked for, Stdout or Stderr, must be nil or Pipe.
func (c *Cmd) OutputLines(ctx context.Context, from Stream) iter.Seq2[Output, error] {
	return func(yield func(Output, error) bool) { c.iterate(ctx, from, true, yield) }
}

// OutputChunks is like OutputLines, and yields what comes as it comes.
func (c *Cmd) OutputChunks(ctx context.Context, from Stream) iter.Seq2[Output, error] {
	return func(yield func(Output, error) bool) { c.iterate(ctx, from, false, yield) }
}

func onlyData(all iter.Seq2[Output, error]) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		all(func(o Output, err error) bool { return yield(o.Data, err) })
	}
}

// iterate is one loop from its start to its end.
func (c *Cmd) iterate(ctx context.Context, from Stream, lines bool, yield func(Output, error) bool) {
	p, err := c.startIterated(ctx, from)
	if err != nil {
		yield(Output{}, err)
		return
	}
	var sources []*source
	for _, s := range []*source{{reader: p.Stdout(), from: Stdout}, {reader: p.Stderr(), from: Stderr}} {
		if from&s.from != 0 {
			s.divide = s.pending.all
			if lines {
				s.divide = s.pending.line
				s.pending.limit = max(c.MaxLine, 0)
				if c.MaxLine == 0 {
					s.pending.limit = DefaultMaxLine
				}
			}
			s.pending.most = max(chunkSize, c.PipeSize)
			sources = append(sources, s)
		}
	}
	left := true // early, also by a panic in the loop
	defer func() {
		for _, s := range sources {
			_ = s.reader.Close()
		}
		if left {
			_ = p.Stop(context.Background())
		}
	}()
	whole := func() bool {
		if len(sources) == 1 {
			return sources[0].yieldAll(yield)
		}
		return yieldBoth(sources, yield)
	}()
	if !whole {
		return
	}
	left = false
	if _, err := p.Wait(); err != nil {
		yield(Output{}, err)
	}
}

func (c *Cmd) startIterated(ctx context.Context, from Stream) (*Process, error) {
	if from == 0 || from&^(Stdout|Stderr) != 0 {
		return nil, c.notStarted(ctx, c.startError("check", from.String(), errUnknown))
	}
	if c.Stdin == Pipe {
		return nil, c.notStarted(ctx, c.startError("check", "Stdin", errUnreachable))
	}
	piped := *c
	for _, output := range []struct {
		stream Stream
		name   string
		field  *io.Writer
	}{{Stdout, "Stdout", &piped.Stdout}, {Stderr, "Stderr", &piped.Stderr}} {
		if from&output.stream == 0 {
			if *output.field == Pipe {
				return nil, c.notStarted(ctx, c.startError("check", output.name, errUnreachable))
			}
			continue
		}
		if *output.field != nil && *output.field != Pipe {
			return nil, c.notStarted(ctx, c.startError("check", output.name, errAlreadySet))
		}
		*output.field = Pipe
	}
	return piped.Start(ctx)
}

var errUnreachable = errors.New("is a pipe that nobody has the other end of")

// source is one stream of a loop.
type source struct {
	reader  *PipeReader
	from    Stream
	pending pending
	divide  func(atEnd bool) ([]byte, error) // the next piece of what is pending; nil when more must be read
	ended   bool
	panic   *PanicError // of a terminal's recording, which whoever reads writes
}

// read brings more into pending. That the output is at its end, by whatever
// error, is told by Wait, since a limit or a context that has ended it is known there.
func (s *source) read() {
	room := s.pending.room()
	n, err := s.reader.Read(room)
	s.pending.end += n
	s.pending.filled = n == len(room)
	s.ended = err != nil
}

// yieldPending yields what is there. It returns false when the loop is to end.
func (s *source) yieldPending(yield func(Output, error) bool) bool {
	for {
		data, err := s.divide(s.ended)
		if err != nil {
			yield(Output{s.from, data}, fmt.Errorf("%q: %v: %w: over %d bytes", s.reader.process.run.name, s.from, err, s.pending.limit))
			return false
		}
		if data == nil {
			return true
		}
		if !yield(Output{s.from, data}, nil) {
			return false
		}
	}
}

// yieldAll is the loop over one stream. It reads in the caller's goroutine.
func (s *source) yieldAll(yield func(Output, error) bool) bool {
	for !s.ended {
		s.read()
		if !s.yieldPending(yield) {
			return false
		}
	}
	return true
}

// yieldBoth is the loop over several. A goroutine each reads, and waits until
// that has been used before it reads again.
func yieldBoth(sources []*source, yield func(Output, error) bool) bool {
	arrived := make(chan *source)
	left := make(chan struct{})
	again := make([]chan struct{}, len(sources))
	var readers sync.WaitGroup
	defer readers.Wait()
	defer func() {
		close(left)
		for _, s := range sources {
			_ = s.reader.Close() // wakes who reads
		}
	}()
	for i, s := range sources {
		again[i] = make(chan struct{})
		readers.Go(func() {
			tell := func() (told bool) {
				select {
				case arrived <- s:
					return true
				case <-left:
					return false
				}
			}
			guard(s.reader.process.run, func() {
				for ended := false; !ended; {
					s.read()
					ended = s.ended
					if !tell() {
						return
					}
					select {
					case <-again[i]:
					case <-left:
						return
					}
				}
			}, func(p *PanicError) {
				s.panic = p
				tell()
			})
		})
	}
	for open := len(sources); open > 0; {
		s := <-arrived
		if s.panic != nil {
			panic(s.panic)
		}
		if s.ended {
			open--
		}
		if !s.yieldPending(yield) {
			return false
		}
		for i := range sources {
			if sources[i] == s {
				again[i] <- struct{}{}
			}
		}
	}
	return true
}

// pending is what was read and not yet yielded: data[start:end].
type pending struct {
	data       []byte
	start, end int
	searched   int  // up to here there is no end of a line
	limit      int  // of a line
	most       int  // of data, unless a line needs more
	filled     bool // by the last read
}

// room returns where to read to. What is pending moves to the front, and gets
// more room when it takes half of it.
func (p *pending) room() []byte {
	size := max(len(p.data), firstChunkSize)
	if p.filled && size < p.most || p.end-p.start > size/2 {
		size *= 2
	}
	if size > len(p.data) {
		larger := make([]byte, size)
		copy(larger, p.data[p.start:p.end])
		p.data = larger
	} else if p.start > 0 {
		copy(p.data, p.data[p.start:p.end])
	}
	p.end -= p.start
	p.searched -= p.start
	p.start = 0
	return p.data[p.end:]
}

// all takes everything.
func (p *pending) all(bool) (data []byte, err error) {
	if p.start == p.end {
		return nil, nil
	}
	data = p.data[p.start:p.end:p.end]
	p.start, p.end, p.searched = 0, 0, 0
	return data, nil
}

// line takes the next line.
func (p *pending) line(atEnd bool) ([]byte, error) {
	rest := p.data[p.start:p.end]
	length := bytes.IndexByte(rest[p.searched-p.start:], '\n')
	next := p.end
	switch {
	case length >= 0:
		length += p.searched - p.start
		next = p.start + length + 1
	case atEnd || len(rest)-1 > p.limit: // a "\r" more is allowed, it may belong to the end
		length = len(rest)
	default:
		p.searched = p.end
		return nil, nil
	}
	if length == 0 && next == p.start { // the end, and nothing before it
		return nil, nil
	}
	p.start, p.searched = next, next
	line := bytes.TrimSuffix(rest[:length:length], []byte("\r"))
	if len(line) > p.limit {
		return line[:p.limit:p.limit], bufio.ErrTooLong
	}
	return line, nil
}
