// Package inherittest compares what commands inherit. A program changes
// something that a child inherits, at every moment there is, and runs the same
// probe through os/exec, the root package and package exec. What the three
// probes print must be equal.
package inherittest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner"
	netrunnerexec "github.com/netrunner-go/netrunner/exec"
)

// probe prints what it has inherited. Its own pid and process group are left
// out: they differ by design. One process of perl is much faster than a shell with its tools.
var probe = strings.NewReplacer(
	"GET_MEMPOLICY", fmt.Sprint(unix.SYS_GET_MEMPOLICY),
	"IOPRIO_GET", fmt.Sprint(unix.SYS_IOPRIO_GET), "GETSCHEDULER", fmt.Sprint(unix.SYS_SCHED_GETSCHEDULER),
).Replace(`
for my $f (map("/proc/self/$_", qw(status limits cgroup oom_score_adj coredump_filter personality timerslack_ns attr/current stat))) {
	open(my $h, "<", $f) or (print("$f: $!\n"), next);
	while (<$h>) {
		if ($f =~ /status/) { next unless /^(Umask|Uid|Gid|Groups|THP|Sig(Blk|Ign)|Cap|NoNewPrivs|Seccomp|Specul|Cpus_allowed|Mems_allowed)/ }
		if ($f =~ /stat$/) { my @s = split(/ /, s/.*\)//r); $_ = "session $s[4] terminal $s[5]\n" }
		print "$f: $_";
	}
}
print "$_: ", readlink($_), "\n" for glob("/proc/self/ns/*");
my ($mode, $mask) = ("\0" x 8, "\0" x 128);
print "policy ", syscall(GET_MEMPOLICY, $mode, $mask, 1024, 0, 0), unpack(" H*", $mode), unpack(" H*", $mask), "\n";
print "I/O priority ", syscall(IOPRIO_GET, 1, 0), "\n";
print "scheduler ", syscall(GETSCHEDULER, 0), " ", getpriority(0, 0), "\n";
print "root ", join(" ", (stat("/"))[0, 1]), " ", join(" ", sort(glob("/*"))), "\n";
`)

type entry struct {
	name   string
	change func() error // of the calling thread, or of all
	before []string     // a command that runs the program
}

func prctl(option int, arguments ...uintptr) func() error {
	return func() error {
		var a [4]uintptr
		copy(a[:], arguments)
		return unix.Prctl(option, a[0], a[1], a[2], a[3])
	}
}

