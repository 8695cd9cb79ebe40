// Package netrunner runs other programs and never loses one: nothing that a
// command has started outlives its owner, by whatever death the owner dies.
//
// Each command runs under its own small watchdog, the shepherd, which kills
// everything the command started as soon as the owner's end of a socket hangs
// up. Output is read on demand: a fast producer waits in the kernel's pipe and
// fills no memory.
//
//	out, err := netrunner.Command("git", "log", "-1").Output(ctx)
//
// A [Cmd] is a template, a [Process] a command that runs. [Process.Wait] returns
// when the whole tree is gone, not when the first process is.
//
// # What a command inherits
//
// Descriptors 0, 1, 2 and ExtraFiles, and no others; the environment it is
// given; and what a child of the thread that starts it would have at that moment:
// umask, identity, capabilities, limits, niceness, affinity, cgroup, namespaces,
// root, ignored and blocked signals. docs/adr/0014 has the whole list.
package netrunner
