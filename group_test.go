package netrunner_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

func TestAGroupRunsAsManyAtOnceAsItMay(t *testing.T) {
	leaveNothing(t)
	for _, limit := range []int{1, 3} {
		log := filepath.Join(t.TempDir(), "log")
		g := netrunner.Group{Limit: limit}
		for range 20 {
			g.Go(testContext(t), netrunner.Command("sh", "-c", "echo + >>$0; sleep 0.01; echo - >>$0", log))
		}
		check(t, g.Wait())
		text, err := os.ReadFile(log)
		check(t, err)
		running, most, begun := 0, 0, 0
		for line := range strings.FieldsSeq(string(text)) {
			if line == "+" {
				begun++
				running++
			} else {
				running--
			}
			most = max(most, running)
		}
		if begun != 20 || running != 0 || most != limit {
			t.Errorf("%d of 20 have run, %d are left, up to %d at once: want %d", begun, running, most, limit)
		}
		if stats := g.Stats(); stats.Started != 20 || stats.Failed != 0 || stats.Running != 0 || stats.Waiting != 0 {
			t.Errorf("figures: %+v", stats)
		}
	}
}

func TestAGroupStartsInTheOrderOfTheCalls(t *testing.T) {
	leaveNothing(t)
	g := netrunner.Group{Limit: 1}
	log := filepath.Join(t.TempDir(), "log")
	ctx := testContext(t)
	first, err := g.Start(ctx, netrunner.Command("sleep", marker()))
	check(t, err)
	var want strings.Builder
	var started sync.WaitGroup
	for i := range 12 {
		cmd := netrunner.Command("sh", "-c", "echo $0 >>$1", fmt.Sprint(i), log)
		fmt.Fprintln(&want, i)
		switch i % 3 {
		case 0:
			g.Go(ctx, cmd)
		case 1:
			started.Go(func() { _, _ = g.Start(ctx, cmd) })
		case 2:
			started.Go(func() { _ = g.Run(ctx, cmd) })
		}
		for g.Stats().Waiting != i+1 {
			runtime.Gosched()
		}
	}
	check(t, first.Kill())
	started.Wait()
	_ = g.Wait()
	text, err := os.ReadFile(log)
	check(t, err)
	if string(text) != want.String() {
		t.Errorf("they ran in the order %q", strings.Fields(string(text)))
	}
}

func TestAClosedGroupIsEmptyAndStaysSo(t *testing.T) {
	leaveNothing(t)
	for _, tree := range trees {
		marks := []string{marker(), marker(), marker()}
		g := netrunner.Group{Limit: 2}
		var running []*netrunner.Process
		for _, mark := range marks[:2] {
			cmd := netrunner.Command("sh", "-c", tree.script, mark)
			cmd.KillTimeout = 300 * time.Millisecond
			cmd.Stdout = netrunner.Pipe
			p, err := g.Start(t.Context(), cmd)
			check(t, err)
			readLine(t, p.Stdout())
			running = append(running, p)
		}
		g.Go(t.Context(), endless(marks[2]))
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if _, err := g.Start(t.Context(), endless(marks[2])); !errors.Is(err, netrunner.ErrGroupClosed) {
				t.Errorf("%s: a Start that waited: %v, want ErrGroupClosed", tree.name, err)
			}
		})
		for g.Stats().Waiting != 2 {
			runtime.Gosched()
		}
		for range 3 {
			waiting.Go(func() { check(t, g.Close()) })
		}
		check(t, g.Close())
		if pids := slices.Concat(marked(t, marks[0]), marked(t, marks[1]), marked(t, marks[2])); len(pids) > 0 {
			t.Errorf("%s: after Close there are still %q", tree.name, describe(pids))
		}
		waiting.Wait()
		for _, p := range running {
			select {
			case <-p.Done():
			default:
				t.Errorf("%s: after Close a Process is not done", tree.name)
			}
			if _, err := p.Wait(); !errors.Is(err, netrunner.ErrGroupClosed) {
				t.Errorf("%s: %v, want ErrGroupClosed", tree.name, err)
			}
			check(t, p.Stdout().Close())
		}
		var refused *netrunner.StartError
		if err := g.Run(t.Context(), netrunner.Command("true")); !errors.Is(err, netrunner.ErrGroupClosed) || !errors.As(err, &refused) {
			t.Errorf("%s: a later Run: %v, want ErrGroupClosed in a StartError", tree.name, err)
		}
		if err := g.Wait(); !errors.Is(err, netrunner.ErrGroupClosed) {
			t.Errorf("%s: Wait: %v, want ErrGroupClosed", tree.name, err)
		}
		if stats := g.Stats(); stats.Started != 2 || stats.Failed != 2 || stats.Running+stats.Waiting != 0 {
			t.Errorf("%s: figures: %+v", tree.name, stats)
		}
	}
}