// raw is a system call of this thread alone.
func raw(number uintptr, a ...uintptr) func() error {
	return func() error {
		var args [6]uintptr
		copy(args[:], a)
		if _, _, errno := unix.RawSyscall6(number, args[0], args[1], args[2], args[3], args[4], args[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

func write(path, text string) func() error {
	return func() error { return os.WriteFile(path, []byte(text), 0) }
}

func limit(resource int, soft uint64) func() error {
	return func() error {
		var l unix.Rlimit
		if err := unix.Getrlimit(resource, &l); err != nil {
			return err
		}
		l.Cur = min(soft, l.Max)
		return unix.Setrlimit(resource, &l)
	}
}

func schedule(attr unix.SchedAttr) func() error {
	return func() error {
		attr.Size = unix.SizeofSchedAttr
		return unix.SchedSetAttr(0, &attr, 0)
	}
}

func groups(n int) func() error {
	return func() error {
		list := make([]uint32, n)
		for i := range list {
			list[i] = uint32(100_000 + i)
		}
		err := raw(unix.SYS_SETGROUPS, uintptr(n), uintptr(unsafe.Pointer(unsafe.SliceData(list))))()
		runtime.KeepAlive(list)
		return err
	}
}

// filter installs a seccomp filter that allows everything.
func filter(times int, flags uintptr) func() error {
	return func() error {
		allow := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000}} // SECCOMP_RET_ALLOW
		program := unix.SockFprog{Len: 1, Filter: &allow[0]}
		for range times {
			const setModeFilter = 1
			if err := raw(unix.SYS_SECCOMP, setModeFilter, flags, uintptr(unsafe.Pointer(&program)))(); err != nil {
				return err
			}
		}
		return nil
	}
}

func dropCapability() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	for i := range sets {
		sets[i].Inheritable = 0
	}
	sets[0].Inheritable = 1 << unix.CAP_NET_RAW
	sets[0].Permitted &^= 1 << unix.CAP_SYS_TIME
	sets[0].Effective &^= 1 << unix.CAP_SYS_TIME
	return unix.Capset(&header, &sets[0])
}

func inTurn(changes ...func() error) func() error {
	return func() error {
		for _, change := range changes {
			if err := change(); err != nil {
				return err
			}
		}
		return nil
	}
}

func cgroup() error {
	base := "/sys/fs/cgroup"
	if _, err := os.Stat(base + "/cgroup.procs"); err != nil {
		base += "/cpu"
	}
	dir := fmt.Sprintf("%s/netrunner-%d", base, os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(dir+"/cgroup.procs", fmt.Append(nil, os.Getpid()), 0)
}

// newRoot is a root with the same programs, and a file that is in it alone.
const newRoot = `d=$(mktemp -d) && mkdir $d/usr $d/proc $d/dev $d/tmp && mount --bind /usr $d/usr && mount --bind /proc $d/proc &&
mount --rbind /dev $d/dev && ln -s usr/bin usr/sbin usr/lib usr/lib64 $d/ && NEW_ROOT=$d exec "$@"`

var entries = []entry{
	{name: "nothing", change: func() error { return nil }},
	{name: "umask", change: func() error { syscall.Umask(0o027); return nil }},
	{name: "umask of a thread", change: inTurn(raw(unix.SYS_UNSHARE, unix.CLONE_FS), raw(unix.SYS_UMASK, 0o077))},
	{name: "niceness", change: raw(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, 7)},
	{name: "open files", change: limit(unix.RLIMIT_NOFILE, 333)},
	{name: "core files", change: limit(unix.RLIMIT_CORE, 4096)},
	{name: "stack", change: limit(unix.RLIMIT_STACK, 4<<20)},
	{name: "file size", change: limit(unix.RLIMIT_FSIZE, 1<<30)},
	{name: "pending signals", change: limit(unix.RLIMIT_SIGPENDING, 99)},
	{name: "message queues", change: limit(unix.RLIMIT_MSGQUEUE, 4096)},
	{name: "real-time priority", change: limit(unix.RLIMIT_RTPRIO, 0)},
	{name: "locked memory", change: limit(unix.RLIMIT_MEMLOCK, 4096)},
	{name: "a few groups", change: groups(3)},
	{name: "1 500 groups", change: groups(1500)},
	{name: "1 500 groups and no capability to change the time", change: inTurn(prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_TIME), groups(1500))},
	{name: "bounding set", change: prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_MODULE)},
	{name: "capabilities", change: dropCapability},
	{name: "ambient capability", change: inTurn(dropCapability, prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_NET_RAW))},
	{name: "securebits", change: prctl(unix.PR_SET_SECUREBITS, 1<<2)}, // SECBIT_NO_SETUID_FIXUP
	{name: "no new privileges", change: prctl(unix.PR_SET_NO_NEW_PRIVS, 1)},
	{name: "seccomp", change: filter(1, 0)},
	{name: "two seccomp filters", change: filter(2, 0)},
	{name: "seccomp of all threads", change: filter(1, 1)}, // SECCOMP_FILTER_FLAG_TSYNC
	{name: "a thread's user", change: raw(unix.SYS_SETRESUID, 61001, 61001, 61001)},
	{name: "a thread's effective user", change: raw(unix.SYS_SETRESUID, 61001, 61002, 0)},
	{name: "a thread's group", change: raw(unix.SYS_SETRESGID, 61001, 61001, 61001)},
	{name: "user of all threads", change: func() error { return syscall.Setuid(61001) }},
	{name: "group of all threads", change: func() error { return syscall.Setgid(61001) }},
	{name: "affinity", change: func() error { var s unix.CPUSet; s.Set(0); return unix.SchedSetaffinity(0, &s) }},
	{name: "batch scheduling", change: schedule(unix.SchedAttr{Policy: unix.SCHED_BATCH})},
	{name: "idle scheduling", change: schedule(unix.SchedAttr{Policy: unix.SCHED_IDLE})},
	{name: "I/O priority", change: raw(unix.SYS_IOPRIO_SET, 1, 0, 3<<13)}, // of the idle class
	{name: "out-of-memory score", change: write("/proc/self/oom_score_adj", "321")},
	{name: "core dump filter", change: write("/proc/self/coredump_filter", "7")},
	{name: "personality", change: raw(unix.SYS_PERSONALITY, 0x0040000)}, // ADDR_NO_RANDOMIZE
	{name: "timer slack", change: prctl(unix.PR_SET_TIMERSLACK, 12345)},
	{name: "no huge pages", change: prctl(unix.PR_SET_THP_DISABLE, 1)},
	{name: "session", change: raw(unix.SYS_SETSID)},
	{name: "root", change: func() error {
		if err := os.WriteFile(os.Getenv("NEW_ROOT")+"/only-here", nil, 0o600); err != nil {
			return err
		}
		if err := unix.Chroot(os.Getenv("NEW_ROOT")); err != nil {
			return err
		}
		return os.Chdir("/")
	}, before: []string{"unshare", "--mount", "sh", "-c", newRoot, "sh"}},
	{name: "mount namespace", change: raw(unix.SYS_UNSHARE, unix.CLONE_NEWNS)},
	{name: "network namespace", change: raw(unix.SYS_UNSHARE, unix.CLONE_NEWNET)},
	{name: "UTS namespace", change: raw(unix.SYS_UNSHARE, unix.CLONE_NEWUTS)},
	{name: "IPC namespace", change: raw(unix.SYS_UNSHARE, unix.CLONE_NEWIPC)},
	{name: "cgroup namespace", change: raw(unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)},
	{name: "cgroup", change: cgroup},
	{name: "memory policy", change: func() error {
		nodes := uint64(1)
		return raw(unix.SYS_SET_MEMPOLICY, 2, uintptr(unsafe.Pointer(&nodes)), 64)() // MPOL_BIND
	}},
	{name: "an ignored signal", change: func() error { signal.Ignore(unix.SIGUSR1, unix.SIGHUP); return nil }},
	{name: "a signal that is ignored no more", change: func() error {
		signal.Ignore(unix.SIGUSR1)
		signal.Reset(unix.SIGUSR1)
		return nil
	}},
	{name: "a caught signal", change: func() error { signal.Notify(make(chan os.Signal, 1), unix.SIGUSR2, unix.SIGHUP); return nil }},
	{name: "a blocked signal", change: func() error {
		mask := uint64(1) << (unix.SIGUSR1 - 1)
		return raw(unix.SYS_RT_SIGPROCMASK, 0, uintptr(unsafe.Pointer(&mask)), 0, 8)()
	}},
}

