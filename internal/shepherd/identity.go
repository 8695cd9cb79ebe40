package shepherd

import "os"

// identity is what nobody may keep who has given it up.
func (l *look) identity() string {
	return lines(l.status, "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Caps")
}

// forgottenBy reports of watchers whether they have an identity that no thread of
// this process has any more. A program that has given up its privileges must not
// go on holding a process that has them.
func forgottenBy(present *look) func(*watcher) bool {
	none := func(*watcher) bool { return false }
	living := map[string]bool{present.identity(): true}
	threads, err := os.ReadDir("/proc/self/task")
	if absent(err) {
		// Without /proc nobody knows of the other threads; this one's identity counts.
		return func(w *watcher) bool { return !living[w.look.identity()] }
	}
	if err != nil {
		return none
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	for _, thread := range threads {
		text, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/status")
		if err != nil { // it has ended
			continue
		}
		b.kept = b.kept[:0]
		if _, err := b.keepStatus(text); err != nil {
			return none
		}
		living[(&look{status: string(b.kept)}).identity()] = true
	}
	return func(w *watcher) bool { return !living[w.look.identity()] }
}
