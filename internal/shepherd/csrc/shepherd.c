/*
 * The shepherd: the life of one command as a table of states and events, and
 * the loop that feeds it. When the command and everything that it started are
 * gone, the shepherd is ready for the next one.
 */
#include "shepherd.h"

#define IDLE_TIME (60000 * MILLISECOND) /* a shepherd that nobody needs for so long exits */
#define LATE_WORD (30 * MILLISECOND)    /* until it is said that a command runs, when nobody waits for the word */
#define STATUS_RUNS 0xffff              /* the wait status of what has neither exited nor been killed */
#define STUCK_TIME (2000 * MILLISECOND) /* without a death, then what is left is reported */

enum state { IDLE, STARTING, RUNNING, STOPPING, CLEARING, LEAVING, GUARDING, STATES, GONE };

enum event {
	START, SIGNAL, STOP, KILL, /* the requests, in the protocol's order */
	HANGUP,   /* the owner is gone, or spoke no protocol of ours */
	EXECUTED, /* the command runs */
	REFUSED,  /* a step before exec failed */
	EXITED,   /* the command is dead and not yet reaped */
	EMPTY,    /* no child is left */
	DEADLINE,
	EVENTS,
};

static struct {
	enum state state;
	struct channel channel;
	int owner;             /* pidfd of the owner, or -1 */
	int status_pipe;       /* of a command before its exec, or -1 */
	pid_t command;         /* 0 once it has been reaped */
	pid_t group;           /* that it led, or 0 */
	int pidfd;             /* of a command before its exec, or -1 */
	struct start_request start;
	struct failed_event failure; /* that the child named, or zero */
	struct ended_event ended;
	uint64_t deadline;     /* of the DEADLINE event, 0 for none */
	pid_t watcher;
} self;

/* What a command of the same user may change of its shepherd, and the next one would inherit. */
static struct inherited {
	struct rlimit limits[RLIM_NLIMITS];
	cpu_set_t processors;
	long niceness, policy, io_priority;
} inherited;

static void inherited_look(struct inherited *is)
{
	memset(is, 0, sizeof *is);
	for (int resource = 0; resource < (int)RLIM_NLIMITS; resource++)
		(void)getrlimit(resource, &is->limits[resource]); /* can't fail for oneself, nor can what follows */
	(void)sched_getaffinity(0, sizeof is->processors, &is->processors);
	is->niceness = getpriority(PRIO_PROCESS, 0);
	is->policy = syscall(SYS_sched_getscheduler, 0);
	is->io_priority = syscall(SYS_ioprio_get, 1, 0); /* IOPRIO_WHO_PROCESS */
}

/* ---- what the cells of the table do; each returns the next state ---- */

/* To its process group; to the command alone when it leads none, since the rest of the group is not ours. */
static void signal_command(int number)
{
	if (self.command != 0)
		(void)kill((self.start.flags & START_ALONE) != 0 ? self.command : -self.command, number);
}

static enum state ignore(void)
{
	return self.state;
}

static enum state quit(void)
{
	channel_close(&self.channel);
	return GONE;
}

static enum state hang_up(void)
{
	channel_close(&self.channel);
	return self.state;
}

static enum state report_failure(uint32_t step, int error, bool reusable)
{
	struct failed_event failed = {.step = step, .error = (uint32_t)error, .reusable = reusable};
	const bool told = channel_send(&self.channel, &failed, sizeof failed, EVENT_FAILED, -1);
	return told && reusable ? IDLE : quit();
}

static enum state report_end(void)
{
	const bool clear = self.ended.left == 0;
	if (self.failure.step != 0) /* after its strings the child has left nothing in the socket */
		return report_failure(self.failure.step, (int)self.failure.error, clear && self.failure.step > STEP_STRINGS);
	self.ended.reusable = clear;
	const bool told = channel_send(&self.channel, &self.ended, sizeof self.ended, EVENT_ENDED, -1);
	return told && clear ? IDLE : quit();
}

