package netrunner_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
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

var (
	chaosSeed   = flag.Uint64("chaos.seed", 0, "`seed` of TestChaos; 0 takes a new one")
	chaosDeaths = flag.Int("chaos.deaths", 1000, "`deaths` after which TestChaos ends")
	chaosTime   = flag.Duration("chaos.time", time.Minute, "`time` after which TestChaos ends with fewer; 0 is without limit")
)

// chaosPatience is for a machine on which much else runs.
const chaosPatience = 60 * time.Second

// TestChaos runs random commands with random trees, several at once, and has
// them end in random ways. Each has to end as its death says, and nothing of it
// may be left. The seed decides what is done, not how it interleaves.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	check(t, exec.Command("true").Run()) // what the runtime opens only once
	leaveNothing(t)
	check(t, netrunner.Command("true").Run(testContext(t)))
	netrunner.CloseIdle()
	before := belongings(t)

	c := &chaos{t: t, begin: time.Now(), deaths: map[string]int{}}
	var workers sync.WaitGroup
	for worker := range 6 * runtime.GOMAXPROCS(0) {
		workers.Go(func() { c.work(seed, uint64(worker)) })
	}
	workers.Wait()
	netrunner.CloseIdle()

	if pids := marked(t, proctest.MarkerPrefix()); len(pids) > 0 {
		t.Errorf("there are still %q", describe(pids))
	}
	if after := belongings(t); !slices.Equal(before, after) {
		t.Errorf("there was %q, there is %q", before, after)
	}
	if *chaosTime == 0 && c.count < *chaosDeaths && !t.Failed() {
		t.Errorf("%d deaths, not %d", c.count, *chaosDeaths)
	}
	t.Logf("%d deaths in %v: %v", c.count, time.Since(c.begin).Round(time.Second), c.deaths)
	t.Logf("again: go test -run Chaos -count=1 . -chaos.seed=%d -chaos.deaths=%d", seed, *chaosDeaths)
	if t.Failed() {
		t.Logf("seed %d, %d operations:\n%s", seed, len(c.log), strings.Join(c.log, "\n"))
	}
}

// belongings are what this process has and has left in files.
func belongings(t *testing.T) (all []string) {
	t.Helper()
	for _, pattern := range []string{"*", filepath.Join(os.TempDir(), "*"), filepath.Join(os.TempDir(), ".*"), "/dev/shm/*netrunner*"} {
		files, err := filepath.Glob(pattern)
		check(t, err)
		all = append(all, files...)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil {
			all = append(all, entry.Name()+" "+target)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	check(t, err)
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "memfd:") || strings.Contains(line, "/dev/shm") {
			all = append(all, line)
		}
	}
	return all
}

type chaos struct {
	t     *testing.T
	begin time.Time

	// Who kills a shepherd counts on its watcher, and holds this for reading;
	// both killed is what is not promised.
	guarded sync.RWMutex

	mu     sync.Mutex
	log    []string
	deaths map[string]int
	count  int
}

// work does one operation after the other. Each round has all deaths, those of
// owners once and the others, which are cheaper, twice.
func (c *chaos) work(seed, worker uint64) {
	random := rand.New(rand.NewPCG(seed, worker))
	for {
		deck := append(slices.Clone(chaosEnds), chaosEnds...)
		for _, end := range ownerEnds {
			deck = append(deck, chaosEnd{"owner: " + end, "", func(o *operation) error { return o.endOwner(end) }})
		}
		random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		for _, end := range deck {
			o := newOperation(c, random, end)
			if !c.begins(fmt.Sprintf("worker %d: %s: %v", worker, end.name, o)) {
				return
			}
			if err := o.run(end); err != nil {
				c.t.Errorf("worker %d: %s: %v: %v", worker, end.name, o, err)
				return
			}
			c.happened(end.name)
		}
	}
}

// begins takes note of an operation, unless it is time to end.
func (c *chaos) begins(operation string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.Failed() || c.count >= *chaosDeaths || *chaosTime > 0 && time.Since(c.begin) > *chaosTime {
		return false
	}
	c.log = append(c.log, fmt.Sprintf("%8.3fs %s", time.Since(c.begin).Seconds(), operation))
	return true
}