func TestTheFirstErrorOfAGroup(t *testing.T) {
	for _, stop := range []bool{false, true} {
		t.Run(fmt.Sprint("StopOnError ", stop), func(t *testing.T) {
			leaveNothing(t)
			mark := marker()
			g := netrunner.Group{StopOnError: stop}
			other, err := g.Start(testContext(t), endless(mark))
			check(t, err)
			check(t, g.Run(testContext(t), netrunner.Command("true")))
			g.Go(testContext(t), netrunner.Command("sh", "-c", "exit 3"))
			if !stop {
				for g.Stats().Failed == 0 {
					runtime.Gosched()
				}
				g.Go(testContext(t), netrunner.Command("false"))
				check(t, other.Kill())
			}
			err = g.Wait()
			var exit *netrunner.ExitError
			if !errors.As(err, &exit) || exit.State.ExitCode() != 3 || g.Stats().ExitCode != 3 {
				t.Errorf("Wait: %v, figures %d, want exit status 3", err, g.Stats().ExitCode)
			}
			_, err = other.Wait()
			if errors.Is(err, netrunner.ErrGroupClosed) != stop {
				t.Errorf("the other: %v", err)
			}
			err = g.Run(testContext(t), netrunner.Command("true"))
			if errors.Is(err, netrunner.ErrGroupClosed) != stop || errors.As(err, &exit) {
				t.Errorf("a later one: %v", err)
			}
			if want := `start "true": check: the group is closed (after: "sh": exit status 3)`; stop && err.Error() != want {
				t.Errorf("error %q, want %q", err, want)
			}
			waitGone(t, mark, 0)
			check(t, g.Close())
		})
	}
}

func TestWhatCannotStartIsNotTheGroups(t *testing.T) {
	leaveNothing(t)
	missing := netrunner.Command("/nowhere/program")
	g := netrunner.Group{StopOnError: true}
	for _, cmd := range []*netrunner.Cmd{nil, {}, netrunner.Command("a\x00b"), missing} {
		p, err := g.Start(t.Context(), cmd)
		var refused *netrunner.StartError
		if p != nil || !errors.As(err, &refused) {
			t.Errorf("Start: %v, want a StartError", err)
		}
		if err := g.Run(t.Context(), cmd); !errors.As(err, &refused) {
			t.Errorf("Run: %v, want a StartError", err)
		}
	}
	check(t, g.Run(t.Context(), netrunner.Command("true")))
	check(t, g.Wait())
	// But Go can say it to nobody else.
	g.Go(t.Context(), missing)
	if err := g.Wait(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Wait: %v, want ErrNotExist", err)
	}
	if err := g.Run(t.Context(), netrunner.Command("true")); !errors.Is(err, netrunner.ErrGroupClosed) {
		t.Errorf("a later one: %v, want ErrGroupClosed", err)
	}
	negative := netrunner.Group{Limit: -1}
	err := negative.Run(t.Context(), netrunner.Command("true"))
	if want := `start "true": check "Limit": is negative`; err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	var unused netrunner.Group
	check(t, unused.Wait())
	check(t, unused.Close())
}

