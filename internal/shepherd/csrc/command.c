/*
 * From fork to exec. The child reads the strings of the start request itself,
 * from the socket into memory of its own: however large they are, the shepherd
 * never holds them, and nothing of one command's environment is there for the
 * next. All that is called here is async-signal-safe (man 7 signal-safety).
 */
#include "shepherd.h"

static void fail(int status_pipe, enum step step, int error)
{
	const struct failure failure = {(uint32_t)step, (uint32_t)error};
	(void)!write(status_pipe, &failure, sizeof failure);
	_exit(127);
}

bool command_split(char *strings, size_t size, uint32_t arguments, uint32_t environment, char **vector)
{
	size_t at = 0;
	for (uint64_t i = 0; i < 1 + (uint64_t)arguments + environment; i++) {
		const char *end = at < size ? memchr(strings + at, '\0', size - at) : NULL;
		if (end == NULL)
			return false;
		*vector++ = strings + at;
		if (i == arguments)
			*vector++ = NULL;
		at = (size_t)(end - strings) + 1;
	}
	*vector = NULL;
	return at == size;
}

/* Puts the descriptors into their places, first out of the way of each other; all others are closed by exec. */
static bool place_descriptors(int *descriptors, int count, int *status_pipe)
{
	for (int i = -1; i < count; i++) {
		int *descriptor = i < 0 ? status_pipe : &descriptors[i];
		if (*descriptor < count)
			*descriptor = fcntl(*descriptor, F_DUPFD_CLOEXEC, count);
		if (*descriptor < 0)
			return false;
	}
	for (int i = 0; i < count; i++) {
		if (dup2(descriptors[i], i) < 0)
			return false;
	}
	return true;
}

static void run(const struct channel *channel, int status_pipe, pid_t shepherd)
{
	const struct start_request *start = &channel->request.start;
	const signal_mask none = 0;

	/* Pointers to the path, to both lists and their NULLs, then the strings. They go when exec replaces this memory. */
	const size_t pointers = ((size_t)start->arguments + start->environment + 3) * sizeof(char *);
	char **vector = mmap(NULL, pointers + start->strings, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vector == MAP_FAILED)
		fail(status_pipe, STEP_FORK, errno);
	char *strings = (char *)vector + pointers;
	if (recv(channel->socket, strings, start->strings, MSG_WAITALL) != (ssize_t)start->strings)
		fail(status_pipe, STEP_STRINGS, ECONNRESET);
	if (!command_split(strings, start->strings, start->arguments, start->environment, vector))
		fail(status_pipe, STEP_STRINGS, EPROTO);

	if (setpgid(0, (start->flags & START_JOIN_GROUP) != 0 ? (pid_t)start->group : 0) != 0)
		fail(status_pipe, STEP_GROUP, errno);

	int descriptors[MAX_DESCRIPTORS];
	memcpy(descriptors, channel->descriptors, sizeof descriptors);
	const int count = (int)start->descriptors - 1;
	if (fchdir(descriptors[count]) != 0)
		fail(status_pipe, STEP_DIRECTORY, errno);
	if (!place_descriptors(descriptors, count, &status_pipe))
		fail(status_pipe, STEP_DESCRIPTORS, errno);

	/* One more string to the command, should the shepherd die; a set-uid program shakes it off (man 2 prctl). */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != shepherd)
		fail(status_pipe, STEP_KILLED, ESRCH);
	if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none) != 0)
		fail(status_pipe, STEP_EXEC, errno);
	(void)execve(vector[0], vector + 1, vector + 2 + start->arguments);
	fail(status_pipe, STEP_EXEC, errno);
}

pid_t command_fork(const struct channel *channel, int *status_pipe)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	const pid_t shepherd = getpid();
	const pid_t child = fork();
	if (child == 0)
		run(channel, ends[1], shepherd); /* ends in exec or in _exit */
	const int error = errno;
	(void)close(ends[1]);
	if (child < 0)
		(void)close(ends[0]);
	*status_pipe = child < 0 ? -1 : ends[0];
	errno = error;
	return child;
}
