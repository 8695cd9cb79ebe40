package guarantees_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

const (
	// grace of the commands, from the stop signal to SIGKILL.
	grace = 300 * time.Millisecond
	// bound is what is promised beyond it.
	bound = time.Second
	// attempts are how often a cell may be late before it counts. One that leaves
	// something fails at once.
	attempts = 3
	// ordinary is a user who owns nothing else.
	ordinary = 54321
)

func TestMain(m *testing.M) {
	if os.Getenv(orderVariable) != "" {
		own()
		return
	}
	// Whatever escapes a cell becomes this process's child, and is found at the end.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	flag.Parse()
	// A cell mostly waits; more of them at once than there are processors.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	status := m.Run()
	netrunner.CloseIdle()
	for _, p := range proctest.Children(os.Getpid()) {
		fmt.Printf("FAIL: something has escaped: %v\n", p)
		status = 1
	}
	os.Exit(status)
}

// TestMatrix lets every event happen to every tree.
func TestMatrix(t *testing.T) {
	var mu sync.Mutex
	var late []cell
	t.Run("all", func(t *testing.T) {
		for i := range events {
			for j := range trees {
				cell := cell{event: &events[i], tree: &trees[j]}
				t.Run(cell.name(), func(t *testing.T) {
					t.Parallel()
					if run := cell; !run.inTime(t, 1) {
						mu.Lock()
						defer mu.Unlock()
						late = append(late, cell)
					}
				})
			}
		}
	})
	// One that was late beside seven others shows nothing yet: once more, alone.
	for _, cell := range late {
		t.Run("alone/"+cell.name(), func(t *testing.T) {
			for attempt := 2; ; attempt++ {
				if run := cell; run.inTime(t, attempt) {
					return
				}
				if attempt == attempts {
					t.Fatalf("late %d times", attempts)
				}
			}
		})
	}
}

// TestControl does the same to os/exec: each tree by one event, and each event
// to one tree. A matrix that did not see these survive would show nothing.
func TestControl(t *testing.T) {
	for i := range events {
		for j := range trees {
			if !events[i].plain || (i > 0 && trees[j].name != "ignores") {
				continue
			}
			cell := cell{event: &events[i], tree: &trees[j], plain: true}
			t.Run(cell.name(), func(t *testing.T) {
				t.Parallel()
				cell.begin(t, 1)
				cell.happen()
				if left := cell.awaitGone(grace + bound); len(left) == 0 {
					t.Error("nothing is left, even of what nobody guards")
				}
			})
		}
	}
}

// cell is one event with one tree.
type cell struct {
	event *event
	tree  *tree
	plain bool // os/exec instead

	t                                 *testing.T
	marker                            string
	fifo                              *os.File // a line in it lets the command exit
	held                              *os.File // pipe that all of the tree holds open, if it closes nothing
	words                             io.WriteCloser
	lines                             chan string // of the owner
	errors                            string      // the file of the owner's
	wait                              func()      // for the owner's end
	order                             order
	owner, command, shepherd, watcher int
}

func (c *cell) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cell) name() string { return c.event.name + "/" + c.tree.name }

// inTime runs the cell. It is false when all was as it has to be, but too late.
func (c *cell) inTime(t *testing.T, attempt int) bool {
	if !c.begin(t, attempt) {
		t.Log("the time was over before the tree was there")
		return false
	}
	begin := time.Now()
	c.happen()
	var took time.Duration
	if c.event.told != nil {
		took = c.hear()
	} else {
		c.nothingIsLeft()
		took = time.Since(begin)
	}
	_ = c.words.Close()
	c.wait()
	begin = time.Now()
	c.helpersGo()
	helpers := time.Since(begin)
	most := bound
	if c.event.graceful {
		most += grace
	}
	if took > most || helpers > bound {
		t.Logf("late: the tree was gone after %v, at most %v are promised; the helpers %v after the owner", took, most, helpers)
		return false
	}
	return true
}

