package netrunner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
)

// An owner that starts the tree args[1] with the marker args[0], and then ends
// as args[2] says.
func init() {
	helperPrograms["owner"] = func(args []string) {
		mark, script, end := args[0], args[1], args[2]
		ctx := context.Background()
		cmd := netrunner.Command("sh", "-c", script, mark)
		cmd.KillTimeout = 300 * time.Millisecond
		cmd.Stdout = netrunner.Pipe
		p, err := cmd.Start(ctx)
		if err != nil {
			panic(err)
		}
		if _, err := p.Stdout().Read(make([]byte, 6)); err != nil {
			panic(err)
		}
		fmt.Println("ready")
		switch end {
		case "waits":
			_, _ = p.Wait()
		case "os.Exit":
			os.Exit(0)
		case "panic":
			panic("on purpose")
		case "fatal signal":
			signal.Reset()
			_ = unix.Kill(unix.Getpid(), unix.SIGSEGV)
			select {}
		case "syscall.Exec":
			_ = syscall.Exec("/bin/true", []string{"true"}, nil)
		case "return":
		}
		runtime.KeepAlive(p)
	}
}

func TestNothingOutlivesItsOwner(t *testing.T) {
	for _, end := range []string{"waits", "os.Exit", "panic", "fatal signal", "syscall.Exec", "return"} {
		for _, tree := range trees {
			t.Run(end+"/"+tree.name, func(t *testing.T) {
				leaveNothing(t)
				mark := marker()
				// A plain os/exec child is the owner here, so that nothing of ours guards it.
				template := helperCommand(t, "owner", mark, tree.script, end)
				owner := exec.Command(template.Path, template.Args[1:]...)
				owner.Env = template.Env
				out, err := owner.StdoutPipe()
				check(t, err)
				check(t, owner.Start())
				if line := readLine(t, out); line != "ready" {
					t.Fatalf("read %q", line)
				}
				if end == "waits" {
					check(t, owner.Process.Kill())
				}
				_ = owner.Wait()
				// The grace is 300 ms; this allows for a slow machine.
				waitGone(t, mark, 300*time.Millisecond+5*time.Second)
			})
		}
	}
}

func TestADroppedHandleEndsItsCommand(t *testing.T) {
	leaveNothing(t)
	mark := marker()
	if _, err := netrunner.Command("sleep", mark).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	collectUntilGone(t, mark)
}

func TestAHandleThatIsReadFromIsNotDropped(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", "read x; echo $x")
	cmd.Stdin, cmd.Stdout = netrunner.Pipe, netrunner.Pipe
	p, err := cmd.Start(testContext(t))
	check(t, err)
	in, out := p.Stdin(), p.Stdout()
	done := p.Done()
	for range 5 {
		runtime.GC()
	}
	if _, err := in.Write([]byte("still here\n")); err != nil {
		t.Fatal(err)
	}
	if line := readLine(t, out); line != "still here" {
		t.Errorf("read %q", line)
	}
	<-done
	check(t, out.Close())
	check(t, in.Close())
}

func TestAHandleWhoseEndIsAwaitedIsNotDropped(t *testing.T) {
	leaveNothing(t)
	out := filepath.Join(t.TempDir(), "out")
	p, err := netrunner.Command("sh", "-c", "sleep 0.2; echo to the end >"+out).Start(testContext(t))
	check(t, err)
	done := p.Done()
	for range 5 {
		runtime.GC()
	}
	<-done
	if text, err := os.ReadFile(out); string(text) != "to the end\n" || err != nil {
		t.Errorf("the command wrote %q, %v", text, err)
	}
}

// collectUntilGone collects garbage until the tree's end has begun, and waits for it.
func collectUntilGone(t *testing.T, mark string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for len(marked(t, mark)) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("there are still %q", describe(marked(t, mark)))
		}
		runtime.GC()
	}
}

func TestAKilledShepherdIsReportedAndItsTreeGone(t *testing.T) {
	for _, tree := range trees {
		t.Run(tree.name, func(t *testing.T) {
			leaveNothing(t)
			mark := marker()
			p := start(t, netrunner.Command("sh", "-c", tree.script, mark))
			readLine(t, p.Stdout())
			begin := time.Now()
			check(t, unix.Kill(parentOf(t, p.PID()), unix.SIGKILL))
			state, err := p.Wait()
			if !errors.Is(err, netrunner.ErrShepherdLost) || state != nil {
				t.Errorf("Wait: %v, %v, want ErrShepherdLost", state, err)
			}
			if took := time.Since(begin); took > time.Second {
				t.Errorf("it took %v", took)
			}
			if pids := marked(t, mark); len(pids) > 0 {
				t.Errorf("there are still %q", describe(pids))
			}
			check(t, netrunner.Command("true").Run(testContext(t)))
		})
	}
}

func TestAKilledWatcherHarmsNoCommand(t *testing.T) {
	leaveNothing(t)
	p := start(t, netrunner.Command("sleep", marker()))
	watcher := parentOf(t, parentOf(t, p.PID()))
	if parentOf(t, watcher) != os.Getpid() {
		t.Fatalf("%q is no watcher", describe([]int{watcher}))
	}
	check(t, unix.Kill(watcher, unix.SIGKILL))
	if !waitDeath(t, watcher, patience) {
		t.Fatal("the watcher lives")
	}
	check(t, netrunner.Command("true").Run(testContext(t)))
	again := start(t, netrunner.Command("sleep", marker()))
	if watcher := parentOf(t, parentOf(t, again.PID())); parentOf(t, watcher) != os.Getpid() {
		t.Errorf("%q is no watcher of ours", describe([]int{watcher}))
	}
	select {
	case <-p.Done():
		_, err := p.Wait()
		t.Errorf("the running command has ended: %v", err)
	default:
	}
	check(t, p.Stop(testContext(t)))
}

