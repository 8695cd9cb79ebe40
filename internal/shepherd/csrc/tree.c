/*
 * The children of this process, and its tree. It is a subreaper, so every orphan
 * of the tree becomes its child sooner or later, whatever its session, group or
 * environment. A child that is not yet reaped keeps its pid and its process group
 * from being used again (man 2 wait), so no signal sent here can reach a stranger.
 *
 * What is below a child becomes no orphan as long as the child does not die. It
 * is reached by pidfds, with a second look at the parent.
 */
#include "shepherd.h"

#define DEEP_TIME (100 * MILLISECOND)  /* without a death, until what does not go is asked for what is below it */
#define REACT_TIME (300 * MILLISECOND) /* for what may not be signalled, to go when what was below it has gone */
#define MAX_BELOW 64                   /* processes below a child that are looked at in one sweep */

static int list = -1; /* /proc/thread-self/children, or -1 */

static struct {
	struct sweep sweep;
	uint64_t moved; /* when something has died last */
	uint64_t dug;   /* when something was last found below a child */
	uint32_t awaited;
	pid_t group;    /* killed since the last sweep */
} clearing;

/* Once and for all: a sweep must not depend on a descriptor that may be had no more (EMFILE, ENFILE). */
void tree_open(void)
{
	if (list >= 0)
		(void)close(list); /* of the process that forked this one */
	/* This process has one thread, so the list of the thread is the whole list (man 5 proc). */
	list = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
}

/* Looks for a dead child that is not reaped: none has the pid 0. */
static int look(idtype_t type, pid_t pid, siginfo_t *info)
{
	static int wall = __WALL;
	memset(info, 0, sizeof *info);
	int result = waitid(type, (id_t)pid, info, WEXITED | WNOHANG | WNOWAIT | wall);
	if (result != 0 && errno == EINVAL && wall != 0) { /* Linux before 4.7, and emulators */
		wall = 0;
		result = waitid(type, (id_t)pid, info, WEXITED | WNOHANG | WNOWAIT);
	}
	return result;
}

pid_t tree_peek(void)
{
	siginfo_t info;
	if (look(P_ALL, 0, &info) == 0)
		return info.si_pid;
	return errno == ECHILD ? -1 : 0;
}

/* ---- lists of pids in files of /proc ---- */

struct numbers {
	int file;
	off_t offset;
	ssize_t at, have;
	char text[512];
};

/* The next number of a file, 0 after the last. */
static pid_t next_number(struct numbers *numbers)
{
	for (pid_t number = 0;;) {
		if (numbers->at == numbers->have) {
			numbers->at = 0;
			numbers->have = pread(numbers->file, numbers->text, sizeof numbers->text, numbers->offset);
			if (numbers->have <= 0) {
				numbers->have = 0;
				return number;
			}
			numbers->offset += numbers->have;
		}
		const char c = numbers->text[numbers->at++];
		if (c >= '0' && c <= '9')
			number = number * 10 + (c - '0');
		else if (number > 0)
			return number;
	}
}

/* Opens /proc/PROCESS/task, or one file of a thread below it. */
static int open_task(pid_t process, pid_t thread, const char *file)
{
	char path[64] = "/proc/";
	const pid_t numbers[] = {process, thread};
	const char *const after[] = {"/task/", file};
	char *end = path + strlen(path);
	for (int i = 0; i < (thread != 0 ? 2 : 1); i++) {
		char digits[12];
		int count = 0;
		for (pid_t rest = numbers[i]; rest > 0; rest /= 10)
			digits[count++] = (char)('0' + rest % 10);
		while (count > 0)
			*end++ = digits[--count];
		end = stpcpy(end, after[i]);
	}
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* The parent of a process that lives; 0 when it is dead, or can't be asked. */
static pid_t parent_of(pid_t process)
{
	char text[256]; /* "PID (NAME) STATE PARENT …" (man 5 proc); a name may have brackets and spaces */
	const int file = open_task(process, process, "/stat");
	const ssize_t have = file < 0 ? 0 : read(file, text, sizeof text - 1);
	(void)close(file);
	text[have > 0 ? have : 0] = '\0';
	const char *end = strrchr(text, ')');
	if (end == NULL || strlen(end) < 5 || end[2] == 'Z' || end[2] == 'X')
		return 0;
	pid_t parent = 0;
	for (const char *c = end + 4; *c >= '0' && *c <= '9'; c++)
		parent = parent * 10 + (*c - '0');
	return parent;
}

/* ---- below a child ---- */

/* Where to look for more, in one dig: the child, then what was found. When there is no room, the next sweep gets further. */
static struct {
	pid_t process;
	int pidfd; /* -1 for the child itself, which is not yet reaped */
} below[MAX_BELOW];
static int below_count;

static void count(pid_t process, bool immune)
{
	struct sweep *sweep = &clearing.sweep;
	if (sweep->found < sizeof sweep->pids / sizeof *sweep->pids)
		sweep->pids[sweep->found] = (uint32_t)process;
	sweep->found++;
	sweep->immune += immune;
}

/*
 * Kills a process that was in the list of its parent's children. Its number may
 * be another's by now; what has that parent still is of the tree, whichever it
 * is, as long as the parent is not reaped, whose own number is then its own.
 */
static void kill_below(pid_t process, pid_t parent, int parent_pidfd)
{
	const int pidfd = (int)syscall(SYS_pidfd_open, process, 0); /* before the second look; -1 where the kernel has none */
	const bool parent_stays = parent_pidfd < 0 || syscall(SYS_pidfd_send_signal, parent_pidfd, 0, NULL, 0) == 0 || errno != ESRCH;
	if (parent_of(process) == parent && parent_stays) {
		const bool refused = syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) != 0;
		count(process, refused);
		if (!refused)
			clearing.dug = now();
		if (pidfd >= 0 && below_count < MAX_BELOW) {
			below[below_count].process = process;
			below[below_count++].pidfd = pidfd;
			return;
		}
	}
	(void)close(pidfd);
}

