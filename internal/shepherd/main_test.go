package shepherd

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// The test binary is also each of the programs that the tests need and that no
// machine has. The variable says which one it is to be.
const programVariable = "NETRUNNER_TEST_PROGRAM"

var programs = map[string]func(){
	"parent-death-signal": printParentDeathSignal,
	"owner":               ownUntilKilled,
	"without-calls":       execWithoutCalls,
	"descriptors-in-air":  holdDescriptorsInTheAir,
	"helper-ways":         printHelperWays,
}

// What prctl answers is about the thread that asks, so this one has to be the first.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if name := os.Getenv(programVariable); name != "" {
		if err := os.Unsetenv(programVariable); err != nil {
			fail(err)
		}
		programs[name]()
		return
	}
	status := m.Run()
	removeBuilds()
	os.Exit(status)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func printParentDeathSignal() {
	var signal int32
	if err := unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0, 0, 0); err != nil {
		fail(err)
	}
	fmt.Println(signal)
}

// ownUntilKilled starts a watcher, as an owner does, and waits for its end. The
// sockets are those of the test: this process has none to hang up with.
func ownUntilKilled() {
	watcher := exec.Command(os.Args[1])
	watcher.Args = os.Args[1:]
	watcher.ExtraFiles = []*os.File{os.NewFile(3, "control")}
	if err := watcher.Start(); err != nil {
		fail(err)
	}
	fmt.Println(watcher.Process.Pid)
	_ = watcher.Wait()
}

const denialVariable = "NETRUNNER_TEST_DENY"

// denying is the environment of the program that runs another without these calls.
func denying(denials ...proctest.Denial) []string {
	text, err := json.Marshal(denials)
	if err != nil {
		panic(err)
	}
	return []string{programVariable + "=without-calls", denialVariable + "=" + string(text)}
}

func execWithoutCalls() {
	var denials []proctest.Denial
	if err := json.Unmarshal([]byte(os.Getenv(denialVariable)), &denials); err != nil {
		fail(err)
	}
	fail(proctest.ExecWithout(denials, os.Args[1:]))
}

// holdDescriptorsInTheAir sends descriptors that nobody receives: as many as a
// user without privileges may have on their way is counted over all its processes.
func holdDescriptorsInTheAir() {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		fail(err)
	}
	for range 200 {
		if err := unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(0), nil, 0); err != nil {
			fail(err)
		}
	}
	fmt.Println("sent")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test closes it
}