var ways = []struct {
	name string
	run  func(argv ...string) ([]byte, error)
}{
	{"os/exec", func(argv ...string) ([]byte, error) { return exec.Command(argv[0], argv[1:]...).CombinedOutput() }},
	{"netrunner", func(argv ...string) ([]byte, error) {
		return netrunner.Command(argv[0], argv[1:]...).CombinedOutput(context.Background())
	}},
	{"netrunner/exec", func(argv ...string) ([]byte, error) {
		return netrunnerexec.Command(argv[0], argv[1:]...).CombinedOutput()
	}},
}

const (
	entryVariable  = "NETRUNNER_TEST_ENTRY"
	momentVariable = "NETRUNNER_TEST_MOMENT"
	notHere        = 77 // the exit status of a program that can't make its change here
)

func TestMain(m *testing.M) {
	if name := os.Getenv(entryVariable); name != "" {
		i := slices.IndexFunc(entries, func(e entry) bool { return e.name == name })
		program(&entries[i], os.Getenv(momentVariable))
		return
	}
	os.Exit(m.Run())
}

// program makes a change in a thread of its own, before or after the first
// command, and compares what commands have that are started by this thread and by others.
func program(e *entry, moment string) {
	compare := func(who string) {
		var want []byte
		for i, way := range ways {
			out, err := way.run("perl", "-e", probe)
			if err != nil {
				fmt.Printf("%s, %s: %v\n%s", way.name, who, err, out)
				return
			}
			if i == 0 {
				want = out
			} else if string(out) != string(want) {
				fmt.Printf("%s, %s:\n%s", way.name, who, difference(string(want), string(out)))
			}
		}
	}
	if moment == "later" {
		for _, way := range ways {
			if _, err := way.run("true"); err != nil {
				fmt.Println(err)
			}
		}
	}
	changed, others := make(chan struct{}), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good
		if err := e.change(); err != nil {
			fmt.Println(err)
			os.Exit(notHere)
		}
		compare("by the thread that has changed")
		close(changed)
		<-others
		compare("by the thread that has changed, again")
	}()
	<-changed
	compare("by another thread")
	close(others)
	<-done
}

func difference(want, got string) string {
	var b strings.Builder
	wanted, have := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(wanted), len(have)) {
		var w, h string
		if i < len(wanted) {
			w = wanted[i]
		}
		if i < len(have) {
			h = have[i]
		}
		if w != h {
			fmt.Fprintf(&b, "\tos/exec: %.200s\n\there:    %.200s\n", w, h)
		}
	}
	return b.String()
}

// What can't be followed is refused, and named.
func TestAnotherPIDNamespaceForChildrenIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make a PID namespace here")
	}
	refused := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		if err := unix.Unshare(unix.CLONE_NEWPID); err != nil {
			refused <- err
			return
		}
		refused <- netrunner.Command("true").Run(context.Background())
	}()
	err := <-refused
	var start *netrunner.StartError
	if !errors.As(err, &start) || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "PID namespace") {
		t.Errorf("it fails with %v", err)
	}
	if err := netrunner.Command("true").Run(t.Context()); err != nil {
		t.Errorf("by another thread: %v", err)
	}
	netrunner.CloseIdle()
}

// A command has what a child has that the calling thread forks at this moment,
// as with os/exec, and nothing that it does not have any more.
func TestCommandsInheritWhatAChildWould(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can change most of what is inherited")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		for _, moment := range []string{"first", "later"} {
			t.Run(e.name+"/"+moment, func(t *testing.T) {
				argv := slices.Concat(e.before, []string{self})
				cmd := exec.Command(argv[0], argv[1:]...)
				cmd.Env = append(os.Environ(), entryVariable+"="+e.name, momentVariable+"="+moment, "GORACE=atexit_sleep_ms=0", "XDG_CACHE_HOME="+t.TempDir())
				out, err := cmd.CombinedOutput()
				if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == notHere {
					t.Skipf("this machine does not let it change: %s", out)
				}
				if err != nil || len(out) > 0 {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
