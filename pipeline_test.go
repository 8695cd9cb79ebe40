package netrunner_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

func sh(script string, args ...string) *netrunner.Cmd {
	return netrunner.Command("sh", append([]string{"-c", script}, args...)...)
}

func TestAPipelineMovesItsDataInTheKernel(t *testing.T) {
	leaveNothing(t)
	const size = 256 << 20
	before := readSoFar(t)
	out, err := netrunner.Pipeline{
		netrunner.Command("head", "-c", strconv.Itoa(size), "/dev/zero"),
		netrunner.Command("tr", `\0`, "x"),
		netrunner.Command("wc", "-c"),
	}.Output(testContext(t))
	check(t, err)
	if n, err := strconv.Atoi(strings.TrimSpace(string(out))); n != size || err != nil {
		t.Errorf("%q has come through, %v, want %d bytes", out, err, size)
	}
	if read := readSoFar(t) - before; read > 1<<20 {
		t.Errorf("the owner has read %d bytes", read)
	}
}

// readSoFar returns how many bytes this process has read.
func readSoFar(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	check(t, err)
	fields := strings.Fields(string(text))
	n, err := strconv.Atoi(fields[slices.Index(fields, "rchar:")+1])
	check(t, err)
	return n
}

func TestTheEndsOfAPipeline(t *testing.T) {
	leaveNothing(t)
	var errs bytes.Buffer
	first, middle, last := netrunner.Command("cat"), sh("tr a-z A-Z; echo words >&2"), netrunner.Command("cat")
	first.Stdin, middle.Stderr, last.Stdout = netrunner.Pipe, &errs, netrunner.Pipe
	pipeline := netrunner.Pipeline{first, middle, last}
	for range 2 { // it is a template
		errs.Reset()
		p, err := pipeline.Start(testContext(t))
		check(t, err)
		if _, err := io.WriteString(p.Stdin(), "hello\n"); err != nil {
			t.Fatal(err)
		}
		check(t, p.Stdin().Close())
		out, err := io.ReadAll(p.Stdout())
		if string(out) != "HELLO\n" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
		states, err := p.Wait()
		check(t, err)
		check(t, p.Stdout().Close())
		if errs.String() != "words\n" {
			t.Errorf("the middle one said %q", errs.String())
		}
		total := p.Stats()
		if total.BytesIn != 6 || total.BytesOut != 6 || total.BytesErr != 6 || total.ExitCode != 0 || total.MaxRSS == 0 {
			t.Errorf("all: %+v", total)
		}
		for i, process := range p.Processes() {
			if states[i].PID() != process.PID() || !states[i].Success() {
				t.Errorf("command %d: %v", i, states[i])
			}
			one := states[i].Stats()
			if total.Duration < one.Duration || total.Start.After(one.Start) || total.MaxRSS < one.MaxRSS || i == 1 && one.BytesIn+one.BytesOut != 0 {
				t.Errorf("command %d: %+v, all: %+v", i, one, total)
			}
		}
	}
	out, err := netrunner.Pipeline{sh("echo alone")}.Output(testContext(t))
	if string(out) != "alone\n" || err != nil {
		t.Errorf("one command: %q, %v", out, err)
	}
}

// A program that finds its standard input or output non-blocking loses data.
func TestThePipesOfAPipelineBlock(t *testing.T) {
	leaveNothing(t)
	var found [3]bytes.Buffer
	var pipeline netrunner.Pipeline
	for i := range found {
		cmd := sh(`sed -n 's/^flags:[[:space:]]*//p' /proc/self/fdinfo/0 /proc/self/fdinfo/1 >&2; cat`)
		cmd.Stderr = &found[i]
		pipeline = append(pipeline, cmd)
	}
	check(t, pipeline.Run(testContext(t)))
	for i := range found {
		lines := strings.Fields(found[i].String())
		if len(lines) != 2 {
			t.Errorf("command %d: its flags are %q", i, lines)
		}
		for fd, line := range lines {
			if flags, err := strconv.ParseInt(line, 8, 64); flags&unix.O_NONBLOCK != 0 || err != nil {
				t.Errorf("command %d: flags %s of descriptor %d, %v", i, line, fd, err)
			}
		}
	}
}

