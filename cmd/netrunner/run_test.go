package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// command is exec.Command for a test: what hangs fails it, and does not hang it.
func command(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), proctest.Patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	return cmd
}

// session is a netrunner that runs.
type session struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *os.File
	lines  *bufio.Reader
	stderr bytes.Buffer
}

// start runs netrunner with its output on a pipe. The test kills what is left at its end.
func start(t *testing.T, program string, args ...string) *session {
	t.Helper()
	s := &session{t: t, cmd: exec.Command(program, args...)}
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close() //nolint:errcheck // netrunner has its own copy
	s.out, s.lines = out, bufio.NewReader(out)
	input, err := s.cmd.StdinPipe() // without a word, and without an end
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = theirs, &s.stderr
	s.cmd.WaitDelay = proctest.Patience
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		_ = input.Close()
		_ = out.Close()
	})
	return s
}

// expect reads the next line of output.
func (s *session) expect(want string) {
	s.t.Helper()
	if got := s.line(); got != want {
		s.t.Fatalf("the command wrote %q, want %q; standard error: %s", got, want, s.stderr.String())
	}
}

func (s *session) line() string {
	s.t.Helper()
	if err := s.out.SetReadDeadline(time.Now().Add(proctest.Patience)); err != nil {
		s.t.Fatal(err)
	}
	line, err := s.lines.ReadString('\n')
	if err != nil {
		s.t.Fatalf("read a line: %v; got %q", err, line)
	}
	return strings.TrimSuffix(line, "\n")
}

func (s *session) signal(number syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(number); err != nil {
		s.t.Fatal(err)
	}
}

// status waits for the end. It fails when netrunner does not exit by itself.
func (s *session) status() int {
	s.t.Helper()
	watchdog := time.AfterFunc(proctest.Patience, func() { _ = s.cmd.Process.Kill() })
	defer watchdog.Stop()
	err := s.cmd.Wait()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		s.t.Fatal(err)
	}
	if !s.cmd.ProcessState.Exited() {
		s.t.Fatalf("netrunner: %v", s.cmd.ProcessState)
	}
	return s.cmd.ProcessState.ExitCode()
}

// below lists the processes below netrunner.
func (s *session) below() []proctest.Process { return proctest.Descendants(s.cmd.Process.Pid) }

func TestEveryExitStatusIsPassedOn(t *testing.T) {
	t.Parallel()
	var wait sync.WaitGroup
	slots := make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	for want := range 256 {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			cmd := command(t, "netrunner", "run", "--", "sh", "-c", "exit $0", strconv.Itoa(want))
			out, err := cmd.CombinedOutput()
			if err != nil && !errors.As(err, new(*exec.ExitError)) {
				t.Error(err)
				return
			}
			if got := cmd.ProcessState.ExitCode(); got != want || len(out) > 0 {
				t.Errorf("exit %d: status %d, and it said %q", want, got, out)
			}
		})
	}
	wait.Wait()
}

func TestEverySignalThatEndsIsPassedOn(t *testing.T) {
	t.Parallel()
	for _, signal := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGKILL, unix.SIGPIPE, unix.SIGTERM, unix.SIGUSR1, 34, 64} {
		cmd := command(t, "netrunner", "run", "--", "sh", "-c", "kill -$0 $$", strconv.Itoa(int(signal)))
		out, err := cmd.CombinedOutput()
		if err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		if got, want := cmd.ProcessState.ExitCode(), 128+int(signal); got != want || len(out) > 0 {
			t.Errorf("signal %d: status %d, want %d, and it said %q", signal, got, want, out)
		}
	}
}

