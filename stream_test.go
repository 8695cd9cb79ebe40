package netrunner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/netrunner-go/netrunner"
)

func TestAConversation(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("cat")
	cmd.Stdin = netrunner.Pipe
	p := start(t, cmd)
	in, out := p.Stdin(), p.Stdout()
	for i := range 100 {
		line := fmt.Sprintf("line %d", i)
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		if got := readLine(t, out); got != line {
			t.Fatalf("read %q, want %q", got, line)
		}
	}
	check(t, in.Close())
	if rest, err := io.ReadAll(out); len(rest) != 0 || err != nil {
		t.Errorf("at the end: %q, %v", rest, err)
	}
	state, err := p.Wait()
	check(t, err)
	stats := state.Stats()
	if stats.BytesIn != 790 || stats.BytesOut != 790 || stats.Writes != 100 || stats.Reads < 100 {
		t.Errorf("figures: %+v", stats)
	}
}

func TestStderrApart(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", "echo out; echo err >&2")
	cmd.Stderr = netrunner.Pipe
	p := start(t, cmd)
	out, outErr := io.ReadAll(p.Stdout())
	err, errErr := io.ReadAll(p.Stderr())
	if string(out) != "out\n" || string(err) != "err\n" || outErr != nil || errErr != nil {
		t.Errorf("%q, %v and %q, %v", out, outErr, err, errErr)
	}
	check(t, p.Stderr().Close())
}

// Up to 64 kB wait in the pipe when the command exits; none of them may be lost.
func TestOutputIsReadToItsEndWhateverExitsFirst(t *testing.T) {
	leaveNothing(t)
	const size = 60_000
	for range 50 {
		p := start(t, netrunner.Command("head", "-c", fmt.Sprint(size), "/dev/zero"))
		_, err := p.Wait()
		check(t, err)
		if out, err := io.ReadAll(p.Stdout()); len(out) != size || err != nil {
			t.Fatalf("read %d bytes, %v, want %d", len(out), err, size)
		}
	}
}

func TestAStreamThatIsNoPipeSaysSo(t *testing.T) {
	leaveNothing(t)
	p, err := netrunner.Command("true").Start(testContext(t))
	check(t, err)
	_, inErr := p.Stdin().Write([]byte("x"))
	_, outErr := p.Stdout().Read(make([]byte, 1))
	_, errErr := p.Stderr().Read(make([]byte, 1))
	for field, err := range map[string]error{"Stdin": inErr, "Stdout": outErr, "Stderr": errErr} {
		if want := field + " is no pipe: set Cmd." + field + " to netrunner.Pipe"; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", field, err, want)
		}
	}
	_, err = p.Wait()
	check(t, err)
}

func TestDeadlines(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", "read x; echo $x; sleep "+marker())
	cmd.Stdin = netrunner.Pipe
	p := start(t, cmd)
	out, in := p.Stdout(), p.Stdin()
	check(t, out.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, want a deadline that was exceeded", err)
	}
	check(t, out.SetReadDeadline(time.Time{}))
	_, err := io.WriteString(in, "hello\n")
	check(t, err)
	if line := readLine(t, out); line != "hello" {
		t.Errorf("read %q", line)
	}
	// Nobody reads: the pipe fills up, and the write waits.
	check(t, in.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	if n, err := in.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Errorf("write: %d, %v, want a deadline that was exceeded", n, err)
	}
	// A deadline that has passed does not hide what the command said at its end.
	check(t, in.Close())
}

func TestADeadlineDoesNotHideTheEnd(t *testing.T) {
	leaveNothing(t)
	p := start(t, netrunner.Command("echo", "hello"))
	check(t, p.Stdout().SetReadDeadline(time.Unix(1, 0)))
	_, err := p.Wait()
	check(t, err)
	if out, err := io.ReadAll(p.Stdout()); string(out) != "hello\n" || err != nil {
		t.Errorf("read %q, %v", out, err)
	}
}

func TestACommandThatDoesNotReadItsInput(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("true")
	cmd.Stdin = bytes.NewReader(make([]byte, 1<<20))
	check(t, cmd.Run(testContext(t)))
}

