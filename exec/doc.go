// Package exec is os/exec, with nothing lost: whatever a command has started
// ends with it, and the command ends with the program that runs it, by whatever
// death that program dies. Change the import, and the rest stays as it is:
//
//	import "github.com/netrunner-go/netrunner/exec"
//
// It has the whole interface of os/exec, and is a thin layer on package
// [github.com/netrunner-go/netrunner]. These are the differences:
//
//   - What a command leaves behind when it exits is killed, before Wait returns.
//     [Cmd.Leftovers] leaves it.
//   - When the program that has started it dies, the command gets SIGTERM, or the
//     signal of SysProcAttr.Pdeathsig, and five seconds later SIGKILL goes to all
//     that is left. A command that is to outlive the program is one for os/exec.
//   - Wait can't hang on a grandchild that holds the output open. [ErrWaitDelay] is
//     never returned: output is complete when the tree is gone. A Read of
//     [Cmd.Stdin] that blocks is waited for no longer than a tenth of a second.
//   - The parent of the command is its shepherd, so that the program is told of its
//     child's death by nobody (no SIGCHLD), and can't wait for it by pid. The pid is
//     free as soon as the command has ended, and not only after Wait: a signal to
//     it by number may hit a stranger, one by [Process.Signal] never does.
//   - [Process], [ProcessState] and [ExitError] are types of their own, since the
//     standard library's can't be made from outside. They have the same methods.
//     [Error] and the errors that are variables are the standard library's own.
//   - [Process.Kill] kills all of the tree, unless Leftovers leaves it.
//   - Figures of use ([ProcessState.SysUsage] and the times) are those of the whole
//     tree, including what was killed. They do not add to those of this program's
//     children (man 2 getrusage).
//   - A command has no descriptor but 0, 1, 2 and ExtraFiles, also where this
//     program itself was given one that is not closed on exec.
//   - Namespaces are those that the program had when its first command started; a
//     locked thread with namespaces of its own does not pass them on.
//
// # SysProcAttr
//
// Chroot, Credential, Setsid, Setpgid, Pgid, Setctty, Noctty, Ctty, Foreground and
// PidFD are honoured as os/exec does. Pdeathsig is honoured, and follows the
// program's death rather than that of a thread of it (golang/go issue 27505).
//
// Ptrace, Cloneflags, Unshareflags, UidMappings, GidMappings, AmbientCaps and
// UseCgroupFD are refused: Start returns an error that names the field and wraps
// [errors.ErrUnsupported]. GidMappingsEnableSetgroups has no effect without the
// mappings.
package exec
