package shepherd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

var errChanging = errors.New("what a command inherits changes while a watcher is started")

// confirmed reports whether a new watcher has what it should have. Another thread
// may have changed, just when it was forked, what the whole process has (the
// umask, a limit), and may have changed it back since.
func confirmed(wanted *look, w *watcher) error {
	present, _, err := takeLook()
	if err != nil {
		return err
	}
	if !present.equal(wanted) {
		return fmt.Errorf("%w: %s", errChanging, present.difference(wanted))
	}
	// No /proc, or one of another PID namespace, where the number is somebody else's.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.handle.pid))
	if absent(err) { // a /proc that hides others' processes
		return nil
	}
	if err != nil {
		return errLook(err)
	}
	b.kept = b.kept[:0]
	if _, err := b.keepStatus(text); err != nil {
		return errLook(err)
	}
	// Identity and capabilities change by the exec (man 7 capabilities), and are each thread's own.
	shared := []string{"Umask", "Groups", "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed", "Mems_allowed"}
	if has, wants := lines(string(b.kept), shared...), lines(wanted.status, shared...); has != wants {
		return fmt.Errorf("%w: %s", errChanging, firstDifference(has, wants))
	}
	for _, name := range []string{"limits", "oom_score_adj", "cgroup"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", w.handle.pid, name))
		if absent(err) {
			continue
		}
		if err != nil {
			return errLook(err)
		}
		if !strings.Contains(withoutOpenFiles(wanted.files), name+" "+withoutOpenFiles(string(text))+"\n") {
			return fmt.Errorf("%w: %s", errChanging, name)
		}
	}
	return nil
}

// difference names what differs, for an error.
func (l *look) difference(other *look) string {
	switch {
	case l.status != other.status:
		return firstDifference(l.status, other.status)
	case l.files != other.files:
		return firstDifference(l.files, other.files)
	}
	return "scheduling, session, root or terminal"
}

// firstDifference is the name of the first line that differs.
func firstDifference(a, b string) string {
	others := strings.Split(b, "\n")
	for i, line := range strings.Split(a, "\n") {
		if i >= len(others) || line != others[i] {
			name, _, _ := strings.Cut(line, " ")
			return strings.TrimSuffix(name, ":")
		}
	}
	return "the last of them"
}

// withoutOpenFiles leaves out the limit that Go has for itself: it raises its own
// (Go's os.adjustFileLimit), and gives its children the one that it had found.
func withoutOpenFiles(files string) string {
	before, rest, _ := strings.Cut(files, "Max open files")
	_, after, _ := strings.Cut(rest, "\n")
	return before + after
}