func TestPipefail(t *testing.T) {
	leaveNothing(t)
	for _, try := range []struct {
		name    string
		scripts []string
		status  int // of the error, or -1
		states  string
	}{
		{"all succeed", []string{"echo a", "cat", "cat"}, 0, "exit status 0, exit status 0, exit status 0"},
		{"the first fails", []string{"exit 3", "cat", "cat"}, 3, "exit status 3, exit status 0, exit status 0"},
		{"the middle one fails", []string{"echo a", "cat; exit 4", "cat"}, 4, "exit status 0, exit status 4, exit status 0"},
		{"the last fails", []string{"echo a", "cat", "cat; exit 5"}, 5, "exit status 0, exit status 0, exit status 5"},
		{"two fail", []string{"exit 3", "cat; exit 4", "cat"}, 4, "exit status 3, exit status 4, exit status 0"},
		{"nobody reads on", []string{"exec yes", "exec head -n 1"}, 0, "signal: broken pipe, exit status 0"},
		{"nobody reads on, twice", []string{"exec yes", "exec cat", "exec head -n 1"}, 0, "signal: broken pipe, signal: broken pipe, exit status 0"},
		{"the reader fails", []string{"exec yes", "exit 7"}, 7, "signal: broken pipe, exit status 7"},
		{"SIGPIPE ends the last", []string{"echo a", "cat >/dev/null; kill -PIPE $$"}, -1, "exit status 0, signal: broken pipe"},
		{"another signal", []string{"kill -HUP $$", "cat"}, -1, "signal: hangup, exit status 0"},
	} {
		var pipeline netrunner.Pipeline
		for _, script := range try.scripts {
			pipeline = append(pipeline, sh(script))
		}
		p, err := pipeline.Start(testContext(t))
		check(t, err)
		states, err := p.Wait()
		var text []string
		for _, state := range states {
			text = append(text, state.String())
		}
		if got := strings.Join(text, ", "); got != try.states {
			t.Errorf("%s: %s, want %s", try.name, got, try.states)
		}
		var exit *netrunner.ExitError
		status := 0
		if errors.As(err, &exit) {
			status = exit.State.ExitCode()
		}
		if status != try.status || p.Stats().ExitCode != try.status || (err == nil) != (try.status == 0) {
			t.Errorf("%s: %v, figures %d, want status %d", try.name, err, p.Stats().ExitCode, try.status)
		}
	}
}

// What is said by SIGPIPE is not excused when it is not why the command ended.
func TestAStoppedCommandOfAPipelineHasFailed(t *testing.T) {
	leaveNothing(t)
	first := sh("exec sleep $0", marker())
	first.StopSignal, first.Timeout = syscall.SIGPIPE, 50*time.Millisecond
	err := netrunner.Pipeline{first, netrunner.Command("cat")}.Run(testContext(t))
	if !errors.Is(err, netrunner.ErrTimeout) {
		t.Errorf("%v, want ErrTimeout", err)
	}
}

