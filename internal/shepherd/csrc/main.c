/*
 * netrunner's helper: a watchdog that kills everything a command has started
 * as soon as its owner is gone. One binary in two roles: the watcher, which the
 * owner starts once, and a shepherd per command, which the watcher forks.
 * Nothing is allocated after the start.
 */
#include "shepherd.h"

/* The owner puts its control socket here (watcher.go). */
#define CONTROL_SOCKET 3
/* The argument of a watcher that is to stay its owner's child. */
#define ATTACHED "attached"

static char *name_start;
static size_t name_size;

uint64_t now(void)
{
	struct timespec t = {0, 0};
	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* can't fail for this clock */
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void set_name(const char *name)
{
	(void)prctl(PR_SET_NAME, name);
	(void)strncpy(name_start, name, name_size); /* and zeros to its end; that of argv[0] is behind it */
}

/* There for wait_for to be interrupted: a signal that is ignored, as SIGCHLD is by default, interrupts nothing. */
static void on_child(int number)
{
	(void)number;
}

/* Default dispositions, so that no command inherits a signal that the owner ignored; then all are blocked. */
static bool take_signals(void)
{
	const unsigned long by_default[8] = {0}; /* the kernel's struct sigaction: SIG_DFL, no flags */
	const signal_mask all = ~(signal_mask)0;
	const struct sigaction action = {.sa_handler = on_child};
	for (int number = 1; number <= 64; number++) /* fails for SIGKILL and SIGSTOP, which have no other */
		(void)syscall(SYS_rt_sigaction, number, by_default, NULL, sizeof(signal_mask));
	/* In this order: the first sigaction of a musl program unblocks the signals that musl keeps for threads. */
	return sigaction(SIGCHLD, &action, NULL) == 0 &&
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all) == 0;
}

void wait_for(struct pollfd *descriptors, nfds_t count, uint64_t deadline)
{
	struct timespec left = {0, 0};
	if (deadline != 0) {
		const uint64_t time = now();
		const uint64_t wait = deadline > time ? deadline - time : 0;
		left = (struct timespec){(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
	}
	/* SIGCHLD gets through here and nowhere else, so that no death is missed between a look and the wait. */
	const signal_mask mask = ~((signal_mask)1 << (SIGCHLD - 1));
	const long ready = syscall(SYS_ppoll, descriptors, count, deadline != 0 ? &left : NULL, &mask, sizeof mask);
	/* Above all, more descriptors than somebody's prlimit leaves us: who cannot wait cannot guard, and ends as if the owner had gone. */
	const bool refused = ready < 0 && errno != EINTR;
	for (nfds_t i = 0; ready <= 0 && i < count; i++)
		descriptors[i].revents = refused ? POLLHUP : 0;
}

int main(int argc, char **argv)
{
	static const char usage[] = "This is the helper of netrunner (github.com/netrunner-go/netrunner).\n"
		"Programs that use netrunner start it; it does nothing by itself.\n";
	struct stat control;
	const bool attached = argc == 2 && strcmp(argv[1], ATTACHED) == 0;
	/* Where a sandbox refuses to say what it is, it is what it should be. */
	const bool given = fstat(CONTROL_SOCKET, &control) == 0 ? S_ISSOCK(control.st_mode) : errno != EBADF;
	if ((argc != 1 && !attached) || !given) {
		(void)!write(STDERR_FILENO, usage, sizeof usage - 1);
		return 125;
	}
	name_start = argv[0];
	name_size = strlen(argv[0]);
	if (attached)
		memset(argv[1], 0, strlen(argv[1])); /* ps shows what is behind a name */
	if (!take_signals())
		return watcher_refuse(CONTROL_SOCKET, STEP_SIGNALS);
	if (chdir("/") != 0)
		return watcher_refuse(CONTROL_SOCKET, STEP_PATH);
	return watcher_main(CONTROL_SOCKET, attached);
}