static enum state start(void)
{
	self.start = self.channel.request.start;
	memset(&self.ended, 0, sizeof self.ended);
	self.ended.status = STATUS_RUNS; /* until it has been reaped */
	memset(&self.failure, 0, sizeof self.failure);
	self.deadline = (self.start.flags & START_UNAWAITED) != 0 ? now() + LATE_WORD : 0;
	if (self.channel.truncated)
		return report_failure(STEP_DESCRIPTORS, EMFILE, false);
	enum step failed = STEP_FORK;
	self.command = command_fork(&self.channel, &self.status_pipe, &self.pidfd, &failed);
	self.group = (self.start.flags & START_ALONE) != 0 ? 0 : self.command;
	return self.command > 0 ? STARTING : report_failure(failed, errno, false);
}

static enum state relay(void)
{
	signal_command((int)self.channel.request.signal.signal);
	return self.state;
}

/*
 * SIGKILL to the whole tree. The group goes at once, in one step that no fork
 * escapes; while the command is not yet reaped it is no stranger's. The rest
 * goes child by child in sweep, orphans as they arrive.
 */
static enum state kill_all(void)
{
	tree_clear_begin(self.command != 0 ? self.group : 0);
	signal_command(SIGKILL);
	self.deadline = now();
	return CLEARING;
}

static enum state kill_orphaned(void)
{
	(void)hang_up();
	return kill_all();
}

static enum state stop(void)
{
	if (self.start.grace == 0 || self.start.stop_signal == SIGKILL)
		return kill_all();
	signal_command((int)self.start.stop_signal);
	signal_command(SIGCONT); /* what is stopped sees no signal but SIGKILL before it is continued */
	self.deadline = now() + self.start.grace;
	return STOPPING;
}

static enum state stop_orphaned(void)
{
	(void)hang_up();
	return stop();
}

static enum state executed(void)
{
	self.deadline = 0;
	struct started_event started = {.command = (uint32_t)self.command};
	/* Without its pidfd when the user has too many descriptors on their way: ETOOMANYREFS in man 2 sendmsg. */
	const bool told = channel_send(&self.channel, &started, sizeof started, EVENT_STARTED, self.pidfd) ||
		channel_send(&self.channel, &started, sizeof started, EVENT_STARTED, -1);
	return told ? RUNNING : stop_orphaned();
}

/* The child is about to exit; the end of its tree is then reported as the failure that it named. */
static enum state refused(void)
{
	tree_clear_begin(0);
	self.deadline = now() + SWEEP_TIME;
	return CLEARING;
}

/* Adds the child's use, which includes that of the children it has waited for (man 2 getrusage). */
static void reap_one(pid_t child)
{
	struct ended_event *ended = &self.ended;
	struct rusage usage;
	int status = 0;
	const bool clearing = self.state == CLEARING || (self.state == GUARDING && self.deadline != 0);
	if (clearing && tree_died(child, self.group)) /* all that were seen are dead: look at once for the orphans that they left */
		self.deadline = now();
	memset(&usage, 0, sizeof usage);
	(void)wait4(child, &status, __WALL, &usage); /* it is known to be dead */
	ended->user_time += (uint64_t)usage.ru_utime.tv_sec * 1000000u + (uint64_t)usage.ru_utime.tv_usec;
	ended->system_time += (uint64_t)usage.ru_stime.tv_sec * 1000000u + (uint64_t)usage.ru_stime.tv_usec;
	if (ended->max_rss < (uint64_t)usage.ru_maxrss)
		ended->max_rss = (uint64_t)usage.ru_maxrss;
	ended->minor_faults += (uint64_t)usage.ru_minflt;
	ended->major_faults += (uint64_t)usage.ru_majflt;
	ended->voluntary_switches += (uint64_t)usage.ru_nvcsw;
	ended->involuntary_switches += (uint64_t)usage.ru_nivcsw;
	if (child == self.command) {
		ended->status = (uint32_t)status;
		self.command = 0;
	} else if (self.state == CLEARING && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		ended->killed++;
	}
}