// The pipeline is long enough to be killed in its middle: some hundred megabytes.
// The marker is short enough for a suffix of gzip's.
func TestNothingOutlivesSIGKILL(t *testing.T) {
	t.Parallel()
	marker := proctest.Marker()
	s := start(t, "netrunner", "run", "--", "sh", "-c",
		`tar -C "$0" --exclude="$1" -cf - src | gzip -1 --suffix=".$1" | wc -c`, goroot(t), marker)
	var tree []proctest.Process
	eventually(t, "the pipeline", func() bool {
		tree = s.below()
		for _, name := range []string{"sh", "tar", "gzip", "wc"} {
			if _, ok := program(tree, name); !ok {
				return false
			}
		}
		return true
	})
	if len(tree) != 6 { // with watcher and shepherd
		t.Errorf("netrunner has %d processes below it, want 6: %v", len(tree), tree)
	}
	await := watch(t, tree)
	s.signal(syscall.SIGKILL)
	await(5 * time.Second)
	if left := proctest.Marked(marker); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("cannot run the go command: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func TestStubbornTreeDoesNotOutliveSIGKILL(t *testing.T) {
	t.Parallel()
	marker := proctest.Marker()
	s := start(t, "netrunner", "run", "--grace", "100ms", "--", "sh", "-c",
		`trap '' TERM HUP INT; setsid sh -c 'echo ready; sleep 1000; :' "$0" & sleep 1000; :`, marker)
	s.expect("ready")
	await := watch(t, s.below())
	s.signal(syscall.SIGKILL)
	await(5 * time.Second)
	if left := proctest.Marked(marker); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// The command says what it got, and decides with what status it ends. It waits
// in read, since a child that it had just forked might lose the signal at its exec.
const obeying = `trap 'echo got TERM; exit 3' TERM
trap 'echo got USR1; exit 4' USR1
echo ready
while :; do read line; done`

func TestSignalIsPassedOnAsStopSignal(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			t.Parallel()
			s := start(t, "netrunner", "run", "--", "sh", "-c", obeying)
			s.expect("ready")
			s.signal(signal)
			s.expect("got TERM")
			if got := s.status(); got != 3 || s.stderr.Len() > 0 {
				t.Errorf("status %d, want the command's own, 3; standard error: %q", got, s.stderr.String())
			}
		})
	}
}

func TestStopSignalIsConfigurable(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"USR1", "SIGUSR1", "sigusr1", strconv.Itoa(int(unix.SIGUSR1))} {
		s := start(t, "netrunner", "run", "--signal", name, "--", "sh", "-c", obeying)
		s.expect("ready")
		s.signal(syscall.SIGTERM)
		s.expect("got USR1")
		if got := s.status(); got != 4 {
			t.Errorf("--signal %s: status %d, want 4", name, got)
		}
	}
}

const ignoring = `trap 'echo got TERM' TERM
echo ready
while :; do read line; done`

func TestSecondSignalKills(t *testing.T) {
	t.Parallel()
	s := start(t, "netrunner", "run", "--grace", "60s", "--", "sh", "-c", ignoring)
	s.expect("ready")
	s.signal(syscall.SIGTERM)
	s.expect("got TERM")
	await := watch(t, s.below())
	s.signal(syscall.SIGTERM)
	if got := s.status(); got != 137 {
		t.Errorf("status %d, want 137", got)
	}
	await(0)
}

func TestGraceEndsTheWait(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "stats")
	s := start(t, "netrunner", "run", "--grace", "200ms", "--stats", path, "--", "sh", "-c", ignoring)
	s.expect("ready")
	s.signal(syscall.SIGTERM)
	s.expect("got TERM")
	if got := s.status(); got != 137 {
		t.Errorf("status %d, want 137", got)
	}
	if stats := readStats(t, path); stats.Reason != "got SIGTERM" || stats.Signal != "SIGKILL" || stats.ExitCode != nil {
		t.Errorf("stats: reason %q, signal %q, exit code %v", stats.Reason, stats.Signal, stats.ExitCode)
	}
}