func TestTheContextOfAGroupsCommand(t *testing.T) {
	leaveNothing(t)
	mark := marker()
	g := netrunner.Group{Limit: 1}
	ctx, cancel := context.WithCancelCause(testContext(t))
	p, err := g.Start(ctx, endless(mark))
	check(t, err)
	why, waiting := errors.New("why"), errors.New("waited enough")
	short, giveUp := context.WithCancelCause(testContext(t))
	g.Go(short, endless(mark))
	for g.Stats().Waiting != 1 {
		runtime.Gosched()
	}
	giveUp(waiting)
	_, err = g.Start(short, endless(mark))
	if want := `start "sh": wait for a place: waited enough`; !errors.Is(err, waiting) || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	for g.Stats().Waiting != 0 {
		runtime.Gosched()
	}
	cancel(why)
	if _, err := p.Wait(); !errors.Is(err, why) {
		t.Errorf("Wait: %v, want %v", err, why)
	}
	waitGone(t, mark, 0)
	if err := g.Wait(); !errors.Is(err, waiting) {
		t.Errorf("Wait: %v, want %v", err, waiting)
	}
	check(t, g.Run(testContext(t), netrunner.Command("true")))
}

func TestTheFiguresOfAGroup(t *testing.T) {
	leaveNothing(t)
	var g netrunner.Group
	cmd := netrunner.Command("sh", "-c", "cat; echo error >&2")
	cmd.Stdin, cmd.Stdout = strings.NewReader("hello\n"), io.Discard
	check(t, g.Run(testContext(t), cmd))
	piped := netrunner.Command("sh", "-c", "cat; echo more")
	piped.Stdin, piped.Stdout = netrunner.Pipe, netrunner.Pipe
	p, err := g.Start(testContext(t), piped)
	check(t, err)
	if _, err := io.WriteString(p.Stdin(), "hello\n"); err != nil {
		t.Fatal(err)
	}
	readLine(t, p.Stdout())
	if stats := g.Stats(); stats.BytesIn != 12 || stats.BytesOut != 12 || stats.Running != 1 || stats.Started != 2 {
		t.Errorf("while one runs: %+v", stats)
	}
	check(t, p.Stdin().Close())
	_, err = p.Wait()
	check(t, err)
	readLine(t, p.Stdout()) // after its end
	check(t, p.Stdout().Close())
	one := p.Stats()
	for range 5 { // the Process is there, and then it is not
		stats := g.Stats()
		if stats.BytesIn != 12 || stats.BytesOut != 17 || stats.BytesErr != 6 || stats.Running != 0 || stats.Failed != 0 || stats.ExitCode != 0 {
			t.Errorf("at the end: %+v", stats)
		}
		if stats.MaxRSS < one.MaxRSS || stats.Duration <= one.Duration || stats.UserTime+stats.SystemTime < one.UserTime+one.SystemTime || !stats.Start.Before(one.Start) {
			t.Errorf("all: %+v, one: %+v", stats, one)
		}
		runtime.GC()
	}
}

//go:noinline
func startAndDrop(t *testing.T, mark string, waiting int) {
	g := &netrunner.Group{Limit: 2}
	_, err := g.Start(t.Context(), endless(mark))
	check(t, err)
	_, err = g.Start(t.Context(), endless(mark))
	check(t, err)
	for range waiting {
		g.Go(t.Context(), endless(mark))
	}
}

func TestADroppedGroupEnds(t *testing.T) {
	leaveNothing(t)
	for _, waiting := range []int{0, 3} {
		mark := marker()
		startAndDrop(t, mark, waiting)
		collectUntilGone(t, mark)
	}
}