func (c *chaos) happened(death string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaths[death]++
	c.count++
}

// operation is a random command, and when its death comes.
type operation struct {
	*chaos
	random *rand.Rand
	mark   string
	cmd    *netrunner.Cmd
	pause  time.Duration // from its start; negative: when it says that its tree is there
}

func newOperation(c *chaos, random *rand.Rand, end chaosEnd) *operation {
	o := &operation{chaos: c, random: random, mark: marker(), pause: time.Duration(random.IntN(20)) * time.Millisecond}
	o.cmd = chaosCommand(random, o.mark, end.tail)
	if random.IntN(2) == 0 {
		o.pause = -1
	}
	return o
}

func (o *operation) String() string {
	return fmt.Sprintf("pause %v, stop signal %d, grace %v, foreground %t, %q",
		o.pause, o.cmd.StopSignal, o.cmd.KillTimeout, o.cmd.Foreground, o.cmd.Args)
}

func (o *operation) run(end chaosEnd) error {
	if err := end.run(o); err != nil {
		return err
	}
	if pids := marked(o.t, o.mark); len(pids) > 0 {
		return fmt.Errorf("there are still %q", describe(pids))
	}
	return nil
}

// ---- trees ----

// chaosCommand is a command with a random tree. The tail is what the command
// itself does when its tree is there; it stays when there is none.
func chaosCommand(random *rand.Rand, mark, tail string) *netrunner.Cmd {
	tree := &chaosTree{random: random, room: 8}
	if tail == "" {
		tails := []string{"sleep $0 & wait", "exec sleep $0", "trap '' TERM INT HUP; exec sleep $0", "kill -STOP $$; exec sleep $0"}
		tail = tails[random.IntN(len(tails))]
	}
	script := tree.parts(random.IntN(4)) + "echo ready\n" + tail
	cmd := netrunner.Command("sh", append([]string{"-c", script, mark}, tree.scripts...)...)
	signals := []syscall.Signal{0, 0, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGKILL}
	cmd.StopSignal = signals[random.IntN(len(signals))]
	cmd.KillTimeout = time.Duration(1+random.IntN(100)) * time.Millisecond
	cmd.Foreground = random.IntN(4) == 0
	return cmd
}

// chaosTree makes trees out of parts of shell scripts. $0 is the marker; what
// is executed anew is a script of its own, handed down as $1, $2, ….
type chaosTree struct {
	random  *rand.Rand
	room    int // for more parts
	scripts []string
}

func (c *chaosTree) parts(depth int) (script string) {
	for range 1 + c.random.IntN(3) {
		script += c.part(depth)
	}
	return script
}

func (c *chaosTree) part(depth int) string {
	if c.room--; c.room < 0 {
		return ""
	}
	leaves := []string{
		`sleep $0 &`,                                         // holds the pipe
		`sleep $0 </dev/null >/dev/null 2>&1 &`,              // does not
		`sleep $0 & kill -STOP $!`,                           // stands still
		`nohup sleep $0 >/dev/null 2>&1 &`,                   //
		`(trap '' TERM INT HUP USR1; exec sleep $0) &`,       // ignores
		`(trap 'exit 3' TERM; sleep $0 & wait) &`,            // obeys in its own way
		`(while sleep 0.01; do :; done) &`,                   // has ever new children
		`(setsid setsid sleep $0 >/dev/null &)`,              // orphaned at once
		`(while :; do (sleep 0.02 &); sleep 0.01; done) &`,   // has ever new orphans
		`(exec setsid sh -c 'exec sleep $0' $0 <&- >&-) & :`, // closes what it was given
	}
	branches := []func(string) string{
		func(inner string) string { return "(" + inner + "wait) &" },
		func(inner string) string { return "(trap '' TERM HUP; " + inner + "exec sleep $0) &" },
		func(inner string) string { return "setsid sh -c " + c.script(inner) + " &" },                        // a session of its own
		func(inner string) string { return "(env -i setsid sh -c " + c.script(inner) + " <&- >&- 2>&- &)" },  // a daemon that has nothing
		func(inner string) string { return "bash -mc 'sh -c \"$@\" & wait' bash " + c.script(inner) + " &" }, // a group of its own
	}
	if depth == 0 {
		return leaves[c.random.IntN(len(leaves))] + "\n"
	}
	return branches[c.random.IntN(len(branches))](c.parts(depth-1)) + "\n"
}

