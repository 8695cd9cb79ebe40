package shepherd

import "testing"

// What a command has changed of its shepherd no other command inherits: the
// shepherd says how it ended, and is not used again.
func TestAChangedShepherdIsNotUsedAgain(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		if o.build.emulated {
			t.Skip("the emulator has the limits of its host, and tells of others")
		}
		for _, change := range []string{
			"prlimit --pid $PPID --nofile=100:100",
			"prlimit --pid $PPID --core=0:0",
			"renice -n 3 -p $PPID >/dev/null",
			"taskset -p 1 $PPID >/dev/null",
			"chrt -b -p 0 $PPID",
			"ionice -c 3 -p $PPID",
		} {
			t.Run(change, func(t *testing.T) {
				o.in(t)
				s := o.shepherd()
				s.start(s.shell(change + " && exit 3"))
				s.endsWith("3")
				s.exits()
			})
		}
		o.in(t)
		s := o.shepherd()
		s.start(s.shell("prlimit --pid $$ --nofile=100:100; renice -n 3 -p $$ >/dev/null")) // of itself
		s.endsWith("0")
		s.goesOn()
	})
}