// As long as the group is there its commands are, whoever drops their handles;
// and a handle keeps the group.
func TestAGroupHoldsItsCommands(t *testing.T) {
	leaveNothing(t)
	out := filepath.Join(t.TempDir(), "out")
	slow := netrunner.Command("sh", "-c", "sleep 0.2; echo to the end >>"+out)
	g := new(netrunner.Group)
	_, err := g.Start(testContext(t), slow)
	check(t, err)
	g.Go(testContext(t), slow)
	for range 5 {
		runtime.GC()
	}
	check(t, g.Wait())
	_, err = g.Start(testContext(t), slow)
	check(t, err)
	p, err := g.Start(testContext(t), netrunner.Command("sleep", "0.5"))
	check(t, err)
	for range 5 {
		runtime.GC()
	}
	_, err = p.Wait()
	check(t, err)
	if text, err := os.ReadFile(out); string(text) != "to the end\nto the end\nto the end\n" || err != nil {
		t.Errorf("the commands wrote %q, %v", text, err)
	}
}

func TestAGroupNeedsOneGoroutineACommand(t *testing.T) {
	leaveNothing(t)
	const commands = 30
	g := netrunner.Group{}
	before := runtime.NumGoroutine()
	for range commands {
		cmd := netrunner.Command("sleep", marker())
		cmd.Stderr = os.Stderr // nobody has to read it
		g.Go(testContext(t), cmd)
	}
	deadline := time.Now().Add(patience)
	for g.Stats().Started < commands || runtime.NumGoroutine() > before+commands {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines for %d commands", runtime.NumGoroutine()-before, commands)
		}
		runtime.Gosched()
	}
	check(t, g.Close())
}

// EMFILE: more commands than descriptors, and each of them runs.
func TestAGroupWaitsForDescriptors(t *testing.T) {
	leaveNothing(t)
	out, err := helperCommand(t, "group-descriptors").CombinedOutput(testContext(t))
	if err != nil || string(out) != "all have run\nno waiting helps\nworks again\n" {
		t.Errorf("%s%v", out, err)
	}
}

// EAGAIN: the same with processes.
func TestAGroupWaitsForProcesses(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: RLIMIT_NPROC counts this user's other processes too")
	}
	leaveNothing(t)
	out, err := helperCommand(t, "group-processes").CombinedOutput(testContext(t))
	if err != nil || string(out) != "all have run\n" {
		t.Errorf("%s%v", out, err)
	}
}

func init() {
	helperPrograms["group-descriptors"] = func([]string) {
		ctx := context.Background()
		must(netrunner.Command("/bin/true").Run(ctx))
		entries, err := os.ReadDir("/proc/self/fd")
		must(err)
		limitTo(unix.RLIMIT_NOFILE, len(entries)+25)
		crowd()

		// Now somebody else has them all.
		var taken []*os.File
		for {
			f, err := os.Open(os.DevNull)
			if err != nil {
				break
			}
			taken = append(taken, f)
		}
		var g netrunner.Group
		cmd := netrunner.Command("/bin/cat")
		cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
		_, err = g.Start(ctx, cmd)
		var refused *netrunner.StartError
		if !errors.As(err, &refused) || !errors.Is(err, syscall.EMFILE) || !strings.HasSuffix(err.Error(), "no command of the group runs whose end could help") {
			fmt.Println("expected EMFILE:", err)
			os.Exit(1)
		}
		g.Go(ctx, cmd)
		g.Go(ctx, cmd)
		if err := g.Wait(); !errors.Is(err, syscall.EMFILE) {
			fmt.Println("expected EMFILE:", err)
			os.Exit(1)
		}
		fmt.Println("no waiting helps")
		for _, f := range taken {
			must(f.Close())
		}
		must(g.Run(ctx, netrunner.Command("/bin/true")))
		fmt.Println("works again")
	}
	helperPrograms["group-processes"] = func([]string) {
		must(syscall.Setgid(54322)) // a user with no other processes; the limit spares root
		must(syscall.Setuid(54322))
		// The runtime must not need more threads when there can be none.
		var threads sync.WaitGroup
		for range 16 {
			threads.Go(func() { _ = unix.Nanosleep(&unix.Timespec{Nsec: 50e6}, nil) })
		}
		threads.Wait()
		tasks, err := os.ReadDir("/proc/self/task")
		must(err)
		limitTo(unix.RLIMIT_NPROC, len(tasks)+24)
		crowd()
	}
}