// begin starts an owner and waits until all of its tree is there. It is false when the event was faster.
func (c *cell) begin(t *testing.T, attempt int) bool {
	c.t = t
	c.marker = proctest.Marker()
	dir := publicDirectory(t)
	fifo, held := filepath.Join(dir, "fifo"), filepath.Join(dir, "held")
	c.fifo, c.held = openFIFO(t, fifo, os.O_RDWR), openFIFO(t, held, os.O_RDONLY|unix.O_NONBLOCK)
	suid, become := filepath.Join(dir, "sleep"), filepath.Join(dir, "setpriv")
	if c.tree.setuid {
		copySetUID(t, suid)
		copySetUID(t, become)
		c.order.User = ordinary
	}
	c.order.Terminal = c.tree.terminal
	c.order.Event, c.order.Plain, c.order.Grace = c.event.name, c.plain, grace
	if c.event.timed {
		c.order.Timeout = time.Duration(attempt) * 3 * time.Second
	}
	script := "exec 9>$3\n" + c.tree.script + "\nread word <$2; exit 3"
	c.order.Args = []string{"sh", "-c", script, c.marker, suid, fifo, held, become}
	c.startOwner()

	var line string
	select {
	case line = <-c.lines:
	case <-time.After(proctest.Patience):
	}
	if _, err := fmt.Sscan(line, &c.owner, &c.command); err != nil {
		t.Fatalf("the owner says %q: %v\n%s", line, err, c.complaints())
	}
	if !c.plain {
		c.shepherd = c.parentOf(c.command)
		c.watcher = c.parentOf(c.shepherd)
	}
	ended := false
	if !proctest.Eventually(t, "the whole tree", func() bool {
		ended = c.event.timed && len(c.lines) > 0
		return ended || c.complete()
	}) {
		t.Fatalf("of it there is %v\n%s", proctest.Marked(c.marker), c.complaints())
	}
	if ended {
		_ = c.words.Close()
		c.wait()
		c.helpersGo()
	}
	return !ended
}

// startOwner starts the test binary as an owner, in a session by which its
// helpers are known. One that may leave something is itself under
// netrunner, or nothing would ever end that.
func (c *cell) startOwner() {
	self, err := os.Executable()
	c.check(err)
	order, err := json.Marshal(c.order)
	c.check(err)
	// Under the race detector a program that returns from main sleeps for a second first.
	env := append(os.Environ(), orderVariable+"="+string(order), "GORACE=atexit_sleep_ms=0")
	c.errors = filepath.Join(c.t.TempDir(), "errors")
	complaints, err := os.Create(c.errors)
	c.check(err)
	read, out, err := os.Pipe()
	c.check(err)
	in, words, err := os.Pipe()
	c.check(err)
	c.words = words
	if c.plain || c.event.uncovered {
		cmd := netrunner.Command("sh", "-c", `setsid "$0"; while :; do sleep 1000; done`, self)
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, in, out, complaints
		p, err := cmd.Start(c.t.Context())
		c.check(err)
		c.t.Cleanup(func() {
			_ = p.Kill()
			_, _ = p.Wait()
			if left := proctest.Marked(c.marker); len(left) > 0 {
				c.t.Errorf("after its guard's end there are %v", left)
			}
		})
		c.wait = func() { proctest.AwaitDeath(c.t, c.owner, proctest.Patience) }
	} else {
		cmd := exec.Command(self)
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, in, out, complaints
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		c.check(cmd.Start())
		c.wait = sync.OnceFunc(func() { _ = cmd.Wait() }) // an owner ends in many ways
		c.t.Cleanup(c.clear)
	}
	_, _, _ = in.Close(), out.Close(), complaints.Close()
	c.lines = make(chan string, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(c.lines)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			c.lines <- lines.Text()
		}
	}()
	c.t.Cleanup(func() {
		_ = read.Close()
		<-done
	})
}

// complaints is what the owner has written to its standard error.
func (c *cell) complaints() string {
	text, err := os.ReadFile(c.errors)
	c.check(err)
	return string(text)
}

// complete reports whether all of the tree is there.
func (c *cell) complete() bool {
	var sleepers, stopped, forkers int
	for _, p := range proctest.Marked(c.marker) {
		switch p.Name {
		case "sleep":
			sleepers++
		case "perl":
			forkers++
		}
		if p.State == 'T' {
			stopped++
		}
	}
	_, err := os.Lstat("/proc/" + strconv.Itoa(c.command) + "/fd/9")
	return err == nil && sleepers >= c.tree.sleepers && stopped >= c.tree.stopped && forkers >= c.tree.forkers
}

func (c *cell) happen() {
	if c.event.outside != nil {
		c.event.outside(c)
	}
	if c.event.goesOn {
		proctest.AwaitDeath(c.t, c.watcher, proctest.Patience)
		proctest.Eventually(c.t, "the tree, which has to go on", c.complete)
	}
	if !c.event.timed {
		_, _ = io.WriteString(c.words, "\n") // it may be dead
	}
}

