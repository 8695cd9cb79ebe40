package shepherd

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// FuzzShepherdRequests says to a real shepherd whatever the input asks for: good
// requests, bad ones, parts of them, in any order. The shepherd goes on or ends;
// nothing hangs, and nothing is left.
//
// Each byte of the input is one thing to say; some take the bytes after it.
func FuzzShepherdRequests(f *testing.F) {
	f.Add([]byte("T"))                          // a command, to its end
	f.Add([]byte("TTTT"))                       // reuse
	f.Add([]byte("Ls"))                         // a long one, stopped
	f.Add([]byte("LLk"))                        // a start while it runs
	f.Add([]byte("Igs"))                        // one that ignores the signal, killed after the grace
	f.Add([]byte("gsk"))                        // nothing runs
	f.Add([]byte("Lb\x05\x01\x02\x03\x04\x05")) // bytes of no meaning while it runs
	f.Add([]byte("h"))                          // half a request
	f.Add([]byte("Mf"))                         // a command that is missing, and a frame with a descriptor too many
	f.Add([]byte("Lw"))                         // a watcher's request
	o := startOwner(f, builds()[fuzzedBuild()], nil)
	f.Fuzz(func(t *testing.T, input []byte) {
		o.in(t)
		defer o.in(f)
		s := o.shepherd()
		saySafely(t, s, input[:min(len(input), 12)])
		s.close()
		s.exits()
		eventually(t, "only the watcher is left", func() (string, bool) {
			left := o.processes()
			return "", len(left) == 1
		})
		o.noReports()
	})
}

// fuzzedBuild is the sanitized helper where there is one.
func fuzzedBuild() int {
	return max(0, slices.IndexFunc(builds(), func(b build) bool { return b.sanitized && b.skip == "" }))
}

// saySafely says it all, until the shepherd hangs up.
func saySafely(t *testing.T, s *ward, input []byte) {
	t.Helper()
	null := int(openFile(t, os.DevNull).Fd())
	spec := s.spec("true")
	spec.Grace = 10 * time.Millisecond
	spec.Descriptors = []int{null, null, null}
	request := func(argv ...string) []byte {
		spec := *spec
		spec.Path, spec.Args = argv[0], argv
		frame, err := appendStart(nil, &spec)
		must(t, err)
		return frame
	}
	rights := append(slices.Clone(spec.Descriptors), spec.Directory)
	for len(input) > 0 {
		what := input[0]
		input = input[1:]
		var frame []byte
		var descriptors []int
		switch what {
		case 'T':
			frame, descriptors = request("/bin/true"), rights
		case 'L':
			frame, descriptors = request("/bin/sleep", s.owner.marker), rights
		case 'I':
			frame, descriptors = request("/bin/sh", "-c", "trap '' TERM HUP; sleep "+s.owner.marker+" & wait"), rights
		case 'M':
			frame, descriptors = request("/no/such/program"), rights
		case 'h':
			frame, descriptors = request("/bin/true")[:40], rights
		case 's':
			frame = stopRequest{}.append(nil)
		case 'k':
			frame = killRequest{}.append(nil)
		case 'g':
			frame = signalRequest{Signal: uint32(syscall.SIGTERM)}.append(nil)
		case 'w':
			frame, descriptors = spawnRequest{}.append(nil), []int{null}
		case 'f':
			frame, descriptors = stopRequest{}.append(nil), []int{null}
		case 'b': // so many bytes as they are
			count := 0
			if len(input) > 0 {
				count = min(int(input[0]), len(input)-1)
				frame, input = input[1:1+count], input[1+count:]
			}
		default: // a request of any kind with a byte that is not as it should be
			frame = bytes.Clone(request("/bin/true"))
			frame[int(what)%56] ^= what
			descriptors = rights
		}
		if len(frame) == 0 {
			continue
		}
		err := s.trySend(frame, descriptors...)
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			s.hangsUp()
			return
		}
		must(t, err)
		// What came of it, so that the next thing meets an idle shepherd; unless
		// earlier bytes make it wait for more.
		if what == 'T' || what == 'M' {
			must(t, s.conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
			for ev := (event{}); err == nil && ev.kind != eventEnded && ev.kind != eventFailed; {
				ev, err = s.receive()
			}
			if errors.Is(err, io.EOF) {
				return
			}
			must(t, s.conn.SetDeadline(time.Now().Add(2*proctest.Patience)))
		}
	}
}
