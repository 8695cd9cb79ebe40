package netrunner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
)

// observed records what an Observer is told.
type observed struct {
	mu         sync.Mutex
	order      []string // of the functions
	contexts   []context.Context
	started    netrunner.StartedInfo
	notStarted netrunner.NotStartedInfo
	leftovers  netrunner.LeftoversInfo
	exited     netrunner.ExitedInfo
}

type contextKey string

// observer attaches to each context of Started a value.
func (o *observed) observer() *netrunner.Observer {
	note := func(ctx context.Context, name string, more func()) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.order, o.contexts = append(o.order, name), append(o.contexts, ctx)
		more()
	}
	return &netrunner.Observer{
		Started: func(ctx context.Context, info netrunner.StartedInfo) context.Context {
			note(ctx, "started", func() { o.started = info })
			return context.WithValue(ctx, contextKey("span"), info.PID)
		},
		NotStarted: func(ctx context.Context, info netrunner.NotStartedInfo) {
			note(ctx, "not started", func() { o.notStarted = info })
		},
		Leftovers: func(ctx context.Context, info netrunner.LeftoversInfo) {
			note(ctx, "leftovers", func() { o.leftovers = info })
		},
		Exited: func(ctx context.Context, info netrunner.ExitedInfo) {
			note(ctx, "exited", func() { o.exited = info })
		},
	}
}

// check compares the calls, and that each has got its context.
func (o *observed) check(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.order, want) {
		t.Errorf("called were %q, want %q", o.order, want)
	}
	for i, ctx := range o.contexts {
		if ctx.Value(contextKey("caller")) != "me" {
			t.Errorf("%s has not got the caller's context", o.order[i])
		}
		if span := ctx.Value(contextKey("span")); i > 0 && span != o.started.PID {
			t.Errorf("%s has got %v from Started's context, want %d", o.order[i], span, o.started.PID)
		}
	}
}

func callersContext(t *testing.T) context.Context {
	return context.WithValue(testContext(t), contextKey("caller"), "me")
}

func TestTheObserverIsToldInOrder(t *testing.T) {
	type waitFunc func(context.Context, *netrunner.Cmd) error
	ways := []struct {
		name string
		run  waitFunc
	}{
		{"Run", func(ctx context.Context, cmd *netrunner.Cmd) error { return cmd.Run(ctx) }},
		{"Output", func(ctx context.Context, cmd *netrunner.Cmd) error {
			_, err := cmd.Output(ctx)
			return err
		}},
		{"Start", func(ctx context.Context, cmd *netrunner.Cmd) error {
			p, err := cmd.Start(ctx)
			if err != nil {
				return err
			}
			_, err = p.Wait()
			return err
		}},
	}
	for _, test := range []struct {
		name   string
		script string
		killed int
		status int
		want   []string
	}{
		{"success", "exit 0", 0, 0, []string{"started", "exited"}},
		{"a status", "echo why >&2; exit 3", 0, 3, []string{"started", "exited"}},
		{"a signal", "kill -9 $$", 0, -1, []string{"started", "exited"}},
		{"leftovers", "sleep $0 & setsid sleep $0 & exit 4", 2, 4, []string{"started", "leftovers", "exited"}},
	} {
		for _, way := range ways {
			t.Run(test.name+"/"+way.name, func(t *testing.T) {
				leaveNothing(t)
				var o observed
				cmd := netrunner.Command("sh", "-c", test.script, marker())
				cmd.Observer = o.observer()
				err := way.run(callersContext(t), cmd)
				o.check(t, test.want...)
				if o.exited.Err != err {
					t.Errorf("Exited got %v, the caller %v", o.exited.Err, err)
				}
				if o.exited.State.ExitCode() != test.status || o.exited.Stats.ExitCode != test.status || o.exited.Command != "sh" {
					t.Errorf("Exited got %+v, want status %d", o.exited, test.status)
				}
				if o.started.PID <= 0 || o.exited.PID != o.started.PID || !o.exited.Stats.Start.Equal(o.started.Start) {
					t.Errorf("Started got %+v, Exited %+v", o.started, o.exited)
				}
				if o.leftovers.Killed != test.killed || o.leftovers.Left != 0 {
					t.Errorf("Leftovers got %+v, want %d killed", o.leftovers, test.killed)
				}
			})
		}
	}
}