func TestAnIdleShepherdThatWasKilledIsReplaced(t *testing.T) {
	leaveNothing(t)
	p := start(t, netrunner.Command("true"))
	shepherd := children(t, children(t, os.Getpid())[0])
	_, err := p.Wait()
	check(t, err)
	for _, pid := range shepherd {
		check(t, unix.Kill(pid, unix.SIGKILL))
		if !waitDeath(t, pid, patience) {
			t.Fatal("the shepherd lives")
		}
	}
	check(t, netrunner.Command("true").Run(testContext(t)))
}

func TestAnOwnerThatIgnoresSIGCHLD(t *testing.T) {
	leaveNothing(t)
	cmd := netrunner.Command("sh", "-c", `trap '' CHLD; exec "$0"`, helperCommand(t, "").Path)
	cmd.Env = append(os.Environ(), helperVariable+"=runs-a-few")
	out, err := cmd.Output(testContext(t))
	if string(out) != "3 exit status 3\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

func init() {
	helperPrograms["runs-a-few"] = func([]string) {
		ctx := context.Background()
		var err error
		count := 0
		for range 3 {
			err = netrunner.Command("sh", "-c", "exit 3").Run(ctx)
			var exit *netrunner.ExitError
			if errors.As(err, &exit) {
				count++
				err = errors.New(exit.State.String())
			}
		}
		netrunner.CloseIdle()
		fmt.Println(count, err)
	}
}

// EAGAIN from fork, where the user may have no more processes.
func TestForkFails(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: RLIMIT_NPROC counts this user's other processes too")
	}
	leaveNothing(t)
	cmd := helperCommand(t, "fork-fails")
	out, err := cmd.CombinedOutput(testContext(t))
	if err != nil || !strings.Contains(string(out), "resource temporarily unavailable") || !strings.HasSuffix(string(out), "works again\n") {
		t.Errorf("%s%v", out, err)
	}
}

func init() {
	helperPrograms["fork-fails"] = func([]string) {
		// A user with no other processes; the limit spares root.
		if err := syscall.Setgid(54321); err != nil {
			panic(err)
		}
		if err := syscall.Setuid(54321); err != nil {
			panic(err)
		}
		var before unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NPROC, &before); err != nil {
			panic(err)
		}
		ctx := context.Background()
		var running []*netrunner.Process
		// Room for this process's threads, the watcher and some shepherds.
		few := unix.Rlimit{Cur: 30, Max: before.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NPROC, &few); err != nil {
			panic(err)
		}
		for {
			p, err := netrunner.Command("/bin/sleep", "1000").Start(ctx)
			if err != nil {
				var refused *netrunner.StartError
				if !errors.As(err, &refused) || !errors.Is(err, syscall.EAGAIN) {
					fmt.Printf("%T %v\n", err, err)
					os.Exit(1)
				}
				fmt.Println(err)
				break
			}
			running = append(running, p)
		}
		for _, p := range running {
			_ = p.Kill()
			_, _ = p.Wait()
		}
		if err := netrunner.Command("/bin/true").Run(ctx); err != nil {
			panic(err)
		}
		fmt.Println("works again")
	}
}

// EMFILE in the owner: an error at each step, and nothing is left open.
func TestDescriptorsRunOut(t *testing.T) {
	leaveNothing(t)
	check(t, netrunner.Command("true").Run(testContext(t)))
	open := len(descriptors(t)) + 8 // what the runtime has open is not listed
	var before unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	defer func() { check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }()
	failed := 0
	for limit := open + 30; limit > 3; limit-- {
		check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: before.Max}))
		cmd := netrunner.Command("/bin/cat")
		cmd.Stdin = strings.NewReader("hello")
		out, err := cmd.Output(context.Background())
		var refused *netrunner.StartError
		switch {
		case err == nil && string(out) == "hello":
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

// Idle shepherds of a dead watcher have nobody behind them: they are used no more.
func TestAShepherdWithoutWatcherGetsNoCommand(t *testing.T) {
	leaveNothing(t)
	check(t, netrunner.Command("true").Run(testContext(t)))
	watcher := children(t, os.Getpid())[0]
	check(t, unix.Kill(watcher, unix.SIGKILL))
	if !waitDeath(t, watcher, patience) {
		t.Fatal("the watcher lives")
	}
	mark := marker()
	p := start(t, netrunner.Command("sh", "-c", "setsid sleep $0 & echo ready; wait", mark))
	readLine(t, p.Stdout())
	if pids := children(t, os.Getpid()); len(pids) != 1 || pids[0] == watcher {
		t.Errorf("the owner's children are %q", describe(pids))
	}
	check(t, unix.Kill(parentOf(t, p.PID()), unix.SIGKILL))
	_, err := p.Wait()
	if !errors.Is(err, netrunner.ErrShepherdLost) {
		t.Errorf("%v, want ErrShepherdLost", err)
	}
	waitGone(t, mark, time.Second)
}