// script keeps a script, and returns the words that sh -c needs to run it.
func (c *chaosTree) script(inner string) string {
	c.scripts = append(c.scripts, inner+"exec sleep $0")
	return fmt.Sprintf(`"${%d}" $0 "$@"`, len(c.scripts))
}

// ---- deaths that their owner survives ----

type chaosEnd struct {
	name string
	tail string
	run  func(*operation) error
}

var chaosEnds = []chaosEnd{
	{"Kill", "", func(o *operation) error {
		return o.endBy(func(p *netrunner.Process) error { return p.Kill() }, wantSignal(syscall.SIGKILL))
	}},
	{"Stop", "", func(o *operation) error {
		return o.endBy(func(p *netrunner.Process) error { return p.Stop(context.Background()) }, o.wantStopped(nil))
	}},
	{"SIGSTOP, Kill", "", func(o *operation) error {
		return o.endBy(func(p *netrunner.Process) error {
			return errors.Join(p.Signal(syscall.SIGSTOP), p.Kill())
		}, wantSignal(syscall.SIGKILL))
	}},
	{"SIGSTOP, Stop", "", func(o *operation) error {
		return o.endBy(func(p *netrunner.Process) error {
			return errors.Join(p.Signal(syscall.SIGSTOP), p.Stop(context.Background()))
		}, o.wantStopped(nil))
	}},
	{"the command is killed", "", func(o *operation) error {
		return o.endBy(func(p *netrunner.Process) error { return unix.Kill(p.PID(), unix.SIGKILL) }, wantSignal(syscall.SIGKILL))
	}},
	{"the command exits", "exit 3", func(o *operation) error {
		return o.endBy(func(*netrunner.Process) error { return nil }, wantExit(3))
	}},
	{"context", "", func(o *operation) error {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		if o.pause >= 0 { // it may come while the command is being started
			timer := time.AfterFunc(o.pause, func() { cancel(why) })
			defer timer.Stop()
		}
		return o.endIn(ctx, func(*netrunner.Process) error { cancel(why); return nil }, o.wantStopped(why))
	}},
	{"timeout", "", func(o *operation) error {
		o.cmd.Timeout = max(o.pause, time.Millisecond)
		o.pause = 0
		err := o.endBy(func(*netrunner.Process) error { return nil }, o.wantStopped(netrunner.ErrTimeout))
		// Timeout counts from the beginning of the start, which may not be over by then.
		if _, unstarted := errors.AsType[*netrunner.StartError](err); unstarted && errors.Is(err, netrunner.ErrTimeout) {
			return nil
		}
		return err
	}},
	{"output limit", "exec yes $0", func(o *operation) error {
		var out bytes.Buffer
		o.cmd.Stdout, o.cmd.Stderr = &out, &out
		o.cmd.MaxOutput = 1 + o.random.Int64N(200_000)
		return o.endBy(func(*netrunner.Process) error { return nil }, func(_ *netrunner.State, err error) error {
			if !errors.Is(err, netrunner.ErrOutputLimit) {
				return fmt.Errorf("ended with %w, want ErrOutputLimit", err)
			}
			if int64(out.Len()) != o.cmd.MaxOutput {
				return fmt.Errorf("%d bytes, not %d", out.Len(), o.cmd.MaxOutput)
			}
			return nil
		})
	}},
	{"the reader leaves", "exec yes $0", func(o *operation) error {
		return o.endBy(func(p *netrunner.Process) error {
			_, err := io.CopyN(io.Discard, p.Stdout(), o.random.Int64N(200_000))
			return errors.Join(err, p.Stdout().Close())
		}, wantSignal(syscall.SIGPIPE))
	}},
	{"the writer fails", "exec yes $0", func(o *operation) error {
		full := errors.New("full")
		o.cmd.Stdout = &fullWriter{o.random.IntN(200_000), full}
		return o.endBy(func(*netrunner.Process) error { return nil }, func(_ *netrunner.State, err error) error {
			if !errors.Is(err, full) {
				return fmt.Errorf("%w, want that of the writer", err)
			}
			return nil
		})
	}},
	{"standard input is closed", "cat >/dev/null; exit 7", func(o *operation) error {
		o.cmd.Stdin = netrunner.Pipe
		return o.endBy(func(p *netrunner.Process) error { return p.Stdin().Close() }, wantExit(7))
	}},
	{"the shepherd is killed", "", func(o *operation) error {
		o.guarded.RLock()
		defer o.guarded.RUnlock()
		return o.endBy(func(p *netrunner.Process) error {
			shepherd := parentOf(o.t, p.PID())
			if o.random.IntN(4) == 0 {
				check(o.t, unix.Kill(shepherd, unix.SIGSTOP))
			}
			return unix.Kill(shepherd, unix.SIGKILL)
		}, o.wantLost)
	}},
	{"the watcher is killed", "", func(o *operation) error {
		return o.endBy(func(p *netrunner.Process) error {
			if err := o.killWatcher(parentOf(o.t, parentOf(o.t, p.PID()))); err != nil {
				return err
			}
			select {
			case <-p.Done():
				return errors.New("the command has ended with the watcher")
			default:
				return p.Stop(context.Background())
			}
		}, o.wantStopped(nil))
	}},
	{"the handle is dropped", "", func(o *operation) error {
		if p, err := o.cmd.Start(context.Background()); err != nil {
			return fmt.Errorf("%v: %w", p, err)
		}
		time.Sleep(o.pause)
		// A process has no command line for an instant while it executes another program: one look is not enough.
		for end, unseen := time.Now().Add(chaosPatience), 0; unseen < 3 && time.Now().Before(end); unseen++ {
			runtime.GC()
			if len(marked(o.t, o.mark)) > 0 {
				unseen = -1
			}
		}
		return nil
	}},
}