func TestTheObserverIsToldWhatIsLeft(t *testing.T) {
	leaveNothing(t)
	var o observed
	mark := marker()
	cmd := netrunner.Command("sh", "-c", "sleep $0 >/dev/null 2>&1 &", mark)
	cmd.Leftovers = netrunner.LeaveLeftovers
	cmd.Observer = o.observer()
	check(t, cmd.Run(callersContext(t)))
	o.check(t, "started", "leftovers", "exited")
	pids := marked(t, mark)
	if o.leftovers.Left != 1 || o.leftovers.Killed != 0 || !slices.Equal(o.leftovers.PIDs, pids) {
		t.Errorf("Leftovers got %+v, want %d", o.leftovers, pids)
	}
	for _, pid := range pids {
		check(t, unix.Kill(pid, unix.SIGKILL))
	}
	waitGone(t, mark, patience)
}

func TestTheObserverIsToldWhatWasNotStarted(t *testing.T) {
	leaveNothing(t)
	cancelled, cancel := context.WithCancelCause(callersContext(t))
	why := errors.New("why")
	cancel(why)
	for _, test := range []struct {
		name string
		ctx  context.Context
		cmd  *netrunner.Cmd
		want error
	}{
		{"not found", callersContext(t), netrunner.Command("no-such-program"), exec.ErrNotFound},
		{"a bad field", callersContext(t), &netrunner.Cmd{}, nil},
		{"a missing directory", callersContext(t), &netrunner.Cmd{Path: "/bin/true", Dir: "/nowhere"}, syscall.ENOENT},
		{"not executable", callersContext(t), &netrunner.Cmd{Path: "/etc/passwd"}, syscall.EACCES},
		{"cancelled", cancelled, netrunner.Command("true"), why},
	} {
		for _, run := range []func(context.Context, *netrunner.Cmd) error{
			func(ctx context.Context, cmd *netrunner.Cmd) error { return cmd.Run(ctx) },
			func(ctx context.Context, cmd *netrunner.Cmd) error {
				_, err := cmd.Start(ctx)
				return err
			},
		} {
			var o observed
			test.cmd.Observer = o.observer()
			before := netrunner.Totals()
			err := run(test.ctx, test.cmd)
			o.check(t, "not started")
			if err != error(o.notStarted.Err) || o.notStarted.Cmd != test.cmd {
				t.Errorf("%s: NotStarted got %+v, the caller %v", test.name, o.notStarted, err)
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", test.name, err, test.want)
			}
			if after := netrunner.Totals(); after.NotStarted != before.NotStarted+1 || after.Started != before.Started {
				t.Errorf("%s: totals %+v, then %+v", test.name, before, after)
			}
		}
	}

	var o observed
	cmd := netrunner.Command("true")
	cmd.Stdout = io.Discard
	cmd.Observer = o.observer()
	if _, err := cmd.Output(callersContext(t)); err == nil {
		t.Error("Output with Stdout set: no error")
	}
	o.check(t, "not started")
}

// Whether the context ends before, while or after the command starts: one of two
// stories is told, as a whole.
func TestTheObserverIsToldOfAStartThatIsCancelled(t *testing.T) {
	leaveNothing(t)
	for i := range 60 {
		for _, wait := range []bool{false, true} {
			var o observed
			ctx, cancel := context.WithCancel(callersContext(t))
			cmd := netrunner.Command("sleep", marker())
			cmd.Observer = o.observer()
			time.AfterFunc(time.Duration(i)*50*time.Microsecond, cancel)
			var err error
			if wait {
				err = cmd.Run(ctx)
			} else if p, startErr := cmd.Start(ctx); startErr != nil {
				err = startErr
			} else {
				_, err = p.Wait()
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want context.Canceled", err)
			}
			if errors.As(err, new(*netrunner.StartError)) {
				o.check(t, "not started")
			} else {
				o.check(t, "started", "exited")
			}
		}
	}
}

func TestTheObserverIsToldOfALostShepherd(t *testing.T) {
	leaveNothing(t)
	before := netrunner.Totals()
	var o observed
	cmd := netrunner.Command("sh", "-c", "echo ready; sleep $0 & wait", marker())
	cmd.Observer = o.observer()
	cmd.Stdout = netrunner.Pipe
	p, err := cmd.Start(callersContext(t))
	check(t, err)
	readLine(t, p.Stdout())
	check(t, unix.Kill(parentOf(t, p.PID()), unix.SIGKILL))
	_, err = p.Wait()
	o.check(t, "started", "exited")
	if o.exited.State != nil || o.exited.Err != err || !errors.Is(err, netrunner.ErrShepherdLost) {
		t.Errorf("Exited got %+v, the caller %v", o.exited, err)
	}
	// The figures are final without a State too.
	if stats := p.Stats(); !reflect.DeepEqual(stats, o.exited.Stats) || stats.BytesOut != int64(len("ready\n")) || stats.Duration <= 0 || stats.ExitCode != -1 {
		t.Errorf("Stats are %+v, Exited got %+v", stats, o.exited.Stats)
	}
	after := netrunner.Totals()
	if after.Lost != before.Lost+1 || after.Failed != before.Failed+1 || after.Stopped != before.Stopped || after.Running != before.Running {
		t.Errorf("totals %+v, then %+v", before, after)
	}
	check(t, p.Stdout().Close())
}

