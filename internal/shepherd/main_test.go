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
)

// The test binary is also each of the programs that the tests need and that no
// machine has. The variable says which one it is to be.
const programVariable = "NETRUNNER_TEST_PROGRAM"

var programs = map[string]func(){
	"parent-death-signal": printParentDeathSignal,
	"owner":               ownUntilKilled,
	"without-calls":       execWithoutCalls,
	"descriptors-in-air":  holdDescriptorsInTheAir,
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

// denial is a system call that fails, unless its first argument is another than
// it says.
type denial struct {
	Call, Errno uintptr
	Is, Has     uint32 // the argument's value, or bits that it has; zero is any
}

const denialVariable = "NETRUNNER_TEST_DENY"

// denying is the environment of the program that runs another without these calls.
func denying(denials ...denial) []string {
	text, err := json.Marshal(denials)
	if err != nil {
		panic(err)
	}
	return []string{programVariable + "=without-calls", denialVariable + "=" + string(text)}
}

func execWithoutCalls() {
	var denials []denial
	if err := json.Unmarshal([]byte(os.Getenv(denialVariable)), &denials); err != nil {
		fail(err)
	}
	// See struct seccomp_data: the call's number, and the lower half of its first argument.
	const number, argument = 0, 16
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	var filter []unix.SockFilter
	for _, d := range denials {
		test := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jf: 1} // any: it is at least zero
		switch {
		case d.Is != 0:
			test = unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: d.Is, Jf: 1}
		case d.Has != 0:
			test = unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: d.Has, Jf: 1}
		}
		filter = append(filter,
			load(number),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(d.Call), Jf: 3},
			load(argument),
			test,
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(d.Errno)}) // SECCOMP_RET_ERRNO
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000}) // SECCOMP_RET_ALLOW
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fail(err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		fail(err)
	}
	fail(unix.Exec(os.Args[1], os.Args[1:], os.Environ()))
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