type fullWriter struct {
	room int
	err  error
}

func (w *fullWriter) Write(b []byte) (int, error) {
	if w.room -= len(b); w.room < 0 {
		return 0, w.err
	}
	return len(b), nil
}

// killWatcher kills a watcher while nobody counts on it, unless somebody else has done so.
func (o *operation) killWatcher(watcher int) error {
	o.guarded.Lock()
	defer o.guarded.Unlock()
	if !slices.Contains(children(o.t, os.Getpid()), watcher) {
		return nil // killed by another operation, and reaped
	}
	// ESRCH: it has been reaped since.
	if err := unix.Kill(watcher, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill the watcher: %w", err)
	}
	if !waitDeath(o.t, watcher, chaosPatience) {
		return errors.New("the watcher lives")
	}
	return nil
}

func (o *operation) endBy(end func(*netrunner.Process) error, want func(*netrunner.State, error) error) error {
	return o.endIn(context.Background(), end, want)
}

// endIn starts the command, ends it, and looks at how it ended.
func (o *operation) endIn(ctx context.Context, end func(*netrunner.Process) error, want func(*netrunner.State, error) error) error {
	piped := o.cmd.Stdout == nil
	if piped {
		o.cmd.Stdout = netrunner.Pipe
	}
	p, err := o.cmd.Start(ctx)
	if err != nil && ctx.Err() != nil {
		var start *netrunner.StartError
		if !errors.As(err, &start) {
			return fmt.Errorf("start: %T %w, want a StartError", err, err)
		}
		return want(nil, err)
	}
	if err != nil {
		return err
	}
	// Whatever hangs below is freed by this, and then fails.
	alarm := time.AfterFunc(chaosPatience, func() { _ = p.Kill() })
	defer func() {
		if !alarm.Stop() {
			o.t.Errorf("%v: it took more than %v", o, chaosPatience)
		}
		_ = p.Kill()
		_, _ = p.Wait()
		_ = p.Stdout().Close()
		_ = p.Stdin().Close()
	}()
	switch {
	case o.pause >= 0:
		time.Sleep(o.pause) // death comes at any time: there is nothing to wait for
	case piped:
		ready := make([]byte, len("ready\n"))
		if _, err := io.ReadFull(p.Stdout(), ready); err != nil && ctx.Err() == nil {
			return fmt.Errorf("read %q: %w", ready, err)
		}
	}
	if err := end(p); err != nil {
		return err
	}
	return want(p.Wait())
}

