package shepherd

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// What is not dumpable belongs to root in /proc: nobody else reads its memory or
// takes its descriptors. The command is as it would be without a shepherd.
func TestOnlyTheCommandIsDumpable(t *testing.T) {
	needRoot(t)
	eachBuild(t, func(t *testing.T, b build) {
		if b.emulated {
			t.Skip("it is qemu that would be asked")
		}
		o := startOwner(t, b, &start{user: stranger})
		s := o.shepherd()
		command := s.start(s.shell("setsid sleep $M & echo running; exec sleep $M"))
		s.says("running")
		o.awaitSleepers(2)
		for _, test := range []struct {
			name  string
			pid   int
			owner uint32
		}{{"the watcher", o.pid, 0}, {"the shepherd", s.pid, 0}, {"the command", command, stranger}} {
			info, err := os.Stat(fmt.Sprintf("/proc/%d/fd", test.pid))
			must(t, err)
			if uid := info.Sys().(*syscall.Stat_t).Uid; uid != test.owner {
				t.Errorf("%s is user %d's, not %d's", test.name, uid, test.owner)
			}
		}
		// They still find their children.
		s.send(killRequest{}.append(nil))
		if ended := s.endsWith("SIGKILL"); ended.Killed != 1 || ended.Left != 0 {
			t.Errorf("%+v", ended)
		}
	})
}