func limitTo(resource, n int) {
	var limit unix.Rlimit
	must(unix.Getrlimit(resource, &limit))
	limit.Cur = uint64(n)
	must(unix.Setrlimit(resource, &limit))
}

// crowd finds out how many commands have room at once, and then has a group run
// twice as many.
func crowd() {
	ctx := context.Background()
	cmd := netrunner.Command("/bin/sleep", "1000")
	cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
	var running []*netrunner.Process
	for {
		p, err := cmd.Start(ctx)
		if err != nil {
			break
		}
		running = append(running, p)
	}
	room := len(running)
	for _, p := range running {
		_, _ = p.Kill(), p.Stdin().Close()
		_, _ = p.Wait()
		_ = p.Stdout().Close()
	}
	if room == 0 || room > 100 {
		fmt.Println(room, "have room")
		os.Exit(1)
	}
	cmd = netrunner.Command("/bin/sleep", "0.05")
	cmd.Stdout = io.Discard
	var g netrunner.Group
	before := netrunner.Totals().NotStarted
	for range 2 * room {
		own := cmd.With()
		own.Stdin = strings.NewReader("")
		g.Go(ctx, own)
	}
	if err := g.Wait(); err != nil || g.Stats().Started != 2*room {
		fmt.Println(g.Stats().Started, "of", 2*room, err)
		os.Exit(1)
	}
	if told := netrunner.Totals().NotStarted - before; told != 0 {
		fmt.Println(told, "were said not to have started, and have")
		os.Exit(1)
	}
	fmt.Println("all have run")
}

// An owner that has a group and a pipeline, and waits to be killed.
func init() {
	helperPrograms["group-owner"] = func(args []string) {
		ctx := context.Background()
		cmd := netrunner.Command("sh", "-c", "setsid sleep $0 & echo ready >&2; sleep $0", args[0])
		cmd.Stderr = os.Stdout
		cmd.KillTimeout = 300 * time.Millisecond
		var g netrunner.Group
		g.Go(ctx, cmd)
		g.Go(ctx, cmd)
		p, err := netrunner.Pipeline{cmd, cmd}.Start(ctx)
		must(err)
		_, _ = p.Wait()
		_ = g.Wait()
	}
}

func TestAGroupAndAPipelineDoNotOutliveTheirOwner(t *testing.T) {
	leaveNothing(t)
	mark := marker()
	template := helperCommand(t, "group-owner", mark)
	owner := exec.Command(template.Path, template.Args[1:]...)
	owner.Env = template.Env
	out, err := owner.StdoutPipe()
	check(t, err)
	check(t, owner.Start())
	for range 4 {
		readLine(t, out)
	}
	check(t, owner.Process.Kill())
	_ = owner.Wait()
	waitGone(t, mark, 300*time.Millisecond+5*time.Second)
}

