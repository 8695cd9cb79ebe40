package shepherd

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// look is a placeholder until the complete one is merged.
type look struct{ state string }

var inheritedLines = [][]byte{
	[]byte("Umask:"), []byte("Uid:"), []byte("Gid:"), []byte("Groups:"),
	[]byte("CapInh:"), []byte("CapPrm:"), []byte("CapEff:"), []byte("CapBnd:"), []byte("CapAmb:"),
	[]byte("NoNewPrivs:"), []byte("Seccomp:"), []byte("Cpus_allowed:"), []byte("Mems_allowed:"),
}

func takeLook() (look, error) {
	var now []byte
	for i, path := range []string{"/proc/thread-self/status", "/proc/thread-self/limits", "/proc/thread-self/cgroup"} {
		text, err := os.ReadFile(path)
		switch {
		case err != nil:
			now = fmt.Append(now, unix.Getuid(), unix.Geteuid(), unix.Getgid(), unix.Getegid())
		case i == 0:
			for line := range bytes.Lines(text) {
				for _, prefix := range inheritedLines {
					if bytes.HasPrefix(line, prefix) {
						now = append(now, line...)
					}
				}
			}
		default:
			now = append(now, text...)
		}
	}
	nice, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
	return look{string(append(now, byte(nice)))}, nil
}

func (l *look) equal(other *look) bool { return l.state == other.state }

func signalState() (ignored, blocked uint64, err error) { return 0, 0, nil }

var errChanging = errors.New("what a command inherits changes too fast to be followed")

func confirmed(wanted *look, _ *watcher) error {
	now, err := takeLook()
	if err == nil && !now.equal(wanted) {
		err = errChanging
	}
	return err
}

func forgottenBy(look) func(*watcher) bool { return func(*watcher) bool { return false } }
