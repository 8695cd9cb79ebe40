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
// given; the owner's umask, identity, limits, niceness and cgroup at the time of
// the start; default signal dispositions and an empty signal mask. Namespaces
// are those that the owner had when its first command started, or the first
// after [CloseIdle].
package netrunner