// hear is for an owner that lives: Wait has returned, so all has to be gone by now.
func (c *cell) hear() time.Duration {
	var line string
	select {
	case line = <-c.lines:
	case <-time.After(proctest.Patience):
		c.t.Fatalf("Wait does not return; there are %v", proctest.Marked(c.marker))
	}
	if c.event.leaves(c.tree) {
		c.somethingIsLeft()
	} else if left := proctest.Marked(c.marker); len(left) > 0 || c.isHeld(0) {
		c.t.Errorf("after Wait there are %v", left)
	}
	var r report
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		c.t.Fatalf("the owner says %q: %v\n%s", line, err, c.complaints())
	}
	if r.Ended != "" {
		c.t.Errorf("Wait: %s", r.Ended)
	}
	if r.Next != "" {
		c.t.Errorf("the next command: %s", r.Next)
	}
	return r.After
}

func (c *cell) nothingIsLeft() {
	if c.event.leaves(c.tree) {
		c.somethingIsLeft()
		return
	}
	if left := c.awaitGone(proctest.Patience); len(left) > 0 || c.isHeld(proctest.Patience) {
		c.t.Errorf("there are still %v, or others that a look at /proc is too slow to see", left)
	}
}

// somethingIsLeft keeps the page true where it promises nothing but the death of
// the command itself.
func (c *cell) somethingIsLeft() {
	if !proctest.AwaitDeath(c.t, c.command, proctest.Patience) {
		c.t.Error("the command itself is left")
	}
	if !c.isHeld(0) {
		c.t.Error("nothing is left: the page promises too little")
	}
}

// isHeld reports whether somebody still has the pipe open after some time: a
// process that lives too short a time to be seen in /proc has it too.
func (c *cell) isHeld(within time.Duration) bool {
	polled := []unix.PollFd{{Fd: int32(c.held.Fd())}}
	for deadline := time.Now().Add(within); ; {
		n, err := unix.Poll(polled, int(max(time.Until(deadline), 0).Milliseconds()))
		if err != unix.EINTR {
			c.check(err)
			return n == 0
		}
	}
}

func (c *cell) awaitGone(within time.Duration) []proctest.Process {
	return proctest.AwaitNone(c.t, within, func() []proctest.Process { return proctest.Marked(c.marker) })
}

// helpersGo waits until the owner's helpers are gone. Those that have become
// children of this process are reaped, as init would do it.
func (c *cell) helpersGo() {
	left := proctest.AwaitNone(c.t, proctest.Patience, func() []proctest.Process {
		return proctest.Processes(func(p proctest.Process) bool {
			if p.Session != c.owner || !strings.HasPrefix(p.Name, "netrunner:") {
				return false
			}
			if p.Dead() && p.Parent == os.Getpid() {
				_, _ = unix.Wait4(p.PID, nil, 0, nil)
				return false
			}
			return true
		})
	})
	if len(left) > 0 {
		c.t.Errorf("helpers are left: %v", left)
	}
}

// clear ends what a cell that has failed has left, as far as it can be caught.
func (c *cell) clear() {
	_ = c.words.Close()
	if c.t.Failed() {
		for _, p := range append(proctest.Marked(c.marker), proctest.Processes(func(p proctest.Process) bool { return p.Session == c.owner })...) {
			_ = unix.Kill(p.PID, unix.SIGKILL)
		}
	}
	c.wait()
}

// write writes to the command's standard output, as the command would.
func (c *cell) write(b []byte) {
	out, err := os.OpenFile("/proc/"+strconv.Itoa(c.command)+"/fd/1", os.O_WRONLY, 0)
	c.check(err)
	_, err = out.Write(b)
	c.check(err)
	c.check(out.Close())
}

// release lets the command exit with status 3.
func (c *cell) release() {
	_, err := c.fifo.WriteString("\n")
	c.check(err)
}

func (c *cell) parentOf(pid int) int { return proctest.Look(c.t, pid).Parent }

func openFIFO(t *testing.T, path string, flags int) *os.File {
	if err := unix.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // whatever the umask
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// publicDirectory is a temporary directory that every user can enter.
func publicDirectory(t *testing.T) string {
	dir := t.TempDir()
	for up := dir; up != filepath.Clean(os.TempDir()) && up != "/"; up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// copySetUID makes a copy of the program of that name which runs as root, whoever starts it.
func copySetUID(t *testing.T, path string) {
	if os.Getuid() != 0 {
		t.Skip("not root: a program that is set-uid to another user cannot be made")
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Flags&unix.ST_NOSUID != 0 {
		t.Skipf("the file system of %s is mounted nosuid", filepath.Dir(path))
	}
	proctest.CopyProgram(t, filepath.Base(path), path, 0o755|os.ModeSetuid)
}
