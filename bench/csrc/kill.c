/*
 * The two sides of the clean-up benchmark, in one program so that the processes
 * on both are the same.
 *
 *	kill tree N    makes a tree of N processes, itself the root, says its pid when
 *	               all of them are there, and waits for SIGKILL
 *	kill group N   makes N such processes in one process group, then kills and
 *	               reaps them, and says how many nanoseconds that took
 *
 * What this program prints goes to standard output, which all of the processes
 * keep open: a reader sees its end when the last of them is dead.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SETTLE 20000000 /* nanoseconds from the last process's word until it sleeps for certain */

static void fail(const char *step)
{
	(void)fprintf(stderr, "%s: %s\n", step, strerror(errno));
	exit(1);
}

/* Waits for the signal that ends this process. */
static void sleep_on(void)
{
	for (;;)
		(void)pause(); /* -1 whenever it returns */
}

/* Forks children that sleep, in the group `group` (0: ours; -1: of the first of them), and returns when all of them run. */
static pid_t make(long count, pid_t group)
{
	int ready[2];
	char word = 0;
	if (pipe(ready) != 0)
		fail("pipe");
	for (long i = 0; i < count; i++) {
		const pid_t child = fork();
		if (child < 0)
			fail("fork");
		if (child == 0) {
			if (group != 0 && setpgid(0, group < 0 ? 0 : group) != 0)
				_exit(1);
			if (write(ready[1], &word, 1) != 1 || close(ready[0]) != 0 || close(ready[1]) != 0)
				_exit(1);
			sleep_on();
		}
		if (group < 0)
			group = child;
		/* One by one, so that the leader has its group before the next wants to join it. */
		if (read(ready[0], &word, 1) != 1)
			fail("a child's word");
	}
	if (close(ready[0]) != 0 || close(ready[1]) != 0)
		fail("close");
	const struct timespec settle = {0, SETTLE};
	if (nanosleep(&settle, NULL) != 0)
		fail("nanosleep");
	return group;
}

static int64_t now(void)
{
	struct timespec t;
	if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
		fail("clock_gettime");
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void say(long long number)
{
	if (printf("%lld\n", number) < 0 || fflush(stdout) != 0)
		fail("write");
}

int main(int argc, char **argv)
{
	const long count = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
	if (count < 1) {
		(void)fprintf(stderr, "usage: kill tree|group N\n");
		return 2;
	}
	if (strcmp(argv[1], "tree") == 0) {
		(void)make(count - 1, 0);
		say(getpid());
		sleep_on();
	}
	const pid_t group = make(count, -1);
	long reaped = 0;
	const int64_t begin = now();
	if (kill(-group, SIGKILL) != 0)
		fail("kill");
	while (waitpid(-1, NULL, 0) > 0)
		reaped++;
	const int64_t end = now();
	if (errno != ECHILD || reaped != count)
		fail("waitpid");
	say(end - begin);
	return 0;
}
