package shepherd

import (
	"os"

	"golang.org/x/sys/unix"
)

// atSecure is the auxiliary vector's key (man 3 getauxval).
const atSecure = 23

// privileged reports whether this program may do more than whoever has set its
// environment: it is set-uid or set-gid, has file capabilities, or has changed one
// of its ids. Where the kernel does not say, it counts as such.
func privileged() bool {
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		return true
	}
	vector, err := unix.Auxv()
	if err != nil {
		return true
	}
	for _, entry := range vector {
		if entry[0] == atSecure {
			return entry[1] != 0
		}
	}
	return true
}