// Whatever happens in whatever order: never more than the limit, and each
// command that was not kept from it has run.
func TestAGroupLosesNothing(t *testing.T) {
	leaveNothing(t)
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(0, 3).Draw(rt, "limit")
		g := &netrunner.Group{Limit: limit, StopOnError: rapid.Bool().Draw(rt, "StopOnError")}
		log, err := os.CreateTemp(dir, "log")
		check(t, err)
		defer log.Close()
		release, hold, err := os.Pipe()
		check(t, err)
		defer release.Close()
		defer hold.Close()
		mark := marker()
		script := func(text string) *netrunner.Cmd {
			cmd := netrunner.Command("sh", "-c", "echo >&3; "+text, mark)
			cmd.ExtraFiles = []*os.File{log, release}
			cmd.KillTimeout = 300 * time.Millisecond
			return cmd
		}
		kinds := map[string]*netrunner.Cmd{
			"ends":     script("exit 0"),
			"fails":    script("exit 1"),
			"runs on":  script("setsid sleep $0 & read x <&4; exit 0"),
			"is stuck": script("trap '' TERM; read x <&4; exit 0"),
			"is none":  netrunner.Command("/nowhere/program"),
		}
		names := []string{"ends", "fails", "runs on", "is stuck", "is none"}

		var mu sync.Mutex
		var processes []*netrunner.Process
		var cancels []context.CancelFunc
		var refused int
		var calls sync.WaitGroup
		started := func(p *netrunner.Process, err error) {
			mu.Lock()
			defer mu.Unlock()
			var failed *netrunner.StartError
			switch {
			case p != nil:
				processes = append(processes, p)
			case errors.As(err, &failed):
				refused++
			}
		}
		toRun, gone, undisturbed := 0, 0, true
		for range rapid.IntRange(1, 16).Draw(rt, "steps") {
			ctx, cancel := context.WithCancel(testContext(t))
			cancels = append(cancels, cancel)
			step := rapid.SampledFrom([]string{"go", "go", "start", "start", "run", "cancel", "kill", "look", "look", "close"}).Draw(rt, "step")
			switch step {
			case "go", "start", "run":
				kind := rapid.SampledFrom(names).Draw(rt, "kind")
				cmd := kinds[kind]
				toRun++
				if kind == "is none" {
					toRun, gone = toRun-1, gone+1
				}
				if g.StopOnError && (kind == "fails" || kind == "is none" && step == "go") {
					undisturbed = false
				}
				switch step {
				case "go":
					g.Go(ctx, cmd)
				case "start":
					calls.Go(func() { started(g.Start(ctx, cmd)) })
				case "run":
					calls.Go(func() { started(nil, g.Run(ctx, cmd)) })
				}
			case "cancel":
				undisturbed = false
				cancels[rapid.IntRange(0, len(cancels)-1).Draw(rt, "whose")]()
			case "kill":
				mu.Lock()
				if len(processes) > 0 {
					undisturbed = false
					_ = processes[rapid.IntRange(0, 1<<20).Draw(rt, "whom")%len(processes)].Kill()
				}
				mu.Unlock()
			case "close":
				if rapid.IntRange(0, 3).Draw(rt, "really") == 0 {
					undisturbed = false
					calls.Go(func() { check(t, g.Close()) })
				}
			case "look":
				if stats := g.Stats(); limit > 0 && stats.Running > limit {
					rt.Errorf("%d run, and the limit is %d", stats.Running, limit)
				}
			}
		}
		if rapid.Bool().Draw(rt, "ends by itself") {
			check(t, hold.Close())
			calls.Wait()
			_ = g.Wait()
		} else {
			undisturbed = false
			check(t, g.Close())
			calls.Wait()
		}
		for _, cancel := range cancels {
			cancel()
		}
		stats := g.Stats()
		if stats.Running != 0 || stats.Waiting != 0 || stats.Failed > stats.Started {
			rt.Errorf("at the end: %+v", stats)
		}
		if stats.Started > toRun || stats.Started+refused > toRun+gone {
			rt.Errorf("%d of %d were started, and %d of %d refused", stats.Started, toRun, refused, toRun+gone)
		}
		if info, err := log.Stat(); undisturbed && (stats.Started != toRun || err != nil || info.Size() != int64(toRun)) {
			rt.Errorf("%d of %d were started, and %d have run", stats.Started, toRun, info.Size())
		}
		if most := mostAtOnce(processes); limit > 0 && most > limit {
			rt.Errorf("%d ran at once, and the limit is %d", most, limit)
		}
		if pids := marked(t, mark); len(pids) > 0 {
			rt.Errorf("there are still %q", describe(pids))
		}
	})
}