// As nohup(1) starts it, and a shell its background jobs.
func TestIgnoredSignalStaysIgnored(t *testing.T) {
	t.Parallel()
	s := start(t, "sh", "-c", `trap '' HUP INT; exec netrunner run --grace 60s -- sh -c "$0"`, obeying)
	s.expect("ready")
	ignored, err := strconv.ParseUint(proctest.StatusField(t, s.cmd.Process.Pid, "SigIgn"), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, signal := range []unix.Signal{unix.SIGHUP, unix.SIGINT} {
		if ignored&(1<<(signal-1)) == 0 {
			t.Errorf("netrunner does not ignore %s any more", unix.SignalName(signal))
		}
		s.signal(signal)
	}
	s.signal(syscall.SIGTERM)
	s.expect("got TERM")
	if got := s.status(); got != 3 {
		t.Errorf("status %d, want 3: SIGTERM was not the first signal that it took", got)
	}
}

func TestLostShepherdIsReported(t *testing.T) {
	t.Parallel()
	s := start(t, "netrunner", "run", "--", "sh", "-c", "echo ready; sleep 1000; :")
	s.expect("ready")
	tree := s.below()
	shepherd, ok := program(tree, "netrunner: shepherd")
	if !ok {
		t.Fatalf("no shepherd among %v", tree)
	}
	await := watch(t, tree)
	if err := unix.Kill(shepherd.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := s.status(); got != 125 {
		t.Errorf("status %d, want 125", got)
	}
	if got := s.stderr.String(); !strings.HasPrefix(got, "netrunner: ") || !strings.Contains(got, "shepherd") || strings.Count(got, "\n") != 1 {
		t.Errorf("standard error: %q", got)
	}
	await(5 * time.Second)
}

func TestLeaveKeepsTheDaemon(t *testing.T) {
	t.Parallel()
	marker := proctest.Marker()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// It waits in its own open of the fifo, so that there is no child to forget.
	s := start(t, "netrunner", "run", "--leave", "--", "sh", "-c",
		`sh -c 'echo $$; exec >/dev/null 2>&1; read line <"$1"; :' "$0" "$1" &`, marker, fifo)
	pid, err := strconv.Atoi(s.line())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.status(); got != 0 {
		t.Errorf("status %d, want 0; standard error: %q", got, s.stderr.String())
	}
	daemon, ok := proctest.Read(pid)
	if !ok || daemon.Dead() || !strings.Contains(strings.Join(daemon.Args, " "), marker) {
		t.Fatalf("the daemon is gone: %v", daemon)
	}
	await := watch(t, []proctest.Process{daemon})
	if err := unix.Kill(daemon.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(proctest.Patience)
}

func TestWithoutLeaveTheDaemonGoes(t *testing.T) {
	t.Parallel()
	marker := proctest.Marker()
	s := start(t, "netrunner", "run", "--", "sh", "-c",
		`{ setsid sh -c 'echo ready; exec >/dev/null 2>&1; sleep 1000; :' "$0" & } | read line`, marker)
	if got := s.status(); got != 0 {
		t.Errorf("status %d, want 0; standard error: %q", got, s.stderr.String())
	}
	if left := proctest.Marked(marker); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Not even a zombie: a container whose first process reaps nobody would collect
// them. Not in parallel, since what other tests lose comes to the same parent.
func TestNothingOfItIsLeftWhenItExits(t *testing.T) {
	known := map[int]bool{}
	proctest.Processes(func(p proctest.Process) bool {
		known[p.PID] = true
		return false
	})
	for _, args := range [][]string{{"true"}, {"sh", "-c", "setsid sleep 1000 & exit 3"}, {"no-such-program"}, {"/"}} {
		_ = command(t, "netrunner", append([]string{"run", "--"}, args...)...).Run()
		for _, p := range proctest.Children(os.Getpid()) {
			if !known[p.PID] {
				t.Errorf("after %q: left to its parent: %v", args, p)
			}
		}
	}
}

func TestSameBytesAsWithout(t *testing.T) {
	t.Parallel()
	job := []string{"tar", "-C", filepath.Join(goroot(t), "src"), "--sort=name", "-cf", "-", "fmt", "strconv", "net"}
	want, err := exec.Command(job[0], job[1:]...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{nil, {"--max-output", "1G"}, {"--timeout", "10m", "--stats", os.DevNull}} {
		args := append(append([]string{"run"}, flags...), "--")
		got, err := command(t, "netrunner", append(args, job...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("with %q: %d bytes that differ from the %d of the job alone", flags, len(got), len(want))
		}
	}
}

func TestInputIsPassed(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	cmd := command(t, "netrunner", "run", "--", "cat")
	cmd.Stdin = bytes.NewReader(want)
	got, err := cmd.Output()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes went in, %d came out, %v", len(want), len(got), err)
	}
}

// One run is measured by both, so that nothing but their own resolution is
// between them: GNU time counts hundredths of a second, rounded down, and
// is itself part of what netrunner measures.
func TestStatsAgreeWithTime(t *testing.T) {
	t.Parallel()
	const gnuTime = "/usr/bin/time"
	if _, err := os.Stat(gnuTime); err != nil {
		t.Skipf("cannot compare without GNU time: %v", err)
	}
	dir := t.TempDir()
	statsPath, timePath := filepath.Join(dir, "stats"), filepath.Join(dir, "time")
	// Half a second of arithmetic, then 64 MiB of memory that is really written.
	job := `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null`
	out, err := command(t, "netrunner", "run", "--stats", statsPath, "--",
		gnuTime, "-o", timePath, "-f", "%U %S %M %e", "sh", "-c", job).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var user, system, kilobytes, elapsed float64
	content, err := os.ReadFile(timePath)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(content), &user, &system, &kilobytes, &elapsed); err != nil {
		t.Fatalf("%q: %v", content, err)
	}
	stats := readStats(t, statsPath)
	for _, figure := range []struct {
		name                 string
		got, want, tolerance float64
	}{
		{"cpu seconds", stats.UserCPUSeconds + stats.SystemCPUSeconds, user + system, 0.05},
		{"seconds", stats.DurationSeconds, elapsed, 0.25}, // with the start of GNU time, on a busy machine
		{"bytes resident", float64(stats.MaxRSSBytes), kilobytes * 1024, 0.1 * kilobytes * 1024},
	} {
		if math.Abs(figure.got-figure.want) > figure.tolerance {
			t.Errorf("%s: netrunner says %v, GNU time %v", figure.name, figure.got, figure.want)
		}
	}
	if user+system < 0.05 || kilobytes < 64<<10 {
		t.Errorf("the job was too small to compare: %q", content)
	}
}

func readStats(t *testing.T, path string) *report {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &report{figures: &figures{}, output: &output{}}
	if err := json.Unmarshal(content, r); err != nil {
		t.Fatalf("%s: %v", content, err)
	}
	return r
}

func TestCommandSeesOnlyThreeDescriptors(t *testing.T) {
	t.Parallel()
	// The shell's own look into the directory is over when the second test is made.
	const list = `for fd in /proc/$$/fd/*; do if [ -L "$fd" ]; then echo "${fd##*/}"; fi; done`
	extra, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close() //nolint:errcheck // only read
	for _, flags := range [][]string{nil, {"--max-output", "1M"}, {"--stats", os.DevNull}} {
		cmd := command(t, "netrunner", append(append([]string{"run"}, flags...), "sh", "-c", list)...)
		cmd.ExtraFiles = []*os.File{extra, extra, extra}
		out, err := cmd.CombinedOutput()
		if want := "0\n1\n2\n"; err != nil || string(out) != want {
			t.Errorf("with %q: descriptors %q, %v", flags, out, err)
		}
	}
}

// immune is a program that its user can't kill: it becomes another user.
func immune() {
	if err := unix.Setresuid(0, 0, 0); err != nil {
		fmt.Println("setresuid:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	<-context.Background().Done()
}

func TestLeftoverThatCannotBeKilledIsReported(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("cannot make a set-uid program: not root")
	}
	// Where another user can come.
	dir, err := os.MkdirTemp("", "netrunner-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "immune")
	proctest.CopyProgram(t, "immune", program, 0o755|os.ModeSetuid)
	proctest.CopyProgram(t, "netrunner", filepath.Join(dir, "netrunner"), 0o755)
	cmd := command(t, filepath.Join(dir, "netrunner"), "run", "--", "sh", "-c", `mkfifo fifo && { "$0" >fifo 2>/dev/null & } && read line <fifo && [ "$line" = ready ]`, program)
	cmd.Dir = filepath.Join(dir, "work")
	if err := os.Mkdir(cmd.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(cmd.Dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	defer func() {
		for _, p := range proctest.Marked(program) {
			_ = unix.Kill(p.PID, unix.SIGKILL)
		}
	}()
	out, err := cmd.CombinedOutput()
	if !errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("%v: %s", err, out)
	}
	if got := cmd.ProcessState.ExitCode(); got != 125 || !strings.Contains(string(out), "could not be killed") {
		if len(proctest.Marked(program)) == 0 {
			t.Skipf("cannot run a set-uid program in %s: %s", dir, out)
		}
		t.Errorf("status %d, and it said %q", got, out)
	}
}