// os/exec hangs in Wait until the Read returns.
func TestAnInputThatNeverComes(t *testing.T) {
	leaveNothing(t)
	r, w := io.Pipe()
	cmd := netrunner.Command("true")
	cmd.Stdin = r
	begin := time.Now()
	check(t, cmd.Run(testContext(t)))
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	w.Close()
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestACopyThatFailsIsTheErrorOfWait(t *testing.T) {
	leaveNothing(t)
	why := errors.New("why")
	for name, change := range map[string]func(*netrunner.Cmd){
		"input":  func(c *netrunner.Cmd) { c.Stdin = failing{why} },
		"output": func(c *netrunner.Cmd) { c.Stdout = failing{why} },
		"errors": func(c *netrunner.Cmd) { c.Stderr = failing{why} },
	} {
		cmd := netrunner.Command("sh", "-c", "cat; echo x; echo y >&2")
		change(cmd)
		// The command may have been told, by SIGPIPE or a status; the reason is there all the same.
		if err := cmd.Run(testContext(t)); !errors.Is(err, why) {
			t.Errorf("%s: %v, want %v", name, err, why)
		}
	}
	cmd := netrunner.Command("true")
	cmd.Stdin = failing{why}
	if err := cmd.Run(testContext(t)); !errors.Is(err, why) {
		t.Errorf("%v, want %v", err, why)
	}
}

func TestFilesArePassedAsTheyAre(t *testing.T) {
	leaveNothing(t)
	path := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(path, []byte("content"), 0o600))
	in, err := os.Open(path)
	check(t, err)
	defer in.Close()
	out, err := os.Create(path + ".copy")
	check(t, err)
	defer out.Close()
	cmd := netrunner.Command("sh", "-c", "l=$(readlink /proc/$$/fd/1); echo $l >&2; cat")
	cmd.Stdin, cmd.Stdout = in, out
	var link bytes.Buffer
	cmd.Stderr = &link
	check(t, cmd.Run(testContext(t)))
	if got, _ := os.ReadFile(path + ".copy"); string(got) != "content" {
		t.Errorf("copied %q", got)
	}
	if got := strings.TrimSpace(link.String()); got != path+".copy" {
		t.Errorf("the command writes to %q", got)
	}
}

func TestMaxOutput(t *testing.T) {
	leaveNothing(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	check(t, err)
	defer file.Close()
	for _, test := range []struct {
		name, script string
		limit        int64
		want         string
		stopped      bool
	}{
		{"below", "echo 12345", 100, "12345\n", false},
		{"exactly", "echo 12345", 6, "12345\n", false},
		{"one too many", "echo 12345", 5, "12345", true},
		{"far too many", "yes", 10, "y\ny\ny\ny\ny\n", true},
		{"both streams", "echo 12345; echo 678 >&2; sleep 100", 8, "", true},
		{"one that goes on", "trap 'echo more; exit 0' TERM; echo 12345; while :; do sleep 0.01; done", 3, "123", true},
	} {
		cmd := netrunner.Command("sh", "-c", test.script)
		cmd.MaxOutput = test.limit
		out, err := cmd.Output(testContext(t))
		if errors.Is(err, netrunner.ErrOutputLimit) != test.stopped || err != nil && !test.stopped {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.want != "" && string(out) != test.want {
			t.Errorf("%s: output %q, want %q", test.name, out, test.want)
		}

		// The same to a file, which is counted then.
		check(t, file.Truncate(0))
		_, err = file.Seek(0, io.SeekStart)
		check(t, err)
		cmd.Stdout = file
		if err := cmd.Run(testContext(t)); errors.Is(err, netrunner.ErrOutputLimit) != test.stopped {
			t.Errorf("%s, to a file: %v", test.name, err)
		}
		if got, _ := os.ReadFile(file.Name()); test.want != "" && string(got) != test.want {
			t.Errorf("%s, to a file: %q, want %q", test.name, got, test.want)
		}

		// And through a pipe.
		cmd.Stdout = netrunner.Pipe
		p := start(t, cmd)
		got, err := io.ReadAll(p.Stdout())
		if test.want != "" && string(got) != test.want || test.stopped && test.want != "" && !errors.Is(err, netrunner.ErrOutputLimit) {
			t.Errorf("%s, through a pipe: %q, %v, want %q", test.name, got, err, test.want)
		}
		check(t, p.Stdout().Close())
		if _, err := p.Wait(); errors.Is(err, netrunner.ErrOutputLimit) != test.stopped {
			t.Errorf("%s, through a pipe: %v", test.name, err)
		}
	}
}

// A producer that nobody reads waits in the pipe, and costs the owner nothing.
func TestAProducerWaitsForItsReader(t *testing.T) {
	leaveNothing(t)
	p := start(t, netrunner.Command("sh", "-c", "head -c 10000000 /dev/zero; echo finished >&2"))
	buffer := make([]byte, 1000)
	if _, err := io.ReadFull(p.Stdout(), buffer); err != nil {
		t.Fatal(err)
	}
	if read := p.Stats().BytesOut; read != 1000 {
		t.Errorf("the owner has read %d bytes, want 1000", read)
	}
	rest, err := io.Copy(io.Discard, p.Stdout())
	if rest != 10000000-1000 || err != nil {
		t.Errorf("%d bytes followed, %v", rest, err)
	}
}

func TestClosingTheOutputEndsTheProducer(t *testing.T) {
	leaveNothing(t)
	p := start(t, netrunner.Command("yes"))
	check(t, p.Stdout().Close())
	if state, err := p.Wait(); state.Signal() != syscall.SIGPIPE {
		t.Errorf("%v, want SIGPIPE", err)
	}
}

func TestTheFirstAndLastOfStderrAreInTheError(t *testing.T) {
	leaveNothing(t)
	for _, size := range []int{0, 1, 32 << 10, 64 << 10, 64<<10 + 1, 1 << 20} {
		cmd := netrunner.Command("sh", "-c", fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x >&2; exit 1", size))
		err := cmd.Run(testContext(t))
		var exit *netrunner.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		want := strings.Repeat("x", size)
		if missing := size - 64<<10; missing > 0 {
			half := strings.Repeat("x", 32<<10)
			want = half + fmt.Sprintf("\n… %d bytes left out …\n", missing) + half
		}
		if string(exit.Stderr) != want {
			t.Errorf("of %d bytes %d are shown, want %d", size, len(exit.Stderr), len(want))
		}
	}
}

// Whatever is written in whatever pieces, what goes in comes out.
func TestBytesAreAccountedFor(t *testing.T) {
	leaveNothing(t)
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 5000), 0, 20).Draw(t, "pieces")
		want := bytes.Join(pieces, nil)
		cmd := netrunner.Command("cat")
		cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
		p, err := cmd.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		read := make(chan error)
		go func() {
			_, err := got.ReadFrom(p.Stdout())
			read <- err
		}()
		in := p.Stdin()
		for _, piece := range pieces {
			if n, err := in.Write(piece); n != len(piece) || err != nil {
				t.Fatalf("wrote %d of %d bytes, %v", n, len(piece), err)
			}
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-read; err != nil {
			t.Fatal(err)
		}
		state, err := p.Wait()
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Stdout().Close()
		if stats := state.Stats(); !bytes.Equal(got.Bytes(), want) || stats.BytesIn != int64(len(want)) || stats.BytesOut != int64(len(want)) {
			t.Fatalf("%d bytes went in, %d came out, counted are %d and %d", len(want), got.Len(), stats.BytesIn, stats.BytesOut)
		}
	})
}

