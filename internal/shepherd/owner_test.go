package shepherd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// owner does by hand what an owner does: it has a watcher, asks it for
// shepherds, and says to both whatever a test wants.
type owner struct {
	t       testing.TB
	build   build
	control *peer // the watcher's control socket
	pid     int   // of the watcher, or of what was put before it
	exited  chan *os.ProcessState
	status  int    // of its exit
	reports string // the file that the sanitizers write

	// It is in the environment or on the command line of all that a test starts.
	marker string
}

// start says how a test's watcher differs from the usual one.
type start struct {
	before []string // a command that executes it
	env    []string
	user   uint32 // not root
	mute   bool   // it does not get so far as to say hello
}

func startOwner(t testing.TB, b build, how *start) *owner {
	t.Helper()
	if how == nil {
		how = &start{}
	}
	o := &owner{
		t: t, build: b, exited: make(chan *os.ProcessState, 1), reports: filepath.Join(t.TempDir(), "reports"),
		marker: proctest.Marker(),
	}
	control, theirs := newPeer(t)
	o.control = control
	null := openFile(t, os.DevNull)
	attr := &os.ProcAttr{
		Dir:   "/",
		Env:   append([]string{"M=" + o.marker}, how.env...),
		Files: []*os.File{null, null, null, theirs},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	if b.sanitized {
		// Nothing is allocated, so nothing leaks; and the leak detector is a thread of its own.
		attr.Env = append(attr.Env, "ASAN_OPTIONS=detect_leaks=0", "UBSAN_OPTIONS=print_stacktrace=1")
		reports, err := os.OpenFile(o.reports, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		must(t, err)
		defer reports.Close() //nolint:errcheck // it is for the helper
		attr.Files[2] = reports
	}
	if how.user != 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: how.user, Gid: how.user}
	}
	argv := slices.Concat(how.before, b.argv, []string{attached}) // so that its end can be waited for
	path := argv[0]
	if len(how.before) == 0 && !b.emulated {
		argv = []string{helperName, attached}
	}
	process, err := os.StartProcess(path, argv, attr)
	must(t, err)
	must(t, theirs.Close()) // the watcher has its own
	o.pid = process.Pid
	go func() {
		state, err := process.Wait()
		if err != nil {
			panic(err)
		}
		o.exited <- state
	}()
	t.Cleanup(o.leaveNothing)
	if !how.mute {
		expect[helloEvent](o.control, eventHello)
	}
	return o
}

// in makes a subtest the one that fails.
func (o *owner) in(t testing.TB) { o.t, o.control.t = t, t }

// leaveNothing ends every test: the owner hangs up, and then the watcher and
// all that it had started has to go.
func (o *owner) leaveNothing() {
	o.control.close()
	o.watcherExits()
	eventually(o.t, "nothing is left", func() (string, bool) {
		left := o.processes()
		return fmt.Sprint(left), len(left) == 0
	})
	o.noReports()
}

// watcherExits waits for the watcher's end, and makes sure that it was a good one.
func (o *owner) watcherExits() {
	o.t.Helper()
	select {
	case state := <-o.exited:
		if state.ExitCode() != o.status && state.String() != "signal: killed" { // only a test sends SIGKILL
			o.t.Errorf("watcher: %v", state)
		}
		o.exited <- state // for whoever asks again
	case <-time.After(proctest.Patience):
		o.t.Errorf("the watcher does not exit; there are %v", o.processes())
		for _, p := range o.processes() {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
}

func (o *owner) noReports() {
	text, err := os.ReadFile(o.reports)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		o.t.Fatal(err)
	}
	// That a child has another stack than AddressSanitizer thinks is a warning, and no error.
	if bytes.Contains(text, []byte("ERROR: ")) || bytes.Contains(text, []byte("runtime error: ")) {
		o.t.Errorf("the sanitizers report:\n%s", text)
	}
}

// ---- what there is, seen from outside ----

// processes lists what carries the marker, except for zombies: they carry nothing any more.
func (o *owner) processes() []proctest.Process {
	return proctest.Processes(func(p proctest.Process) bool {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID)) // it may have gone
		return strings.Contains(strings.Join(p.Args, " "), o.marker) || bytes.Contains(env, []byte("M="+o.marker))
	})
}