func wantExit(status int) func(*netrunner.State, error) error {
	return func(state *netrunner.State, err error) error {
		var exit *netrunner.ExitError
		if !errors.As(err, &exit) || exit.Cause != nil || state.ExitCode() != status {
			return fmt.Errorf("%w, want exit status %d", err, status)
		}
		return nil
	}
}

func wantSignal(signal syscall.Signal) func(*netrunner.State, error) error {
	return func(state *netrunner.State, err error) error {
		var exit *netrunner.ExitError
		if !errors.As(err, &exit) || exit.Cause != nil || state.Signal() != signal {
			return fmt.Errorf("%w, want %v", err, signal)
		}
		return nil
	}
}

// wantStopped is the end by the stop signal or, after the grace, SIGKILL.
func (o *operation) wantStopped(cause error) func(*netrunner.State, error) error {
	return func(state *netrunner.State, err error) error {
		if cause != nil && !errors.Is(err, cause) {
			return fmt.Errorf("%w, want %w", err, cause)
		}
		if state == nil && cause != nil {
			return nil // it was not started
		}
		stop := o.cmd.StopSignal
		if stop == 0 {
			stop = syscall.SIGTERM
		}
		var exit *netrunner.ExitError
		if !errors.As(err, &exit) || state.Signal() != stop && state.Signal() != syscall.SIGKILL {
			return fmt.Errorf("%w, want %v or SIGKILL", err, stop)
		}
		return nil
	}
}

// wantLost waits for the watcher, too: on a slow machine its second may be over.
func (o *operation) wantLost(state *netrunner.State, err error) error {
	if !errors.Is(err, netrunner.ErrShepherdLost) || state != nil {
		return fmt.Errorf("%v: %w, want ErrShepherdLost", state, err)
	}
	waitGone(o.t, o.mark, chaosPatience)
	return nil
}

// ---- deaths of owners ----

var ownerEnds = []string{
	"SIGKILL", "SIGKILL early", "SIGSTOP, SIGKILL", "SIGTERM", "SIGSEGV", "panic", "os.Exit", "return", "syscall.Exec",
	"killed with its watcher", "killed with its shepherds", "killed with a shepherd",
}

// endOwner has a process run some commands, and end. Above it is a process that
// gets every orphan, as init would, and waits for all of them.
func (o *operation) endOwner(end string) error {
	return o.runCradle("netrunner", end, chaosPatience)
}

