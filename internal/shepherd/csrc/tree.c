/*
 * The children of this process. It is a subreaper, so every orphan of the tree
 * becomes its child sooner or later, whatever its session, group or environment.
 * A child that is not yet reaped keeps its pid and its process group from being
 * used again (man 2 wait), so no signal sent here can reach a stranger.
 */
#include "shepherd.h"

static int list = -1; /* /proc/thread-self/children, or -1 */

struct children {
	pid_t last;
	ssize_t at, have;
	char text[1024];
};

/* Once and for all: a sweep must not depend on a descriptor that may be had no more (EMFILE, ENFILE). */
void tree_open(void)
{
	if (list >= 0)
		(void)close(list); /* of the process that forked this one */
	/* This process has one thread, so the list of the thread is the whole list (man 5 proc). */
	list = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
}

static bool is_child(pid_t pid)
{
	siginfo_t info;
	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
}

/* The next child, 0 after the last. */
static pid_t next(struct children *children)
{
	for (pid_t pid = 0; list >= 0;) {
		if (children->at == children->have) {
			children->at = 0;
			children->have = read(list, children->text, sizeof children->text);
			if (children->have <= 0)
				return 0;
		}
		const char c = children->text[children->at++];
		if (c >= '0' && c <= '9') {
			pid = pid * 10 + (c - '0');
		} else if (pid > 0 && is_child(pid)) {
			return pid;
		} else if (pid > 0) { /* this /proc is of another PID namespace: its numbers are not ours */
			(void)close(list);
			list = -1;
		}
	}
	/* Without a list, each pid there can be is asked for. */
	while (++children->last < PID_LIMIT)
		if (is_child(children->last))
			return children->last;
	return 0;
}

void tree_signal(struct sweep *sweep, int number, bool (*spare)(pid_t child))
{
	struct children children = {0, 0, 0, ""};
	memset(sweep, 0, sizeof *sweep);
	(void)lseek(list, 0, SEEK_SET);
	for (pid_t child = next(&children); child != 0; child = next(&children)) {
		if (spare != NULL && spare(child))
			continue;
		if (sweep->found < sizeof sweep->pids / sizeof *sweep->pids)
			sweep->pids[sweep->found] = (uint32_t)child;
		sweep->found++;
		if (kill(child, number) != 0)
			sweep->immune++;
		/* The group that it leads, if it leads one, in one step that no fork escapes. */
		if (number == SIGKILL)
			(void)kill(-child, number);
	}
}

pid_t tree_peek(void)
{
	siginfo_t info;
	memset(&info, 0, sizeof info);
	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0 ? -1 : info.si_pid;
}