// sleepers lists those that run `sleep $M`.
func (o *owner) sleepers() (pids []int) {
	for _, p := range o.processes() {
		if p.Name == "sleep" {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

func (o *owner) awaitSleepers(count int) []int {
	o.t.Helper()
	var pids []int
	eventually(o.t, fmt.Sprintf("%d of `sleep`", count), func() (string, bool) {
		pids = o.sleepers()
		return fmt.Sprint(o.processes()), len(pids) == count
	})
	return pids
}

func awaitState(t testing.TB, pid int, state byte) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d in state %c", pid, state), func() (string, bool) {
		now, _ := proctest.Read(pid)
		return now.String(), now.State == state
	})
}

func descriptorsOf(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	return len(entries)
}

// watchExit returns a function that waits for the process's end.
func watchExit(t testing.TB, pid int) (await func()) {
	t.Helper()
	dies := proctest.Watch(t, pid)
	return func() {
		t.Helper()
		if !dies(proctest.Patience) {
			now, _ := proctest.Read(pid)
			t.Fatalf("it does not exit: %v", now)
		}
	}
}

// eventually looks again and again, for what there is no event to wait for.
func eventually(t testing.TB, what string, look func() (seen string, ok bool)) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(proctest.Patience); ; <-ticker.C {
		seen, ok := look()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Errorf("waited for: %s; there is: %s", what, seen)
			return
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openFile(t testing.TB, path string) *os.File {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil { // a directory, or one that others own
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	must(t, err)
	file := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// ---- one end of a connection ----

type peer struct {
	t       testing.TB
	conn    *net.UnixConn
	pending []byte
	pidfds  []int
}

// newPeer makes a connected pair: the test's end, and the helper's.
func newPeer(t testing.TB) (*peer, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	ours := os.NewFile(uintptr(fds[0]), "ours")
	conn, err := net.FileConn(ours)
	must(t, err)
	must(t, ours.Close())
	must(t, conn.SetDeadline(time.Now().Add(2*proctest.Patience)))
	p := &peer{t: t, conn: conn.(*net.UnixConn)}
	t.Cleanup(p.close)
	return p, os.NewFile(uintptr(fds[1]), "theirs")
}

func (p *peer) close() {
	_ = p.conn.Close()
	for _, fd := range p.pidfds {
		_ = unix.Close(fd)
	}
	p.pidfds = nil
}

func (p *peer) send(b []byte, descriptors ...int) {
	p.t.Helper()
	must(p.t, p.trySend(b, descriptors...))
}

func (p *peer) trySend(b []byte, descriptors ...int) error {
	var rights []byte
	if len(descriptors) > 0 {
		rights = unix.UnixRights(descriptors...)
	}
	for len(b) > 0 {
		n, _, err := p.conn.WriteMsgUnix(b, rights, nil)
		if err != nil {
			return err
		}
		b, rights = b[n:], nil
	}
	return nil
}

// receive returns the next event; io.EOF when the helper is gone.
func (p *peer) receive() (event, error) {
	for {
		ev, rest, ok, err := cutEvent(p.pending)
		if ok || err != nil {
			p.pending = rest
			return ev, err
		}
		var b, rights [512]byte
		n, r, _, _, err := p.conn.ReadMsgUnix(b[:], rights[:])
		if errors.Is(err, syscall.ECONNRESET) { // gone, without having read all that we sent
			err = io.EOF
		}
		if err != nil {
			return event{}, err
		}
		p.pending = append(p.pending, b[:n]...)
		messages, err := unix.ParseSocketControlMessage(rights[:r])
		must(p.t, err)
		for i := range messages {
			fds, err := unix.ParseUnixRights(&messages[i])
			must(p.t, err)
			p.pidfds = append(p.pidfds, fds...)
		}
	}
}

// hangsUp waits for the end of the connection, whatever comes before it.
func (p *peer) hangsUp() {
	p.t.Helper()
	for {
		if _, err := p.receive(); err != nil {
			if !errors.Is(err, io.EOF) {
				p.t.Fatalf("instead of a hang-up: %v", err)
			}
			return
		}
	}
}

// expect returns the fields of the next event, which has to be of that kind.
func expect[T any](p *peer, kind uint32) T {
	p.t.Helper()
	ev, err := p.receive()
	if err != nil {
		p.t.Fatalf("waited for event %d: %v", kind, err)
	}
	if ev.kind != kind {
		p.t.Fatalf("waited for event %d: it is event %d, % x", kind, ev.kind, ev.fields)
	}
	fields, err := decode[T](ev)
	must(p.t, err)
	return fields
}

// ---- one shepherd ----

type ward struct {
	*peer
	owner *owner
	pid   int
	exits func() // waits for its end
	out   *bufio.Reader
}

// in makes a subtest the one that fails.
func (s *ward) in(t testing.TB) {
	s.t = t
	s.owner.in(t)
}

// shepherd asks the watcher for a shepherd.
func (o *owner) shepherd() *ward {
	o.t.Helper()
	s := o.unreadyShepherd()
	ready := expect[readyEvent](s.peer, eventReady)
	s.pid = int(ready.Shepherd)
	s.exits = watchExit(o.t, s.pid)
	return s
}

func (o *owner) unreadyShepherd() *ward {
	o.t.Helper()
	p, theirs := newPeer(o.t)
	defer theirs.Close() //nolint:errcheck // the shepherd has its own
	o.control.send(spawnRequest{}.append(nil), int(theirs.Fd()))
	return &ward{peer: p, owner: o}
}

// spec describes a command with a grace that no test waits for.
func (s *ward) spec(argv ...string) *Spec {
	s.t.Helper()
	path := argv[0]
	for _, dir := range []string{"/usr/bin/", "/bin/"} {
		if _, err := os.Stat(dir + path); err == nil && !strings.Contains(path, "/") {
			path = dir + path
		}
	}
	null := int(openFile(s.t, os.DevNull).Fd())
	return &Spec{
		Path: path, Args: argv, Env: []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "M=" + s.owner.marker},
		Descriptors: []int{null, null, null}, Directory: int(openFile(s.t, "/").Fd()),
		StopSignal: syscall.SIGTERM, Grace: 2 * proctest.Patience,
	}
}

// request sends a start without waiting for its answer.
func (s *ward) request(spec *Spec) {
	s.t.Helper()
	frame, err := appendStart(nil, spec)
	must(s.t, err)
	s.send(frame, spec.descriptors(int(openFile(s.t, os.DevNull).Fd()))...)
}

func (s *ward) start(spec *Spec) (pid int) {
	s.t.Helper()
	s.request(spec)
	return int(expect[startedEvent](s.peer, eventStarted).Command)
}

// shell prepares a script whose standard output goes to s.out.
func (s *ward) shell(script string) *Spec {
	s.t.Helper()
	r, w, err := os.Pipe()
	must(s.t, err)
	s.t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	must(s.t, r.SetReadDeadline(time.Now().Add(2*proctest.Patience)))
	s.out = bufio.NewReader(r)
	spec := s.spec("sh", "-c", script)
	spec.Descriptors[1] = int(w.Fd())
	return spec
}

// says waits until the script says that word.
func (s *ward) says(word string) {
	s.t.Helper()
	line, err := s.out.ReadString('\n')
	if err != nil || line != word+"\n" {
		s.t.Fatalf("waited for the command to say %q: %q, %v", word, line, err)
	}
}

func (s *ward) ended() endedEvent {
	s.t.Helper()
	return expect[endedEvent](s.peer, eventEnded)
}

// endsWith waits for the command's end, which has to be of that kind.
func (s *ward) endsWith(status string) endedEvent {
	s.t.Helper()
	ended := s.ended()
	if got := statusText(ended.Status); got != status {
		s.t.Errorf("the command ended with %s, not with %s", got, status)
	}
	return ended
}

func statusText(status uint32) string {
	w := syscall.WaitStatus(status)
	if w.Signaled() {
		return unix.SignalName(w.Signal())
	}
	return strconv.Itoa(w.ExitStatus())
}

// goesOn makes sure that the shepherd takes another command.
func (s *ward) goesOn() {
	s.t.Helper()
	s.start(s.spec("true"))
	if ended := s.endsWith("0"); ended.Reusable != 1 || ended.Killed != 0 || ended.Left != 0 {
		s.t.Errorf("after `true`: %+v", ended)
	}
}

func headOnly(length, kind uint32) []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, length), kind)
}
