/*
 * The watcher: parent and subreaper of the shepherds. When a shepherd dies by
 * any hand its orphans become the watcher's children, and are killed. It is on
 * no command's path: if it dies, shepherds and commands go on.
 */
#include "shepherd.h"

#define STUCK_TIME (800 * MILLISECOND) /* without a death, then an owner that asks is told what is left */

static struct {
	struct channel channel;  /* the owner's control socket */
	int owner;               /* pidfd of the owner, or -1 */
	unsigned char shepherds[PID_LIMIT / 8]; /* a bit a pid; pages that are never touched cost nothing */
	bool orphans;            /* there may be some */
	bool stuck;              /* and those that there are will not go */
	uint32_t left;           /* how many there were in the last sweep */
	uint64_t deadline;       /* of the next one, 0 for none */
	unsigned char asked[PID_LIMIT / 8]; /* a bit for each shepherd that the owner asks about */
	uint32_t questions;      /* how many those are */
} self;

static bool is_shepherd(pid_t child)
{
	return (self.shepherds[child / 8] & (1u << (child % 8))) != 0;
}

static void flip_shepherd(pid_t child)
{
	self.shepherds[child / 8] ^= (unsigned char)(1u << (child % 8));
}

/* Closes what the owner had open for others: a watcher that kept a pipe would keep its reader waiting. */
static void close_inherited(unsigned int first)
{
	if (syscall(SYS_close_range, first, ~0u, 0) == 0)
		return;
	/* Before Linux 5.9, or where a seccomp filter does not know the call. */
	struct rlimit limit = {65536, 65536};
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	for (unsigned int descriptor = first; descriptor < limit.rlim_cur && descriptor < 1048576; descriptor++)
		(void)close((int)descriptor);
}

static void spawn(void)
{
	if (self.channel.descriptor_count != 1)
		return; /* lost for want of a free descriptor: the owner's end hangs up */
	struct channel to = {.socket = self.channel.descriptors[0]};
	const pid_t child = fork();
	if (child == 0) {
		(void)close(self.channel.socket);
		_exit(shepherd_main(to.socket, self.owner));
	}
	if (child > 0) {
		flip_shepherd(child);
		(void)setpgid(child, child); /* as it does itself, but guards may look before that */
	} else {
		struct failed_event failed = {.step = STEP_SHEPHERD, .error = (uint32_t)errno};
		(void)channel_send(&to, &failed, sizeof failed, EVENT_FAILED, -1); /* if it does not fit, the hang-up says it */
	}
}

static void sweep(void)
{
	const struct sweep *swept = NULL;
	self.stuck = !tree_clear(is_shepherd, STUCK_TIME, &swept);
	self.left = swept->found;
	self.orphans = swept->found + swept->dead > 0;
	self.deadline = !self.orphans ? 0 : now() + (self.stuck ? GUARD_TIME : SWEEP_TIME);
}

/* True: there may be more. */
static bool reap(void)
{
	const uint64_t end = now() + TURN_TIME;
	bool more = false;
	for (pid_t child = 0; !more && (child = tree_peek()) > 0; more = now() >= end) {
		int status = 0;
		const bool shepherd = is_shepherd(child);
		if (!shepherd && tree_died(child, 0) && self.orphans)
			self.deadline = now();
		(void)waitpid(child, &status, __WALL); /* it is known to be dead */
		/* A shepherd that exits by itself has cleared its tree. */
		if (shepherd && status != 0)
			tree_clear_begin(0);
		if (shepherd ? status != 0 : !self.orphans) {
			self.orphans = true;
			self.stuck = false;
			self.deadline = now();
		}
		if (shepherd)
			flip_shepherd(child);
	}
	return more;
}

/* A shepherd that stays only as parent of what is left has joined our group. */
static bool guards_nothing(pid_t child)
{
	return !is_shepherd(child) || getpgid(child) == getpgrp();
}

static bool guarded(void)
{
	const struct sweep *guards = tree_signal(0, guards_nothing);
	return guards->found + guards->dead > 0;
}

/* The bit of a shepherd is cleared when it is reaped, so the number is still its own. */
static void nudge(void)
{
	const pid_t shepherd = (pid_t)self.channel.request.nudge.shepherd;
	const uint32_t number = self.channel.request.nudge.signal;
	if (is_shepherd(shepherd) && (number == SIGCONT || number == SIGKILL))
		(void)kill(shepherd, (int)number);
}

static void ask(pid_t shepherd)
{
	const unsigned char bit = (unsigned char)(1u << (shepherd % 8));
	self.questions += (self.asked[shepherd / 8] & bit) == 0;
	self.asked[shepherd / 8] |= bit;
}