// A full pipe of standard error that nobody reads holds up only who writes there.
func TestStderrThatNobodyReadsDoesNotHoldUpStdout(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", "head -c 1000000 /dev/zero >&2 & head -c 5000000 /dev/zero; echo; wait")
	cmd.Stderr = netrunner.Pipe
	p := start(t, cmd)
	if n, err := io.CopyN(io.Discard, p.Stdout(), 5000001); err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := io.Copy(io.Discard, p.Stderr()); n != 1000000 || err != nil {
		t.Errorf("%d bytes of standard error, %v", n, err)
	}
	check(t, p.Stderr().Close())
	_, err := p.Wait()
	check(t, err)
}

// Reads, copies and Waits that wait are in the poller, and hold no threads. A
// program of its own does it, since threads of earlier tests would hide its own.
func TestWaitingHoldsNoThread(t *testing.T) {
	leaveNothing(t)
	out, err := helperCommand(t, "waits").Output(testContext(t))
	check(t, err)
	var commands, threads int
	if _, err := fmt.Sscanf(string(out), "%d commands, %d threads", &commands, &threads); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if threads > commands/2 {
		t.Errorf("%d threads for %d commands, as many reads and as many waits", threads, commands)
	}
}

func init() {
	helperPrograms["waits"] = func([]string) {
		const count = 100
		cmd := netrunner.Command("cat")
		cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
		var waiting sync.WaitGroup
		var running []*netrunner.Process
		for range count {
			p, err := cmd.Start(context.Background())
			if err != nil {
				panic(err)
			}
			running = append(running, p)
			waiting.Go(func() { _, _ = p.Stdout().Read(make([]byte, 1)) })
			waiting.Go(func() { _, _ = p.Wait() })
		}
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			panic(err)
		}
		fmt.Printf("%d commands, %d threads\n", count, len(threads))
		for _, p := range running {
			if err := p.Stdin().Close(); err != nil {
				panic(err)
			}
		}
		waiting.Wait()
		netrunner.CloseIdle()
	}
}
