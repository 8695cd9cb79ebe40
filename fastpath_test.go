package netrunner_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
	"github.com/netrunner-go/netrunner/internal/pty"
)

// kindOf is what a program can tell an error by.
func kindOf(err error) string {
	if err == nil {
		return "none"
	}
	var kinds []string
	for _, kind := range []error{netrunner.ErrOutputLimit, netrunner.ErrTimeout, os.ErrClosed, os.ErrDeadlineExceeded, syscall.EPIPE, syscall.ENOSPC} {
		if errors.Is(err, kind) {
			kinds = append(kinds, kind.Error())
		}
	}
	var exit *netrunner.ExitError
	if errors.As(err, &exit) {
		kinds = append(kinds, exit.State.String())
	}
	return strings.Join(kinds, ", ")
}

// Wherever the kernel moves the data by itself, the outcome is that of reading and
// writing: the same bytes, errors and figures, and the same commands are ended.
func TestFastPathsAreLikeSlowOnes(t *testing.T) {
	const echoes = "echo begun; exec cat"
	for _, test := range []struct {
		name   string
		script string
		limit  int64
		during func(t *testing.T, p *netrunner.Process) // when "begun" has gone through
		// what the slow path has always said
		feed, copied string
	}{
		{"all of it", "seq 100000", 0, nil, "none", "none"},
		{"a limit", "seq 100000", 1000, nil, "wrote more than it may", "wrote more than it may"},
		{"the producer fails", "seq 1000; exit 3", 0, nil, "none", "none"},
		{"closed in the middle", echoes, 0, func(t *testing.T, p *netrunner.Process) {
			check(t, p.Stdout().Close())
			_, err := p.Stdin().Write([]byte("more\n"))
			check(t, err)
		}, "file already closed", "file already closed"},
		{"a deadline", echoes, 0, func(t *testing.T, p *netrunner.Process) {
			check(t, p.Stdout().SetReadDeadline(time.Now()))
			check(t, p.Stdin().Close())
		}, "i/o timeout", "i/o timeout"},
		{"killed", echoes, 0, func(t *testing.T, p *netrunner.Process) { check(t, p.Kill()) }, "none", "none"},
	} {
		begin := func(t *testing.T) *netrunner.Process {
			cmd := netrunner.Command("sh", "-c", test.script)
			cmd.MaxOutput = test.limit
			if test.during != nil {
				cmd.Stdin = netrunner.Pipe
			}
			p := start(t, cmd)
			if test.during != nil {
				t.Cleanup(func() { _ = p.Stdin().Close() })
			}
			return p
		}
		meanwhile := func(t *testing.T, p *netrunner.Process, through func() bool) {
			if test.during != nil {
				proctest.Eventually(t, "the first line", through)
				test.during(t, p)
			}
		}
		ended := func(p *netrunner.Process) string {
			state, err := p.Wait()
			return fmt.Sprintf("%v, %d bytes", kindOf(err), state.Stats().BytesOut)
		}
		t.Run(test.name, func(t *testing.T) {
			leaveNothing(t)
			t.Run("one command feeds another", func(t *testing.T) {
				feed := func(wrap bool) (outcome string, kind string) {
					a := begin(t)
					b := netrunner.Command("cat")
					b.Stdin = a.Stdout()
					if wrap {
						b.Stdin = struct{ io.Reader }{a.Stdout()}
					}
					var out bytes.Buffer
					b.Stdout = &out
					p, err := b.Start(testContext(t))
					check(t, err)
					meanwhile(t, a, func() bool { return p.Stats().BytesIn > 0 })
					state, err := p.Wait()
					from := ended(a)
					if test.limit > 0 { // how much of what is too much was read is chance
						from, _, _ = strings.Cut(from, " bytes")
						from = from[:strings.LastIndexByte(from, ',')]
					}
					return fmt.Sprintf("%q, %v, %d; %s", out.String(), state, state.Stats().BytesIn, from), kindOf(err)
				}
				slow, slowKind := feed(true)
				fast, fastKind := feed(false)
				if fast != slow || fastKind != slowKind || slowKind != test.feed {
					t.Errorf("fast: %.200s (%s)\nslow: %.200s (%s)\nwant: %s", fast, fastKind, slow, slowKind, test.feed)
				}
			})
			for _, to := range []string{"file", "pipe", "blocking pipe"} {
				t.Run("to a "+to, func(t *testing.T) {
					copied := func(wrap bool) (outcome string, kind string) {
						var w *os.File
						read := make(chan string, 1)
						if to == "file" {
							var err error
							w, err = os.Create(filepath.Join(t.TempDir(), "output"))
							check(t, err)
						} else {
							r, end, err := os.Pipe()
							check(t, err)
							w = end
							if to == "blocking pipe" {
								_ = w.Fd()
							}
							go func() {
								text, _ := io.ReadAll(r)
								_ = r.Close()
								read <- string(text)
							}()
						}
						a := begin(t)
						var dst io.Writer = w
						if wrap {
							dst = struct{ io.Writer }{w}
						}
						type result struct {
							n   int64
							err error
						}
						done := make(chan result)
						go func() {
							n, err := io.Copy(dst, a.Stdout())
							done <- result{n, err}
						}()
						meanwhile(t, a, func() bool { return a.Stats().BytesOut > 0 })
						got := <-done
						check(t, w.Close())
						if to == "file" {
							text, err := os.ReadFile(w.Name())
							check(t, err)
							read <- string(text)
						}
						from := ended(a)
						if test.limit > 0 {
							from = from[:strings.LastIndexByte(from, ',')]
						}
						return fmt.Sprintf("%q, %d; %s", <-read, got.n, from), kindOf(got.err)
					}
					slow, slowKind := copied(true)
					fast, fastKind := copied(false)
					if fast != slow || fastKind != slowKind || slowKind != test.copied {
						t.Errorf("fast: %.200s (%s)\nslow: %.200s (%s)\nwant: %s", fast, fastKind, slow, slowKind, test.copied)
					}
				})
			}
		})
	}
}