func TestTheObserverIsToldOfADroppedProcess(t *testing.T) {
	leaveNothing(t)
	before := netrunner.Totals()
	mark := marker()
	ended := make(chan netrunner.ExitedInfo, 1)
	cmd := netrunner.Command("sleep", mark)
	cmd.Observer = &netrunner.Observer{Exited: func(_ context.Context, info netrunner.ExitedInfo) { ended <- info }}
	_, err := cmd.Start(t.Context())
	check(t, err)
	for deadline := time.Now().Add(patience); ; {
		runtime.GC()
		select {
		case info := <-ended:
			if !errors.Is(info.Err, netrunner.ErrDropped) || errors.Is(info.Err, netrunner.ErrShepherdLost) || info.State != nil {
				t.Errorf("Exited got %+v", info)
			}
			waitGone(t, mark, patience)
			after := netrunner.Totals()
			if after.Dropped != before.Dropped+1 || after.Lost != before.Lost || after.Stopped != before.Stopped {
				t.Errorf("totals %+v, then %+v", before, after)
			}
			return
		default:
			if time.Now().After(deadline) {
				t.Fatal("it was never collected")
			}
		}
	}
}

// Who waits is told after the observer, and may ask anything meanwhile.
func TestWaitIsForTheObserver(t *testing.T) {
	leaveNothing(t)
	inside, leave := make(chan netrunner.TotalStats), make(chan struct{})
	cmd := netrunner.Command("sh", "-c", "exit 3")
	cmd.Observer = &netrunner.Observer{Exited: func(context.Context, netrunner.ExitedInfo) {
		inside <- netrunner.Totals()
		<-leave
	}}
	before := netrunner.Totals()
	p, err := cmd.Start(testContext(t))
	check(t, err)
	totals := <-inside
	if totals.Ended != before.Ended+1 || totals.Failed != before.Failed+1 {
		t.Errorf("totals in Exited are %+v, before %+v", totals, before)
	}
	select {
	case <-p.Done():
		t.Error("it is done while Exited has not returned")
	case <-time.After(50 * time.Millisecond):
	}
	if err := p.Signal(syscall.SIGHUP); err == nil {
		t.Error("a command that has ended took a signal")
	}
	if code := p.Stats().ExitCode; code != -1 {
		t.Errorf("exit code %d before it is done", code)
	}
	close(leave)
	if state, _ := p.Wait(); state.ExitCode() != 3 {
		t.Errorf("%v, want exit status 3", state)
	}
}

func TestAPanicOfTheObserverLosesNothing(t *testing.T) {
	for _, wait := range []bool{false, true} {
		t.Run(fmt.Sprintf("wait=%v", wait), func(t *testing.T) {
			leaveNothing(t)
			mark := marker()
			exited := make(chan struct{})
			cmd := netrunner.Command("sh", "-c", "setsid sleep $0 & exec sleep $0", mark)
			cmd.Observer = &netrunner.Observer{
				Started: func(context.Context, netrunner.StartedInfo) context.Context { panic("in Started") },
				Exited:  func(context.Context, netrunner.ExitedInfo) { close(exited) },
			}
			func() {
				defer func() {
					if got := recover(); got != "in Started" {
						t.Errorf("recovered %v", got)
					}
				}()
				if wait {
					_ = cmd.Run(testContext(t))
				} else {
					_, _ = cmd.Start(testContext(t))
				}
			}()
			select {
			case <-exited:
			case <-time.After(patience):
				t.Fatal("Exited was not called")
			}
			waitGone(t, mark, patience)
		})
	}

	leaveNothing(t)
	cmd := netrunner.Command("true")
	cmd.Observer = &netrunner.Observer{Exited: func(context.Context, netrunner.ExitedInfo) { panic("in Exited") }}
	defer func() {
		got := recover()
		if panicked, ok := got.(*netrunner.PanicError); !ok || panicked.Value != "in Exited" {
			t.Errorf("recovered %v", got)
		}
	}()
	_ = cmd.Run(testContext(t))
}