static void dig_thread(pid_t process, pid_t thread, int pidfd)
{
	struct numbers children = {.file = open_task(process, thread, "/children")};
	for (pid_t child = 0; children.file >= 0 && (child = next_number(&children)) > 0;)
		kill_below(child, process, pidfd);
	(void)close(children.file);
}

/* A process has the children of all its threads. */
static void dig_process(pid_t process, int pidfd)
{
	char entries[1024] __attribute__((aligned(8))); /* the kernel's struct linux_dirent64 (man 2 getdents) */
	const int threads = open_task(process, 0, NULL);
	long have = 0;
	while (threads >= 0 && (have = syscall(SYS_getdents64, threads, entries, sizeof entries)) > 0) {
		unsigned short length = 0;
		for (long at = 0; at < have; at += length) {
			memcpy(&length, entries + at + 16, sizeof length);
			const long thread = strtol(entries + at + 19, NULL, 10); /* 0 for . and .. */
			if (thread > 0)
				dig_thread(process, (pid_t)thread, pidfd);
		}
	}
	(void)close(threads);
}

/* Kills what is below a child that does not die, or may not be signalled. */
static void dig(pid_t child)
{
	below[0].process = child;
	below[0].pidfd = -1;
	below_count = 1;
	for (int i = 0; i < below_count; i++) {
		dig_process(below[i].process, below[i].pidfd);
		(void)close(below[i].pidfd);
	}
}

/* ---- the children ---- */

struct children {
	pid_t last;
	struct numbers listed;
};

/* The next child, 0 after the last; `dead` until it is reaped. */
static pid_t next(struct children *children, bool *dead)
{
	siginfo_t info;
	pid_t pid = 0;
	while (list >= 0 && (pid = next_number(&children->listed)) > 0) {
		if (look(P_PID, pid, &info) == 0) {
			*dead = info.si_pid != 0;
			return pid;
		}
		(void)close(list); /* this /proc is of another PID namespace: its numbers are not ours */
		list = -1;
	}
	/* Without a list, each pid there can be is asked for. */
	while (list < 0 && ++children->last < PID_LIMIT) {
		if (look(P_PID, children->last, &info) == 0) {
			*dead = info.si_pid != 0;
			return children->last;
		}
	}
	return 0;
}

/* Each child that is not spared gets the signal. What SIGKILL does not reach, or what does not go though `deep` is asked for, is dug below. */
static void signal_children(int number, tree_spare *spare, bool deep)
{
	struct sweep *sweep = &clearing.sweep;
	memset(sweep, 0, sizeof *sweep);
	struct children children = {.listed = {.file = list}};
	bool dead = false;
	for (pid_t child = next(&children, &dead); child != 0; child = next(&children, &dead)) {
		if (spare != NULL && spare(child))
			continue;
		const bool refused = kill(child, number) != 0;
		/* The group that it leads, if it leads one, in one step that no fork escapes. */
		if (number == SIGKILL)
			(void)kill(-child, number);
		if (dead) {
			sweep->dead++;
			continue;
		}
		count(child, refused);
		if (number == SIGKILL && list >= 0 && (refused || deep))
			dig(child);
		else if (!refused)
			clearing.awaited++;
	}
	clearing.awaited += sweep->dead;
}

const struct sweep *tree_signal(int number, tree_spare *spare)
{
	signal_children(number, spare, false);
	return &clearing.sweep;
}

/* ---- the clearing of a tree ---- */

void tree_clear_begin(pid_t group)
{
	clearing.moved = now();
	clearing.awaited = 0;
	clearing.group = group;
}

bool tree_clear(tree_spare *spare, uint64_t patience, const struct sweep **sweep)
{
	const uint64_t time = now(); /* before it: without /proc, a sweep alone takes seconds */
	clearing.awaited = 0;
	clearing.group = 0;
	signal_children(SIGKILL, spare, time - clearing.moved >= DEEP_TIME);
	*sweep = &clearing.sweep;
	const struct sweep *last = &clearing.sweep;
	const bool may_go = last->found > last->immune || last->dead > 0 || now() - clearing.dug < REACT_TIME;
	return last->found == 0 || (may_go && time - clearing.moved < patience);
}

/*
 * The group of a zombie keeps its number. All of it goes at once, which chains of
 * forks don't escape. It is of the tree when it was made by the tree: a group
 * that the zombie leads, the one that is known, or any in a session of the tree's own,
 * which no other process can join (man 2 setpgid).
 */
static void kill_group(pid_t zombie, pid_t known)
{
	const pid_t group = getpgid(zombie);
	if (group <= 1 || group == clearing.group)
		return;
	const pid_t session = getsid(zombie);
	if (group == zombie || group == known || (session > 0 && session != getsid(0))) {
		(void)kill(-group, SIGKILL);
		clearing.group = group;
	}
}

bool tree_died(pid_t zombie, pid_t group)
{
	kill_group(zombie, group);
	clearing.moved = now();
	return clearing.awaited > 0 && --clearing.awaited == 0;
}
