package exec_test

import (
	"fmt"
	"os"
	osexec "os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	"github.com/netrunner-go/netrunner/exec"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

// The test binary is also the programs that the tests run.
const programVariable = "NETRUNNER_TEST_PROGRAM"

var programs = map[string]func(args []string){
	"own": own, "own-pdeathsig": ownWithDeathSignal, "run": run, "run-ignoring": runIgnoring, "run-foreground": runForeground, "report": report,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(programVariable); name != "" {
		_ = os.Unsetenv(programVariable) // it is not for what they run
		programs[name](os.Args[1:])
		return
	}
	// What somebody has left open, os/exec passes on, and this package doesn't.
	for fd := 3; fd < 1024; fd++ {
		syscall.CloseOnExec(fd)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	status := m.Run()
	netrunner.CloseIdle()
	if err := goleak.Find(); err != nil {
		fmt.Println("FAIL:", err)
		status = 1
	}
	for _, p := range proctest.ReapLost(5 * time.Second) {
		fmt.Println("FAIL: left behind:", p)
		status = 1
	}
	os.Exit(status)
}

// asProgram is the environment that makes the test binary a program.
func asProgram(name string) []string {
	return append(os.Environ(), programVariable+"="+name, "GORACE=atexit_sleep_ms=0")
}

func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

func fail(err error) {
	fmt.Println(err)
	os.Exit(1)
}

// starter is what both packages have.
type starter interface {
	Start() error
	Wait() error
	Run() error
}

// command is that of the package of that name, with this process's own streams.
func command(of string, args []string) starter {
	if of == "os/exec" {
		cmd := osexec.Command(args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// own starts a command by one of the packages and waits for its own death.
func own(args []string) {
	if err := command(args[0], args[1:]).Start(); err != nil {
		fail(err)
	}
	select {}
}

// ownWithDeathSignal is own, but the command is to get SIGUSR2 at its death, and
// the thread that starts it ends before that.
func ownWithDeathSignal(args []string) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.SysProcAttr = os.Stdout, &syscall.SysProcAttr{Pdeathsig: syscall.SIGUSR2}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		started <- cmd.Start()
	}()
	if err := <-started; err != nil {
		fail(err)
	}
	select {}
}

// run runs a command by this package, in the foreground, and says how it ended.
func run(args []string) {
	fmt.Println("ended:", command("exec", args).Run())
}

// runIgnoring is run of a program that Ctrl-C does not end.
func runIgnoring(args []string) {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt) // what it ignores its command would ignore too
	run(args)
}

// runForeground gives the terminal to the command, and takes it back.
func runForeground(args []string) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = foregroundAttributes()
	err := cmd.Run()
	signal.Ignore(syscall.SIGTTOU)
	if err := unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, unix.Getpgrp()); err != nil {
		fail(err)
	}
	fmt.Println("ended:", err)
}

// report says what a command finds itself to be.
func report([]string) {
	session, _ := unix.Getsid(0)
	cwd, _ := os.Getwd()
	foreground, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	tty := "none"
	if f, openErr := os.Open("/dev/tty"); openErr == nil {
		tty = "some"
		_ = f.Close()
	}
	groups, _ := os.Getgroups()
	var open []string
	for fd := range 16 {
		link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if link != "" && !strings.HasPrefix(link, "anon_inode:") && !strings.HasPrefix(link, "/sys/fs/cgroup/") && !strings.HasPrefix(link, "/proc/") {
			open = append(open, fmt.Sprint(fd))
		}
	}
	fmt.Printf("session leader: %t\ngroup leader: %t\nparent's group: %t\nforeground: %t %v\ntty: %s\nids: %d %d %v\ncwd: %s\nPWD: %s\nopen: %v\n",
		session == os.Getpid(), unix.Getpgrp() == os.Getpid(), fmt.Sprint(unix.Getpgrp()) == os.Getenv("GROUP"),
		err == nil && foreground == unix.Getpgrp(), err, tty, os.Getuid(), os.Getgid(), groups, cwd, os.Getenv("PWD"), open)
}