// Whatever a copy goes to, the command stays killable: the kernel never holds its
// pipe while the target waits.
func TestATargetThatBlocksHoldsNoCommand(t *testing.T) {
	leaveNothing(t)
	for _, target := range []struct {
		name string
		open func(t *testing.T) (w, peer *os.File)
	}{
		{"a terminal that nobody reads", func(t *testing.T) (w, peer *os.File) {
			pair, err := pty.Open()
			check(t, err)
			return os.NewFile(uintptr(pair.Slave), "tty"), pair.Master
		}},
		{"a socket that blocks", func(t *testing.T) (w, peer *os.File) {
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			check(t, err)
			return os.NewFile(uintptr(ends[0]), "socket"), os.NewFile(uintptr(ends[1]), "peer")
		}},
	} {
		t.Run(target.name, func(t *testing.T) {
			w, peer := target.open(t)
			defer w.Close() //nolint:errcheck // nothing is lost
			p := start(t, netrunner.Command("yes"))
			copied := make(chan struct{})
			go func() {
				defer close(copied)
				_, _ = io.Copy(w, p.Stdout())
			}()
			// The copy waits for the target, and the command for the copy.
			last := int64(-1)
			proctest.Eventually(t, "the target to be full", func() bool {
				now := p.Stats().BytesOut
				stands := now == last && now > 0
				last = now
				if !stands {
					time.Sleep(20 * time.Millisecond)
				}
				return stands
			})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = p.Stop(testContext(t))
				_ = p.Stdout().Close()
			}()
			select {
			case <-ended:
			case <-time.After(patience / 2):
				t.Error("Stop and Close of the output stand still until somebody reads")
			}
			check(t, peer.Close()) // fails the copy's write
			<-ended
			<-copied
		})
	}
}
