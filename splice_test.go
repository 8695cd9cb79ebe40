package netrunner_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

// counted embeds a connection and has a Write of its own, which must be called
// although the kernel could do without.
type counted struct {
	*net.TCPConn
	bytes int
}

func (c *counted) Write(b []byte) (int, error) {
	c.bytes += len(b)
	return c.TCPConn.Write(b)
}

// receiver is where a test's output goes, and what has arrived there.
type receiver struct {
	w   io.WriteCloser
	sum func() string // to be called when w was closed
}

// eachTarget runs a test for every kind of writer: some the kernel can move data
// to, some it can't, and some that only look as if it could.
func eachTarget(t *testing.T, test func(t *testing.T, to receiver)) {
	file := func(flags int) func(t *testing.T) receiver {
		return func(t *testing.T) receiver {
			path := filepath.Join(t.TempDir(), "output")
			f, err := os.OpenFile(path, flags|os.O_CREATE|os.O_WRONLY, 0o600)
			check(t, err)
			return receiver{f, func() string {
				text, err := os.ReadFile(path)
				check(t, err)
				return fmt.Sprintf("%x", sha256.Sum256(text))
			}}
		}
	}
	reading := func(w io.WriteCloser, r io.Reader) receiver {
		done := make(chan string)
		go func() {
			hash := sha256.New()
			// In small pieces, and slowly: the writer has to wait.
			for buffer := make([]byte, 10_000); ; {
				n, err := r.Read(buffer)
				_, _ = hash.Write(buffer[:n])
				if err != nil {
					break
				}
			}
			done <- fmt.Sprintf("%x", hash.Sum(nil))
		}()
		return receiver{w, func() string { return <-done }}
	}
	connection := func(network, address string) func(t *testing.T) receiver {
		return func(t *testing.T) receiver {
			if network == "unix" {
				address = filepath.Join(t.TempDir(), "socket")
			}
			listener, err := net.Listen(network, address)
			check(t, err)
			defer listener.Close() //nolint:errcheck // only for this
			conn, err := net.Dial(network, listener.Addr().String())
			check(t, err)
			peer, err := listener.Accept()
			check(t, err)
			t.Cleanup(func() { _ = peer.Close() })
			return reading(conn, peer)
		}
	}
	tcp := connection("tcp", "127.0.0.1:0")
	for _, target := range []struct {
		name string
		make func(t *testing.T) receiver
	}{
		{"a file", file(0)},
		{"a file that is appended to", file(os.O_APPEND)},
		{"a TCP connection", tcp},
		{"a Unix connection", connection("unix", "")},
		{"a pipe", func(t *testing.T) receiver {
			r, w, err := os.Pipe()
			check(t, err)
			t.Cleanup(func() { _ = r.Close() })
			return reading(w, r)
		}},
		{"a pipe that blocks", func(t *testing.T) receiver {
			r, w, err := os.Pipe()
			check(t, err)
			t.Cleanup(func() { _ = r.Close() })
			_ = w.Fd() // makes it so
			return reading(w, r)
		}},
		{"what embeds a connection", func(t *testing.T) receiver {
			to := tcp(t)
			conn := &counted{TCPConn: to.w.(*net.TCPConn)}
			sum := to.sum
			return receiver{conn, func() string {
				if conn.bytes == 0 {
					t.Error("its Write was not called")
				}
				return sum()
			}}
		}},
		{"another writer", func(*testing.T) receiver {
			hash := sha256.New()
			return receiver{nopCloser{hash}, func() string { return fmt.Sprintf("%x", hash.Sum(nil)) }}
		}},
	} {
		t.Run(target.name, func(t *testing.T) {
			leaveNothing(t)
			test(t, target.make(t))
		})
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// numbers writes some megabytes, in pieces of every size.
const numbers = "seq 200000; head -c 1000000 /dev/zero; sleep 0.05; echo; seq 100000"

func numbersSum(t *testing.T) (size int64, sum string) {
	t.Helper()
	text, err := netrunner.Command("sh", "-c", numbers).Output(testContext(t))
	check(t, err)
	return int64(len(text)), fmt.Sprintf("%x", sha256.Sum256(text))
}

func TestEveryByteArrivesAtEveryKindOfWriter(t *testing.T) {
	size, want := numbersSum(t)
	t.Run("io.Copy", func(t *testing.T) {
		eachTarget(t, func(t *testing.T, to receiver) {
			p := start(t, netrunner.Command("sh", "-c", numbers))
			n, err := io.Copy(to.w, p.Stdout())
			check(t, errors.Join(err, to.w.Close()))
			state, err := p.Wait()
			check(t, err)
			if sum := to.sum(); n != size || state.Stats().BytesOut != size || state.Stats().Reads == 0 || sum != want {
				t.Errorf("%d bytes, %+v, want %d", n, state.Stats(), size)
			}
		})
	})
	t.Run("Cmd.Stdout", func(t *testing.T) {
		eachTarget(t, func(t *testing.T, to receiver) {
			cmd := netrunner.Command("sh", "-c", numbers)
			cmd.Stdout = to.w
			p, err := cmd.Start(testContext(t))
			check(t, err)
			state, err := p.Wait()
			check(t, errors.Join(err, to.w.Close()))
			counted := state.Stats().BytesOut
			if _, direct := to.w.(*os.File); direct && counted == 0 {
				counted = size // the command has it itself
			}
			if sum := to.sum(); counted != size || sum != want {
				t.Errorf("%+v, want %d bytes", state.Stats(), size)
			}
		})
	})
	t.Run("with a limit", func(t *testing.T) {
		eachTarget(t, func(t *testing.T, to receiver) {
			cmd := netrunner.Command("sh", "-c", numbers)
			cmd.MaxOutput = 1_000_000
			p := start(t, cmd)
			n, err := io.Copy(to.w, p.Stdout())
			check(t, to.w.Close())
			_ = to.sum()
			_, waitErr := p.Wait()
			if n != cmd.MaxOutput || !errors.Is(err, netrunner.ErrOutputLimit) || !errors.Is(waitErr, netrunner.ErrOutputLimit) {
				t.Errorf("%d bytes, %v, %v, want %d and the limit's error", n, err, waitErr, cmd.MaxOutput)
			}
		})
	})
}

// From one command to another, through the owner's hands but not its memory.
func TestACommandFeedsAnother(t *testing.T) {
	leaveNothing(t)
	size, want := numbersSum(t)
	producer := start(t, netrunner.Command("sh", "-c", numbers))
	consumer := netrunner.Command("sha256sum")
	consumer.Stdin = producer.Stdout()
	consumer.Stdout = netrunner.Pipe
	before := ioCounters(t)
	p := start(t, consumer)
	line := readLine(t, p.Stdout())
	state, err := p.Wait()
	check(t, err)
	if !strings.HasPrefix(line, want) || state.Stats().BytesIn != size || state.Stats().Writes == 0 {
		t.Errorf("%q and %+v, want %d bytes", line, state.Stats(), size)
	}
	if state, err := producer.Wait(); err != nil || state.Stats().BytesOut != size {
		t.Errorf("%+v, %v, want %d bytes", state, err, size)
	}
	if read := ioCounters(t) - before; read > size/2 {
		t.Errorf("the owner has read %d bytes of %d that the kernel could move", read, size)
	}
}

// ioCounters is how many bytes this process has read by read and its kin.
func ioCounters(t *testing.T) (read int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	check(t, err)
	_, err = fmt.Sscanf(string(text), "rchar: %d", &read)
	check(t, err)
	return read
}

// A consumer that takes less than all of it is no error; the producer sees it.
func TestAConsumerThatLeavesEarly(t *testing.T) {
	leaveNothing(t)
	producer := start(t, netrunner.Command("yes"))
	consumer := netrunner.Command("head", "-n", "1")
	consumer.Stdin = producer.Stdout()
	out, err := consumer.Output(testContext(t))
	if string(out) != "y\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	check(t, producer.Stdout().Close())
	if state, _ := producer.Wait(); state.Signal() != syscall.SIGPIPE {
		t.Errorf("%v, want SIGPIPE", state)
	}
}

// A target that fails is the error of the copy, and no byte is counted twice.
func TestATargetThatFails(t *testing.T) {
	leaveNothing(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	check(t, err)
	defer full.Close() //nolint:errcheck // nothing is in it
	r, w, err := os.Pipe()
	check(t, err)
	check(t, r.Close())
	defer w.Close() //nolint:errcheck // nobody reads it
	closed, err := os.Open(os.DevNull)
	check(t, err)
	check(t, closed.Close())
	for _, test := range []struct {
		name string
		to   io.Writer
		want error
	}{
		{"full disk", full, syscall.ENOSPC},
		{"no reader", w, syscall.EPIPE},
		{"closed", closed, os.ErrClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, netrunner.Command("yes"))
			if n, err := io.Copy(test.to, p.Stdout()); !errors.Is(err, test.want) || n != 0 {
				t.Errorf("%d, %v, want %v", n, err, test.want)
			}
		})
	}
}

// Closing the output ends a copy that waits, wherever it goes to.
func TestClosingEndsACopy(t *testing.T) {
	eachTarget(t, func(t *testing.T, to receiver) {
		p := start(t, netrunner.Command("sh", "-c", "echo begun; exec sleep 1000"))
		copied := make(chan error)
		go func() {
			_, err := io.Copy(to.w, p.Stdout())
			copied <- err
		}()
		proctest.Eventually(t, "the first line", func() bool { return p.Stats().BytesOut > 0 })
		check(t, p.Stdout().Close())
		if err := <-copied; !errors.Is(err, os.ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
		check(t, to.w.Close())
		_ = to.sum()
	})
}

// One that neither takes nor fails is waited for without a thread, and the
// command's end or a deadline ends the wait.
func TestATargetThatTakesNothing(t *testing.T) {
	leaveNothing(t)
	r, w, err := os.Pipe()
	check(t, err)
	defer r.Close() //nolint:errcheck // nothing is lost
	p := start(t, netrunner.Command("yes"))
	copied := make(chan error)
	go func() {
		_, err := io.Copy(w, p.Stdout())
		copied <- err
	}()
	proctest.Eventually(t, "both pipes to be full", func() bool {
		n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
		return err == nil && n >= 65536-4096
	})
	check(t, w.SetWriteDeadline(time.Now()))
	if err := <-copied; err == nil {
		t.Error("no error, though the target's deadline is over")
	}
	check(t, w.Close())
}

// A pipe of another size: that of the kernel, rounded up, as far as it may be.
func TestPipeSize(t *testing.T) {
	leaveNothing(t)
	for _, test := range []struct{ asked, least int }{{1, 4096}, {4097, 8192}, {1 << 20, 1 << 20}, {0, 65536}} {
		cmd := netrunner.Command("sh", "-c", "exec head -c 3000000 /dev/zero")
		cmd.PipeSize = test.asked
		p := start(t, cmd)
		got := 0
		proctest.Eventually(t, "the command's end of the pipe", func() bool {
			fd, err := os.Open(fmt.Sprintf("/proc/%d/fd/1", p.PID()))
			if err != nil {
				return false
			}
			defer fd.Close() //nolint:errcheck // only looked at
			got, err = unix.FcntlInt(fd.Fd(), unix.F_GETPIPE_SZ, 0)
			return err == nil
		})
		if got != test.least {
			t.Errorf("asked for %d: the pipe holds %d, want %d", test.asked, got, test.least)
		}
	}
}

// An unprivileged user gets what the system allows, and no error.
func TestPipeSizeOfAnUnprivilegedUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: another user can't be had")
	}
	leaveNothing(t)
	out, err := helperCommand(t, "large-pipe").Output(testContext(t))
	text, readErr := os.ReadFile("/proc/sys/fs/pipe-max-size")
	check(t, readErr)
	if want := string(bytes.TrimSpace(text)) + "\n"; string(out) != want || err != nil {
		t.Errorf("%q, %v, want %q", out, err, want)
	}
}

func init() {
	helperPrograms["large-pipe"] = func([]string) {
		for _, err := range []error{syscall.Setgid(54322), syscall.Setuid(54322)} {
			if err != nil {
				panic(err)
			}
		}
		cmd := netrunner.Command("perl", "-e", "print fcntl(STDOUT, 1032, 0), \"\\n\"") // F_GETPIPE_SZ
		cmd.PipeSize = 1 << 30
		out, err := cmd.Output(context.Background())
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s", out)
	}
}