func TestAnObserverMayBeEmptyAndServesMany(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", "sleep 1000 & exit 0")
	cmd.Observer = &netrunner.Observer{}
	check(t, cmd.Run(testContext(t)))
	cmd.Observer.Started = func(context.Context, netrunner.StartedInfo) context.Context { return nil }
	cmd.Observer.Exited = func(ctx context.Context, _ netrunner.ExitedInfo) {
		if ctx.Value(contextKey("caller")) != "me" {
			t.Error("Exited has not got the caller's context")
		}
	}
	// With carries it along.
	check(t, cmd.With("more").Run(callersContext(t)))

	var o observed
	cmd.Observer = o.observer()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := cmd.Run(callersContext(t)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(o.order) != 60 {
		t.Errorf("%d calls, want 60: %q", len(o.order), o.order)
	}
}

func TestTotals(t *testing.T) {
	leaveNothing(t)
	before := netrunner.Totals()

	cmd := netrunner.Command("sh", "-c", "cat; printf 123 >&2; printf 12345")
	cmd.Stdin = strings.NewReader("input")
	_, err := cmd.Output(testContext(t))
	check(t, err)
	if err := netrunner.Command("sh", "-c", "sleep 1000 & setsid sleep 1000 & exit 3").Run(testContext(t)); err == nil {
		t.Error("no error")
	}
	// Each way to stop is counted once, however often it is asked for.
	p := start(t, netrunner.Command("sleep", marker()))
	if now := netrunner.Totals(); now.Running != before.Running+1 {
		t.Errorf("%d running, before %d", now.Running, before.Running)
	}
	check(t, p.Stop(testContext(t)))
	check(t, p.Stop(testContext(t)))
	p = start(t, netrunner.Command("sleep", marker()))
	check(t, p.Kill())
	_, _ = p.Wait()
	cmd = netrunner.Command("sleep", marker())
	cmd.Timeout = time.Millisecond
	_ = cmd.Run(testContext(t))

	after := netrunner.Totals()
	for _, figure := range []struct {
		name        string
		from, to, n int64
	}{
		{"running", before.Running, after.Running, 0},
		{"started", before.Started, after.Started, 5},
		{"not started", before.NotStarted, after.NotStarted, 0},
		{"ended", before.Ended, after.Ended, 5},
		{"failed", before.Failed, after.Failed, 4},
		{"stopped", before.Stopped, after.Stopped, 3},
		{"killed", before.Killed, after.Killed, 2},
		{"bytes in", before.BytesIn, after.BytesIn, 5},
		{"bytes out", before.BytesOut, after.BytesOut, 10},
		{"bytes err", before.BytesErr, after.BytesErr, 3},
		{"writes", before.Writes, after.Writes, 1},
	} {
		if figure.to-figure.from != figure.n {
			t.Errorf("%s: %d, want %d", figure.name, figure.to-figure.from, figure.n)
		}
	}
	if after.Duration <= before.Duration || after.UserTime+after.SystemTime <= before.UserTime+before.SystemTime || after.MaxRSS < 1<<18 {
		t.Errorf("totals %+v, then %+v", before, after)
	}
	if n := testing.AllocsPerRun(100, func() { netrunner.Totals() }); n != 0 {
		t.Errorf("Totals allocates %v times", n)
	}
	text, err := json.Marshal(after)
	check(t, err)
	var again netrunner.TotalStats
	check(t, json.Unmarshal(text, &again))
	if again != after {
		t.Errorf("%s is read as %+v", text, again)
	}
}

func TestLogValues(t *testing.T) {
	leaveNothing(t)
	p := start(t, netrunner.Command("sh", "-c", "sleep 1000 & kill -9 $$"))
	state, _ := p.Wait()
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("ended", "state", state, "stats", state.Stats(), "lost", (*netrunner.State)(nil))
	var line struct {
		State, Stats map[string]any
		Lost         any
	}
	check(t, json.Unmarshal(out.Bytes(), &line))
	if line.State["signal"] != "SIGKILL" || line.State["killed_processes"] != 1.0 || line.State["exit_code"] != nil || line.Lost != nil {
		t.Errorf("logged was %s", out.Bytes())
	}
	if fields := reflect.TypeFor[netrunner.Stats]().NumField(); len(line.Stats) != fields {
		t.Errorf("of %d figures these were logged: %v", fields, line.Stats)
	}
	if got := time.Duration(line.Stats["duration"].(float64)); got != state.Stats().Duration {
		t.Errorf("duration %v, want %v", got, state.Stats().Duration)
	}
}

// What an Observer costs when there is none.
func BenchmarkRun(b *testing.B) {
	for _, test := range []struct {
		name     string
		observer *netrunner.Observer
	}{{"no observer", nil}, {"observer", &netrunner.Observer{
		Started: func(context.Context, netrunner.StartedInfo) context.Context { return nil },
		Exited:  func(context.Context, netrunner.ExitedInfo) {},
	}}} {
		b.Run(test.name, func(b *testing.B) {
			cmd := netrunner.Command("/bin/true")
			cmd.Observer = test.observer
			b.ReportAllocs()
			for b.Loop() {
				if err := cmd.Run(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
