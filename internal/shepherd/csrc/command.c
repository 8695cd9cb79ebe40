/*
 * From fork to exec. The child reads the strings of the start request itself,
 * from the socket into memory that is given back as soon as it has executed:
 * however large they are, a shepherd stays small, and nothing of one command's
 * environment is there for the next. All that the child calls is
 * async-signal-safe (man 7 signal-safety).
 */
#include "raw.h"
#include "shepherd.h"

__attribute__((noreturn)) static void fail(int status_pipe, enum step step, long error)
{
	const struct failed_event failure = {.step = (uint32_t)step, .error = (uint32_t)error};
	(void)raw(SYS_write, status_pipe, address(&failure), sizeof failure, 0);
	for (;;)
		raw_exit(127);
}

bool command_split(char *strings, size_t size, uint32_t arguments, uint32_t environment, char **vector)
{
	size_t at = 0;
	for (uint64_t i = 0; i <= (uint64_t)arguments + environment; i++) {
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

/* Puts the descriptors into their places, first out of the way of each other; the last one and all others are closed by exec. */
static long place_descriptors(int *descriptors, int count, int *status_pipe)
{
	long result = 0;
	for (int i = -1; i < count && result >= 0; i++) {
		int *descriptor = i < 0 ? status_pipe : &descriptors[i];
		if (*descriptor < count && (result = raw(SYS_fcntl, *descriptor, F_DUPFD_CLOEXEC, count, 0)) >= 0)
			*descriptor = (int)result;
	}
	for (int i = 0; i < count && result >= 0; i++)
		result = raw(SYS_dup3, descriptors[i], i, i == count - 1 ? O_CLOEXEC : 0, 0);
	return result;
}

/*
 * What makes one command differ from another (its group or session, directory,
 * terminal, identity) is for the owner to list, and for the child to do blindly.
 */
static void make_calls(struct setup *setup, const struct start_request *start, int status_pipe)
{
	const struct call *call = (struct call *)(setup + 1);
	setup->command = (uint32_t)raw(SYS_getpid, 0, 0, 0, 0);
	for (const struct call *end = call + start->calls; call < end; call++) {
		uint64_t arguments[4] = {0, call->first, call->second, call->third};
		if (call->step >= sizeof step_calls / sizeof *step_calls || step_calls[call->step] == 0 ||
		    call->pointer > 3 || arguments[call->pointer] >= start->setup)
			fail(status_pipe, STEP_STRINGS, EPROTO);
		arguments[call->pointer] += call->pointer != 0 ? (uintptr_t)setup : 0;
		const long result = raw(step_calls[call->step], (long)arguments[1], (long)arguments[2], (long)arguments[3], 0);
		if (result < 0)
			fail(status_pipe, (enum step)call->step, -result);
	}
}

/* Default dispositions are those of the shepherd (take_signals); its one handler is reset by exec. */
static long set_signals(const struct setup *setup)
{
	const unsigned long ignore[8] = {1}; /* the kernel's struct sigaction: SIG_IGN, no flags */
	long result = raw(SYS_rt_sigprocmask, SIG_SETMASK, address(&setup->blocked), 0, sizeof setup->blocked);
	for (int number = 1; number <= 64 && result >= 0; number++)
		if ((setup->ignored >> (number - 1) & 1) != 0)
			result = raw(SYS_rt_sigaction, number, address(ignore), 0, sizeof(signal_mask));
	return result;
}

/* What the child works on. It shares this memory; the shepherd leaves it alone until command_started. */
static struct {
	const struct channel *channel;
	int status_pipe;
	pid_t shepherd;
	char **vector; /* pointers to the path, to both lists and their NULLs; then the setup and the strings */
	size_t pointers, size; /* how many of the former; bytes of all */
	char *small[1536]; /* where the vector is when it fits; giving memory back costs more than a small program's start */
	char stack[8192] __attribute__((aligned(16)));
} child;

static int run(void *argument)
{
	const struct start_request *start = &child.channel->request.start;
	struct setup *setup = argument;
	char *strings = (char *)setup + start->setup;
	int status_pipe = child.status_pipe;

	/* Not read: that goes on beyond descriptors, which have no business here. */
	struct iovec part = {setup, (size_t)start->setup + start->strings};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	long result = raw(SYS_recvmsg, child.channel->socket, address(&message), MSG_WAITALL, 0);
	if (result != (long)part.iov_len)
		fail(status_pipe, STEP_STRINGS, result < 0 ? -result : ECONNRESET);
	if (!command_split(strings, start->strings, start->arguments, start->environment, child.vector))
		fail(status_pipe, STEP_STRINGS, EPROTO);

	int descriptors[MAX_DESCRIPTORS];
	memcpy(descriptors, child.channel->descriptors, sizeof descriptors);
	if ((result = place_descriptors(descriptors, (int)start->descriptors, &status_pipe)) < 0)
		fail(status_pipe, STEP_DESCRIPTORS, -result);
	make_calls(setup, start, status_pipe);

	/* One more string to the command, should the shepherd die; a set-uid program shakes it off (man 2 prctl). */
	if ((result = raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0)) < 0)
		fail(status_pipe, STEP_DEATH_SIGNAL, -result);
	if (raw(SYS_getppid, 0, 0, 0, 0) != child.shepherd)
		fail(status_pipe, STEP_KILLED, ESRCH);
	if ((result = set_signals(setup)) < 0)
		fail(status_pipe, STEP_SIGNALS, -result);
	fail(status_pipe, STEP_EXEC, -raw_execve(child.vector[0], child.vector + 1, child.vector + 2 + start->arguments));
}

void command_started(void)
{
	if (child.vector == child.small)
		memset(child.small, 0, child.size);
	else
		(void)munmap(child.vector, child.size);
}

/*
 * The child shares the shepherd's memory, as after vfork: copying it would cost
 * a sixth of the whole run of a small program. But the shepherd is not
 * suspended meanwhile: a chdir or an exec that hangs on a dead file system must
 * not keep it from seeing its owner's death. They share errno too, so the child's
 * calls are raw.
 */
pid_t command_fork(const struct channel *channel, int *status_pipe, int *pidfd, enum step *failed)
{
	const struct start_request *start = &channel->request.start;
	int ends[2];
	*pidfd = -1;
	child.channel = channel;
	child.shepherd = getpid();
	child.pointers = (size_t)start->arguments + start->environment + 3;
	child.size = child.pointers * sizeof(char *) + start->setup + start->strings;
	child.vector = child.small;
	if (child.size > sizeof child.small)
		child.vector = mmap(NULL, child.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*failed = STEP_FORK;
	if (child.vector == MAP_FAILED)
		return -1;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
		*failed = STEP_PIPE;
		return -1;
	}
	child.status_pipe = ends[1];
	char *top = child.stack + sizeof child.stack;
	char **setup = child.vector + child.pointers;
	pid_t pid = clone(run, top, CLONE_VM | SIGCHLD | ((start->flags & START_UNAWAITED) != 0 ? 0 : CLONE_PIDFD), setup, pidfd);
	if (pid < 0 && errno != EAGAIN && errno != ENOMEM) /* an emulator or a sandbox that knows threads and forks, and nothing between them */
		pid = clone(run, top, SIGCHLD, setup);
	(void)close(ends[1]); /* which leaves errno alone, since it succeeds */
	*status_pipe = ends[0];
	return pid;
}