// mostAtOnce returns how many of some commands that have ended ran at the same time.
func mostAtOnce(processes []*netrunner.Process) (most int) {
	type change struct {
		at time.Time
		by int
	}
	var changes []change
	for _, p := range processes {
		stats := p.Stats()
		changes = append(changes, change{stats.Start, 1}, change{stats.Start.Add(stats.Duration), -1})
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.by, b.by)) })
	running := 0
	for _, c := range changes {
		running += c.by
		most = max(most, running)
	}
	return most
}

// Each command has one call of NotStarted, or one of Started and one of Exited,
// before who waits for the group is told.
func TestAnObserverInAGroupAndAPipeline(t *testing.T) {
	leaveNothing(t)
	var mu sync.Mutex
	told := map[string]int{}
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		told[what]++
	}
	g := netrunner.Group{Limit: 1}
	observer := &netrunner.Observer{
		Started: func(ctx context.Context, _ netrunner.StartedInfo) context.Context { note("started"); return ctx },
		NotStarted: func(_ context.Context, info netrunner.NotStartedInfo) {
			g.Stats() // it may ask the group
			note(info.Err.Step)
		},
		Exited: func(context.Context, netrunner.ExitedInfo) { g.Stats(); note("exited") },
	}
	observed := func(name string, args ...string) *netrunner.Cmd {
		cmd := netrunner.Command(name, args...)
		cmd.Observer = observer
		return cmd
	}
	g.Go(testContext(t), observed("sleep", marker()))
	g.Go(testContext(t), observed("/nowhere/program"))
	short, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	if err := g.Run(short, observed("true")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
	g.Go(testContext(t), observed("true"))
	check(t, g.Close())
	g.Go(testContext(t), observed("true"))
	_ = g.Wait()
	mu.Lock()
	got := fmt.Sprint(told)
	mu.Unlock()
	if want := "map[check:1 exited:1 started:1 wait for a place:3]"; got != want {
		t.Errorf("in the group: %s, want %s", got, want)
	}
	clear(told)
	check(t, netrunner.Pipeline{observed("echo"), observed("cat")}.Run(testContext(t)))
	if err := (netrunner.Pipeline{observed("/nowhere/program"), observed("cat")}).Run(testContext(t)); err == nil {
		t.Error("it was started")
	}
	if err := (netrunner.Pipeline{observed("cat"), observed("a\x00b"), nil}).Run(testContext(t)); err == nil {
		t.Error("it was started")
	}
	mu.Lock()
	defer mu.Unlock()
	if got, want := fmt.Sprint(told), "map[exec:1 exited:3 find:1 started:3]"; got != want {
		t.Errorf("in pipelines: %s, want %s", got, want)
	}
}

// What an observer's panic leaves of a pipeline is nothing.
func TestAnObserverPanicsInAPipeline(t *testing.T) {
	leaveNothing(t)
	mark := marker()
	first := endless(mark)
	first.Observer = &netrunner.Observer{Started: func(context.Context, netrunner.StartedInfo) context.Context { panic("on purpose") }}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nothing has panicked")
			}
		}()
		_, _ = netrunner.Pipeline{first, endless(mark)}.Start(testContext(t))
	}()
	waitGone(t, mark, patience)
	awaitNoHelper(t)
}

// awaitNoHelper is for a command that nobody can wait for: its goroutine gives
// the shepherd back some time after the tree is gone.
func awaitNoHelper(t *testing.T) {
	t.Helper()
	proctest.Eventually(t, "the end of the helpers", func() bool {
		netrunner.CloseIdle()
		return len(children(t, os.Getpid())) == 0
	})
}