func (o *operation) runCradle(runner, end string, patience time.Duration) error {
	cmd := helperCommand(o.t, "chaos-cradle", runner, end, o.mark, strconv.FormatUint(o.random.Uint64(), 10), patience.String())
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0") // under the race detector an exit sleeps for a second
	cmd.Timeout = 3 * chaosPatience
	if out, err := cmd.CombinedOutput(context.Background()); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func init() {
	helperPrograms["chaos-cradle"] = func(args []string) {
		runner, end, mark, seed := args[0], args[1], args[2], args[3]
		patience, err := time.ParseDuration(args[4])
		must(err)
		must(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
		self, err := os.Executable()
		must(err)
		owner := exec.Command(self, runner, end, mark, seed)
		owner.Env = append(os.Environ(), helperVariable+"=chaos-owner")
		out, err := owner.StdoutPipe()
		must(err)
		must(owner.Start())
		said := bufio.NewReader(out)
		if line, err := said.ReadString('\n'); line != "early\n" {
			panic(fmt.Sprintf("%q, %v", line, err))
		}
		if end == "SIGKILL early" {
			number, err := strconv.ParseUint(seed, 10, 64)
			must(err)
			time.Sleep(time.Duration(number%30) * time.Millisecond)
		} else if line, err := said.ReadString('\n'); line != "ready\n" {
			panic(fmt.Sprintf("%q, %v", line, err))
		}
		endOwner(owner.Process.Pid, end)
		_ = owner.Wait()
		reapAll(patience)
	}

	helperPrograms["chaos-owner"] = func(args []string) {
		runner, end, mark := args[0], args[1], args[2]
		seed, err := strconv.ParseUint(args[3], 10, 64)
		must(err)
		fmt.Println("early")
		random := rand.New(rand.NewPCG(seed, 0))
		var running []*netrunner.Process
		for range 1 + random.IntN(5) {
			cmd := chaosCommand(random, mark, "")
			if runner != "netrunner" {
				must(exec.Command(cmd.Path, cmd.Args[1:]...).Start())
				continue
			}
			p, err := cmd.Start(context.Background())
			must(err)
			running = append(running, p)
		}
		fmt.Println("ready")
		switch end {
		case "panic":
			panic("on purpose")
		case "os.Exit":
			os.Exit(3)
		case "syscall.Exec":
			must(syscall.Exec("/bin/true", []string{"true"}, nil))
		case "SIGSEGV", "SIGTERM":
			signal.Reset()
			must(unix.Kill(os.Getpid(), unix.SignalNum(end)))
			fallthrough
		default:
			for _, p := range running { // until it is killed
				_, _ = p.Wait()
			}
			select {}
		case "return":
		}
		runtime.KeepAlive(running)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// endOwner does what is done to an owner from outside.
func endOwner(owner int, end string) {
	var victims []proctest.Process
	switch end {
	case "SIGKILL", "SIGKILL early":
	case "SIGSTOP, SIGKILL":
		must(unix.Kill(owner, unix.SIGSTOP))
	case "killed with its watcher":
		victims = proctest.Children(owner)
	case "killed with its shepherds":
		victims = proctest.Children(proctest.Children(owner)[0].PID)
	case "killed with a shepherd":
		victims = proctest.Children(proctest.Children(owner)[0].PID)[:1]
	default:
		return // it ends by itself
	}
	for _, pid := range append(pidsOf(victims), owner) {
		must(unix.Kill(pid, unix.SIGKILL))
	}
}

// reapAll waits until this process has no child. Who lives longer than that is
// named and killed.
func reapAll(patience time.Duration) {
	var survivors []proctest.Process
	time.AfterFunc(patience, func() {
		survivors = proctest.Children(os.Getpid())
		for {
			for _, p := range proctest.Children(os.Getpid()) {
				_ = unix.Kill(p.PID, unix.SIGKILL)
			}
		}
	})
	for {
		_, err := unix.Wait4(-1, nil, unix.WALL, nil)
		if err == unix.ECHILD {
			break
		}
		if err != unix.EINTR {
			must(err)
		}
	}
	if survivors != nil {
		fmt.Printf("survivors: %v\n", survivors)
		os.Exit(1)
	}
}

// What TestChaos looks for is there to be seen: without NetRunner the same trees outlive their owner.
func TestChaosSeesSurvivors(t *testing.T) {
	leaveNothing(t)
	c := &chaos{t: t}
	o := newOperation(c, rand.New(rand.NewPCG(1, 1)), chaosEnd{})
	err := o.runCradle("os/exec", "SIGKILL", time.Second)
	var exit *netrunner.ExitError
	if !errors.As(err, &exit) || exit.State.ExitCode() != 1 || !strings.Contains(err.Error(), "survivors: ") || !strings.Contains(err.Error(), o.mark) {
		t.Errorf("%v, want survivors", err)
	}
	waitGone(t, o.mark, chaosPatience)
}