static void receive(void)
{
	const enum received received = channel_receive(&self.channel);
	if (received == RECEIVED_PART)
		return;
	if (received == RECEIVED_REQUEST && self.channel.request.head.kind == REQUEST_SPAWN)
		spawn();
	else if (received == RECEIVED_REQUEST && self.channel.request.head.kind == REQUEST_SETTLE)
		ask((pid_t)self.channel.request.settle.shepherd);
	else if (received == RECEIVED_REQUEST && self.channel.request.head.kind == REQUEST_NUDGE)
		nudge();
	else
		channel_close(&self.channel);
	channel_next(&self.channel);
}

/* Answers what can be answered, to each question apart: one shepherd may take longer than another. */
static void answer(void)
{
	const bool known = !self.orphans || self.stuck;
	for (pid_t pid = 0; pid < PID_LIMIT && self.questions > 0 && known; pid++) {
		const unsigned char bit = (unsigned char)(1u << (pid % 8));
		if (self.asked[pid / 8] == 0)
			pid |= 7;
		else if ((self.asked[pid / 8] & bit) != 0 && !is_shepherd(pid)) {
			struct settled_event settled = {.shepherd = (uint32_t)pid, .left = self.orphans ? self.left : 0};
			self.asked[pid / 8] ^= bit;
			self.questions--;
			if (!channel_send(&self.channel, &settled, sizeof settled, EVENT_SETTLED, -1)) {
				channel_close(&self.channel);
				return;
			}
		}
	}
}

static bool greet(void)
{
	struct hello_event hello = {.watcher = (uint32_t)getpid()};
	const int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0); /* -1 where the kernel has none */
	const bool told = channel_send(&self.channel, &hello, sizeof hello, EVENT_HELLO, pidfd) ||
		channel_send(&self.channel, &hello, sizeof hello, EVENT_HELLO, -1); /* as for a command that is started */
	(void)close(pidfd);
	return told;
}

int watcher_refuse(int socket, enum step step)
{
	const struct channel to = {.socket = socket};
	struct failed_event failed = {.step = (uint32_t)step, .error = (uint32_t)errno};
	(void)channel_send(&to, &failed, sizeof failed, EVENT_FAILED, -1);
	return 125;
}

/* Tries what a sandbox may refuse, and without which nothing can be promised, in ways that do nothing. */
static enum step refused_step(void)
{
	const struct timespec none = {0, 0};
	char byte = 0;
	struct iovec part = {&byte, sizeof byte};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	errno = 0;
	if (tree_peek() == 0 && errno != 0)
		return STEP_WAIT;
	if (waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno != ECHILD)
		return STEP_WAIT;
	if (syscall(SYS_ppoll, NULL, 0, &none, NULL, sizeof(signal_mask)) != 0)
		return STEP_POLL;
	if (recvmsg(self.channel.socket, &message, MSG_PEEK | MSG_DONTWAIT) < 0 && errno != EAGAIN)
		return STEP_RECEIVE;
	return kill(getpid(), 0) != 0 ? STEP_KILL : 0;
}

int watcher_main(int socket, bool attached)
{
	set_name("netrunner: watcher");
	self.channel.socket = socket;
	close_inherited((unsigned int)socket + 1);
	/* The hang-up is what counts; the pidfd says the same when a copy of the owner's end has leaked elsewhere. */
	/* Should it have died by now, it is somebody else's, who dies too late; but then the hang-up is there. */
	self.owner = (int)syscall(SYS_pidfd_open, getppid(), 0); /* -1 where the kernel has none */
	/* The owner's child ends at once, so that whoever waits for the owner's children, or inherits them, has none of ours. */
	const pid_t child = attached ? 0 : fork();
	if (child != 0)
		return child < 0 ? errno : 0;
	tree_open();
	(void)prctl(PR_SET_DUMPABLE, 0); /* nobody else looks into it, or takes its descriptors; if it is refused, all else holds */
	const enum step refused = !attached && setpgid(0, 0) != 0 ? STEP_GROUP :
		fcntl(socket, F_SETFD, FD_CLOEXEC) != 0 ? STEP_DESCRIPTORS :
		prctl(PR_SET_CHILD_SUBREAPER, 1) != 0 ? STEP_SUBREAPER : refused_step();
	if (refused != 0)
		return watcher_refuse(socket, refused);
	if (!greet())
		return 125;
	bool more = false;
	while (self.channel.socket >= 0 || self.orphans || guarded()) {
		struct pollfd polled[] = {
			{self.channel.socket, POLLIN, 0},
			{self.channel.socket >= 0 ? self.owner : -1, POLLIN, 0},
		};
		wait_for(polled, self.channel.socket >= 0 ? 2 : 0, more ? now() : self.deadline);
		if (polled[1].revents != 0)
			channel_close(&self.channel);
		else if (polled[0].revents != 0)
			receive();
		more = reap();
		if (self.deadline != 0 && now() >= self.deadline)
			sweep();
		if (self.channel.socket >= 0)
			answer();
	}
	return 0;
}
