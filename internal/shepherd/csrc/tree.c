/*
 * The children of this process. It is a subreaper, so every orphan of the tree
 * becomes its child sooner or later, whatever its session, group or environment.
 * A child that is not yet reaped keeps its pid and its process group from being
 * used again (man 2 wait), so no signal sent here can reach a stranger.
 */
#include "shepherd.h"

void children_open(struct children *children)
{
	/* This process has one thread, so the list of the thread is the whole list (man 5 proc). */
	children->list = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
	children->last = 1;
	children->at = 0;
	children->have = 0;
}

/* Without /proc: waitid answers ECHILD for every pid that is no child of ours. */
static pid_t next_by_asking(struct children *children)
{
	siginfo_t info;
	while (++children->last < PID_LIMIT) {
		if (waitid(P_PID, (id_t)children->last, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0)
			return children->last;
	}
	return 0;
}

pid_t children_next(struct children *children)
{
	if (children->list < 0)
		return next_by_asking(children);
	for (pid_t pid = 0;;) {
		if (children->at == children->have) {
			children->at = 0;
			children->have = read(children->list, children->text, sizeof children->text);
			if (children->have <= 0)
				break;
		}
		const char c = children->text[children->at++];
		if (c >= '0' && c <= '9')
			pid = pid * 10 + (c - '0');
		else if (pid > 0)
			return pid;
	}
	(void)close(children->list);
	return 0;
}

void tree_kill(struct sweep *sweep, bool (*spare)(pid_t child))
{
	struct children children;
	memset(sweep, 0, sizeof *sweep);
	children_open(&children);
	for (pid_t child = children_next(&children); child != 0; child = children_next(&children)) {
		if (spare(child))
			continue;
		if (sweep->found < sizeof sweep->pids / sizeof *sweep->pids)
			sweep->pids[sweep->found] = (uint32_t)child;
		sweep->found++;
		if (kill(child, SIGKILL) != 0)
			sweep->immune++;
		/* The group that it leads, if it leads one, in one step that no fork escapes. */
		(void)kill(-child, SIGKILL);
	}
}

pid_t tree_peek(void)
{
	siginfo_t info;
	memset(&info, 0, sizeof info);
	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0)
		return -1;
	return info.si_pid;
}