func TestAPipelineThatCannotStartLeavesNothing(t *testing.T) {
	leaveNothing(t)
	mark := marker()
	told := t.TempDir() + "/told"
	for at := range 3 {
		pipeline := netrunner.Pipeline{
			endless(mark),
			sh("setsid sleep $0 & cat; echo the input has ended >$1", mark, told),
			sh("setsid sleep $0 & cat; echo the input has ended >$1", mark, told),
		}
		pipeline[at] = netrunner.Command("/nowhere/program")
		var refused *netrunner.StartError
		if err := pipeline.Run(testContext(t)); !errors.As(err, &refused) || refused.Command != "/nowhere/program" || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v, want a StartError for it", err)
		}
		if pids := marked(t, mark); len(pids) > 0 {
			t.Errorf("there are still %q", describe(pids))
		}
		if _, err := os.Stat(told); err == nil {
			t.Error("a command saw the end of an input that it never had")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (netrunner.Pipeline{endless(mark), endless(mark)}).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestWhatAPipelineRefuses(t *testing.T) {
	leaveNothing(t)
	with := func(change func(*netrunner.Cmd)) *netrunner.Cmd {
		cmd := netrunner.Command("cat")
		change(cmd)
		return cmd
	}
	cat := netrunner.Command("cat")
	in := with(func(c *netrunner.Cmd) { c.Stdin = os.Stdin })
	out := with(func(c *netrunner.Cmd) { c.Stdout = os.Stdout })
	for _, try := range []struct {
		pipeline netrunner.Pipeline
		text     string
	}{
		{nil, `start "": check "Pipeline": no command`},
		{netrunner.Pipeline{cat, nil}, `start "": check "Pipeline[1]": no command`},
		{netrunner.Pipeline{cat, in}, `start "cat": check "Stdin": is set, but belongs to the pipeline`},
		{netrunner.Pipeline{out, cat}, `start "cat": check "Stdout": is set, but belongs to the pipeline`},
		{netrunner.Pipeline{cat, out, cat}, `start "cat": check "Stdout": is set, but belongs to the pipeline`},
		{netrunner.Pipeline{with(func(c *netrunner.Cmd) { c.MaxOutput = 1 }), cat}, `start "cat": check "MaxOutput": is set, but only the last command of a pipeline is counted`},
		{netrunner.Pipeline{cat, netrunner.Command("a\x00b")}, ""},
		{netrunner.Pipeline{cat, {}}, `start "": check "Path": no command`},
		{netrunner.Pipeline{netrunner.Command("no-such-program"), cat}, ""},
		{netrunner.Pipeline{cat, out}, `start "cat": check "Stdout": already set`},
	} {
		_, err := try.pipeline.Output(t.Context())
		var refused *netrunner.StartError
		if !errors.As(err, &refused) || try.text != "" && err.Error() != try.text {
			t.Errorf("%v, want %s", err, try.text)
		}
		if err := try.pipeline.Run(t.Context()); try.text == "" && !errors.As(err, &refused) {
			t.Errorf("%v, want a StartError", err)
		}
	}
}

// Descriptors run out at every step, and nothing is left.
func TestAPipelineWithoutDescriptors(t *testing.T) {
	leaveNothing(t)
	check(t, netrunner.Command("true").Run(testContext(t)))
	open := len(descriptors(t)) + 8 // what the runtime has open is not listed
	var before unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	defer func() { check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }()
	failed := 0
	for limit := open + 30; limit > 3; limit-- {
		check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: before.Max}))
		out, err := netrunner.Pipeline{
			netrunner.Command("/bin/echo", "hello"), netrunner.Command("/bin/cat"), netrunner.Command("/bin/cat"),
		}.Output(context.Background())
		var refused *netrunner.StartError
		switch {
		case err == nil && string(out) == "hello\n":
		case errors.As(err, &refused) && errors.Is(err, syscall.EMFILE):
			failed++
		default:
			t.Errorf("with %d descriptors: %q, %v, want EMFILE in a StartError", limit, out, err)
		}
	}
	if failed == 0 {
		t.Error("descriptors have never run out")
	}
}

func TestAPipelineEndsAsOne(t *testing.T) {
	for _, how := range []struct {
		name string
		end  func(*testing.T, *netrunner.PipelineProcess, context.CancelFunc)
	}{
		{"killed", func(t *testing.T, p *netrunner.PipelineProcess, _ context.CancelFunc) { check(t, p.Kill()) }},
		{"stopped", func(t *testing.T, p *netrunner.PipelineProcess, _ context.CancelFunc) {
			check(t, p.Stop(testContext(t)))
		}},
		{"signalled", func(t *testing.T, p *netrunner.PipelineProcess, _ context.CancelFunc) {
			check(t, p.Signal(syscall.SIGKILL))
		}},
		{"cancelled", func(_ *testing.T, _ *netrunner.PipelineProcess, cancel context.CancelFunc) { cancel() }},
	} {
		for _, tree := range trees {
			t.Run(how.name+"/"+tree.name, func(t *testing.T) {
				leaveNothing(t)
				marks := []string{marker(), marker(), marker()}
				var pipeline netrunner.Pipeline
				for _, mark := range marks {
					cmd := sh("exec >&2; "+tree.script, mark)
					cmd.Stderr = netrunner.Pipe
					cmd.KillTimeout = 300 * time.Millisecond
					pipeline = append(pipeline, cmd)
				}
				ctx, cancel := context.WithCancel(testContext(t))
				defer cancel()
				p, err := pipeline.Start(ctx)
				check(t, err)
				for _, process := range p.Processes() {
					readLine(t, process.Stderr())
				}
				how.end(t, p, cancel)
				<-p.Done()
				states, err := p.Wait()
				for _, mark := range marks {
					if pids := marked(t, mark); len(pids) > 0 {
						t.Errorf("after Wait there are still %q", describe(pids))
					}
				}
				var exit *netrunner.ExitError
				if len(states) != 3 || !errors.As(err, &exit) || (how.name == "cancelled") != errors.Is(err, context.Canceled) {
					t.Errorf("Wait: %v, %v", states, err)
				}
				if err := p.Kill(); !errors.Is(err, os.ErrProcessDone) {
					t.Errorf("afterwards: %v, want os.ErrProcessDone", err)
				}
				check(t, p.Stop(testContext(t)))
				for _, process := range p.Processes() {
					check(t, process.Stderr().Close())
				}
			})
		}
	}
}