/*
 * Stays as parent of what is left, so that nobody takes it for an orphan, but
 * holds nothing of the owner's, and in the watcher's group, which says that the watcher
 * need not stay. `deadline` is that of the next look, 0 when it is left on purpose.
 */
static enum state report_left(const struct sweep *sweep, const char *name, uint64_t deadline)
{
	self.ended.left = sweep->found;
	memcpy(self.ended.left_pids, sweep->pids, sizeof sweep->pids);
	(void)report_end();
	(void)close(self.owner);
	self.owner = -1;
	set_name(name);
	if (getppid() == self.watcher) {
		(void)setpgid(0, getpgid(self.watcher));
		(void)kill(self.watcher, SIGCHLD);
	}
	self.deadline = deadline;
	return GUARDING;
}

/* What may not be signalled, or does not die of SIGKILL, is reported and not waited for; but it is not left alone. */
static enum state sweep(void)
{
	const struct sweep *swept = NULL;
	self.deadline = now() + SWEEP_TIME;
	if (tree_clear(NULL, STUCK_TIME, &swept))
		return CLEARING;
	return report_left(swept, "netrunner: guard", now() + GUARD_TIME);
}

static enum state guard(void)
{
	const struct sweep *swept = NULL;
	(void)tree_clear(NULL, 0, &swept);
	self.deadline = now() + GUARD_TIME;
	return GUARDING;
}

static enum state exited(void)
{
	if ((self.start.flags & START_LEAVE) == 0)
		return kill_all();
	self.deadline = now(); /* when all that are dead by now are reaped: those are not left */
	return LEAVING;
}

static enum state leave(void)
{
	const struct sweep *left = tree_signal(0, NULL);
	if (left->found > 0)
		return report_left(left, "netrunner: left", 0);
	self.deadline = now(); /* what is dead is still to be reaped */
	return LEAVING;
}

static bool got_stop_signal(pid_t child)
{
	return (self.start.flags & START_ALONE) == 0 && getpgid(child) == self.command;
}

/* The command has obeyed; what it leaves has the rest of the grace, and the signal if it was in no group that got it. */
static enum state exited_stopping(void)
{
	(void)tree_signal((int)self.start.stop_signal, got_stop_signal);
	return STOPPING;
}

/* Cells that no event reaches: while the command starts, the socket is the child's to read; a guard has none. So they do the safest thing. */
#define unread kill_orphaned

typedef enum state cell(void);

static cell *const table[STATES][EVENTS] = {
	/*             START          SIGNAL  STOP    KILL      HANGUP         EXECUTED  REFUSED  EXITED           EMPTY       DEADLINE */
	[IDLE]     = { start,         ignore, ignore, ignore,   quit,          ignore,   ignore,  ignore,          ignore,     quit }, /* what it leaves unread, its owner takes to another */
	[STARTING] = { unread,        unread, unread, unread,   kill_orphaned, executed, refused, ignore,          ignore,     ignore },
	[RUNNING]  = { kill_orphaned, relay,  stop,   kill_all, stop_orphaned, ignore,   ignore,  exited,          report_end, ignore },
	[STOPPING] = { kill_orphaned, relay,  ignore, kill_all, hang_up,       ignore,   ignore,  exited_stopping, report_end, kill_all },
	[CLEARING] = { kill_orphaned, ignore, ignore, ignore,   hang_up,       ignore,   ignore,  ignore,          report_end, sweep },
	[LEAVING]  = { kill_orphaned, ignore, ignore, ignore,   hang_up,       ignore,   ignore,  ignore,          report_end, leave },
	[GUARDING] = { unread,        unread, unread, unread,   unread,        ignore,   ignore,  ignore,          quit,       guard }, /* its socket is closed */
};

static void happen(enum event event)
{
	const enum state before = self.state;
	if (before == GONE)
		return;
	self.state = table[before][event]();
	if (self.state != IDLE || before == IDLE)
		return;
	self.deadline = now() + IDLE_TIME;
	struct inherited left;
	inherited_look(&left);
	if (memcmp(&left, &inherited, sizeof left) != 0) /* what it is sent meanwhile it leaves unread: its owner takes that to another */
		self.state = quit();
}

/* ---- the loop ---- */

/* True: there may be more. */
static bool reap(void)
{
	const uint64_t end = now() + TURN_TIME;
	pid_t child = 0;
	while ((child = tree_peek()) > 0) {
		if (child == self.command)
			happen(EXITED);
		reap_one(child);
		if (now() >= end)
			return true;
	}
	if (child < 0)
		happen(EMPTY);
	return false;
}

static void read_status(void)
{
	if (read(self.status_pipe, &self.failure, sizeof self.failure) < 0) /* else all of it, or its end */
		return;
	(void)close(self.status_pipe);
	self.status_pipe = -1;
	command_started();
	channel_next(&self.channel); /* the command has its own copies of the descriptors */
	happen(self.failure.step == 0 ? EXECUTED : REFUSED);
	(void)close(self.pidfd);
}

static void receive(void)
{
	const enum received received = channel_receive(&self.channel);
	if (received == RECEIVED_PART)
		return;
	const uint32_t kind = self.channel.request.head.kind;
	if (received == RECEIVED_HANGUP)
		happen(HANGUP);
	else if (received == RECEIVED_REQUEST && kind <= REQUEST_KILL)
		happen((enum event)(kind - REQUEST_START));
	else
		happen(self.state == IDLE ? HANGUP : START); /* malformed, or meant for a watcher */
	if (self.state != STARTING) /* then the request is still being used */
		channel_next(&self.channel);
}

/* Why it can't be a shepherd. */
static int refuse(enum step step)
{
	(void)report_failure(step, errno, false);
	return 0;
}

int shepherd_main(int socket, int owner)
{
	struct ready_event ready = {.shepherd = (uint32_t)getpid()};
	bool more = false;
	self.channel.socket = socket;
	self.owner = owner;
	self.watcher = getppid();
	self.status_pipe = -1;
	self.deadline = now() + IDLE_TIME;
	set_name("netrunner: shepherd");
	tree_open();
	inherited_look(&inherited);
	/* A group of its own, so that nothing sent to the owner's or the command's reaches it. */
	const enum step refused = setpgid(0, 0) != 0 ? STEP_GROUP : prctl(PR_SET_CHILD_SUBREAPER, 1) != 0 ? STEP_SUBREAPER : 0;
	if (refused != 0)
		return refuse(refused);
	if (!channel_send(&self.channel, &ready, sizeof ready, EVENT_READY, -1))
		return 0;
	while (self.state != GONE) {
		/* While the command starts, what is in the socket is for it to read; a hang-up is always seen. */
		struct pollfd polled[] = {
			{self.state == STARTING && self.deadline != 0 ? -1 : self.status_pipe, POLLIN, 0},
			{self.channel.socket, self.state == STARTING ? POLLRDHUP : POLLIN, 0},
			{self.channel.socket >= 0 ? self.owner : -1, POLLIN, 0},
		};
		/* A guard without descriptors waits even where it may have none. */
		wait_for(polled, self.state == GUARDING && self.status_pipe < 0 ? 0 : 3, more ? now() : self.deadline);
		if (self.status_pipe >= 0) /* first, since what already runs is stopped, and not killed, when its owner is gone */
			read_status();
		if (polled[2].revents != 0 || (polled[1].revents != 0 && self.state == STARTING))
			happen(HANGUP);
		else if (polled[1].revents != 0)
			receive();
		/* Each turn, since what comes from the owner may be ready always, and then no signal says that a child has died. */
		more = self.state != STARTING && self.state != GONE && reap();
		if (self.deadline != 0 && now() >= self.deadline) {
			self.deadline = 0;
			happen(DEADLINE);
		}
	}
	return tree_peek() >= 0; /* it has children, which must not happen */
}