func TestOneOfAPipelineIsKilled(t *testing.T) {
	leaveNothing(t)
	for which := range 3 {
		marks := []string{marker(), marker(), marker()}
		pipeline := netrunner.Pipeline{
			sh("setsid sleep $0 & exec yes", marks[0]),
			sh("setsid sleep $0 & exec cat", marks[1]),
			sh("setsid sleep $0 & exec cat >/dev/null", marks[2]),
		}
		p, err := pipeline.Start(testContext(t))
		check(t, err)
		if err := p.Signal(0); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("signal 0: %v, want EINVAL", err)
		}
		check(t, p.Processes()[which].Kill())
		states, err := p.Wait()
		var exit *netrunner.ExitError
		if states[which].Signal() != syscall.SIGKILL || !errors.As(err, &exit) || exit.State != states[which] {
			t.Errorf("command %d was killed: %v, %v", which, states, err)
		}
		for i, mark := range marks {
			if pids := marked(t, mark); len(pids) > 0 {
				t.Errorf("after Wait there are still %q of command %d", describe(pids), i)
			}
			switch {
			case i < which && states[i].Signal() != syscall.SIGPIPE:
				t.Errorf("command %d, before the killed one: %v", i, states[i])
			case i > which && !states[i].Success():
				t.Errorf("command %d, after the killed one: %v", i, states[i])
			}
		}
	}
}

func TestADroppedPipelineEnds(t *testing.T) {
	leaveNothing(t)
	mark := marker()
	if _, err := (netrunner.Pipeline{endless(mark), endless(mark)}).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	collectUntilGone(t, mark)
}

// One of its processes, an end of its pipes, or the wait for its end keep it.
func TestAPipelineIsHeldByItsParts(t *testing.T) {
	leaveNothing(t)
	for name, wait := range map[string]func(p *netrunner.PipelineProcess) func() error{
		"a Process": func(p *netrunner.PipelineProcess) func() error {
			last := p.Processes()[1]
			return func() error { _, err := last.Wait(); return err }
		},
		"Done": func(p *netrunner.PipelineProcess) func() error {
			done := p.Done()
			return func() error { <-done; return nil }
		},
		"Stdout": func(p *netrunner.PipelineProcess) func() error {
			out := p.Stdout()
			return func() error { _, err := io.ReadAll(out); return errors.Join(err, out.Close()) }
		},
	} {
		last := netrunner.Command("tee", t.TempDir()+"/out")
		if name == "Stdout" {
			last.Stdout = netrunner.Pipe
		}
		p, err := netrunner.Pipeline{sh("sleep 0.2; echo to the end"), last}.Start(testContext(t))
		check(t, err)
		end := wait(p)
		for range 5 {
			runtime.GC()
		}
		check(t, end())
		if text, err := os.ReadFile(last.Args[1]); string(text) != "to the end\n" || err != nil {
			t.Errorf("%s: the last one wrote %q, %v", name, text, err)
		}
		// The first has ended too; that may not have come here yet.
		proctest.Eventually(t, "the end of both", func() bool { return netrunner.Totals().Running == 0 })
	}
}
