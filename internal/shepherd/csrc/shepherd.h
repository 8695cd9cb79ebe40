/*
 * What the files of the helper share. Read them in this order: main.c,
 * watcher.c, shepherd.c (the life of one command, as a table), command.c (from
 * fork to exec), tree.c (find, kill and reap), channel.c (frames).
 *
 * Every signal is blocked except inside wait_for, so that no other call here
 * returns EINTR (man 7 signal).
 */
#ifndef SHEPHERD_H
#define SHEPHERD_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"

#define MILLISECOND ((uint64_t)1000000) /* times are in nanoseconds */
#define MAX_DESCRIPTORS 253             /* SCM_MAX_FD: what one message can carry (man 7 unix) */
#define PID_LIMIT 4194304               /* PID_MAX_LIMIT of a 64-bit kernel (man 5 proc) */
#define SWEEP_TIME (10 * MILLISECOND)   /* between looks through a tree that is being cleared */
#define GUARD_TIME (1000 * MILLISECOND) /* between looks at what has not gone */
#define TURN_TIME (1 * MILLISECOND)     /* of reaping, until all else has its turn: a tree can die faster than it is reaped */

/* main.c */

/* The kernel's signal set; musl's hides the signals that it keeps for threads. */
typedef uint64_t signal_mask;

uint64_t now(void);               /* CLOCK_MONOTONIC */
void set_name(const char *name);  /* as ps shows it */
/* Waits for a descriptor (those of -1 are left out), a child's death, or `deadline` (0: none). */
void wait_for(struct pollfd *descriptors, nfds_t count, uint64_t deadline);

/* channel.c: frames over a Unix socket. */

struct channel {
	int socket;     /* -1 once the peer is gone */
	uint32_t have;  /* bytes of `request` received so far */
	union request request;
	int descriptors[MAX_DESCRIPTORS]; /* that came with it */
	uint32_t descriptor_count;
	bool truncated; /* more came than this process may have open */
};

enum received { RECEIVED_PART, RECEIVED_REQUEST, RECEIVED_HANGUP, RECEIVED_MALFORMED };

enum received channel_receive(struct channel *channel);
/* Forgets the request and closes the descriptors that came with it. */
void channel_next(struct channel *channel);
void channel_close(struct channel *channel);
/* Sends one event, with a descriptor unless it is -1; false when the peer is gone. */
bool channel_send(const struct channel *channel, void *event, uint32_t size, uint32_t kind, int descriptor);

/* tree.c: the children of this process, and what is below those that don't go. */

struct sweep {
	uint32_t found;  /* that live: children that were not spared, and what was found below them */
	uint32_t immune; /* those of them that may not be signalled */
	uint32_t dead;   /* children that are dead and not yet reaped */
	uint32_t pids[8]; /* the first of those that live */
};

typedef bool tree_spare(pid_t child);

/* To be called first, in each process. */
void tree_open(void);
/* A dead child, not reaped; 0 when none is dead, -1 when there is no child at all. */
pid_t tree_peek(void);
/* Sends a signal (0: none) to every child that is not spared (NULL: all). */
const struct sweep *tree_signal(int number, tree_spare *spare);

/* Clearing: SIGKILL to all of the tree, again and again, since it may fork meanwhile. `group` has got it already, or is 0. */
void tree_clear_begin(pid_t group);
/* One sweep. False: what it found will not go, or has not gone for so long (patience); true also when it found nothing. */
bool tree_clear(tree_spare *spare, uint64_t patience, const struct sweep **sweep);
/* To be called before a child that is dead is reaped; `group` is known to be the tree's, or 0. True: no other death is to be awaited before the next sweep. */
bool tree_died(pid_t zombie, pid_t group);

/* command.c: from fork to exec. */

#define START_LEAVE 1u     /* the flags of a start request */
#define START_ALONE 2u     /* the command leads no process group */
#define START_UNAWAITED 4u /* "started" may come as late as the end, and needs no pidfd */

/*
 * The pid of the command, the read end of its status pipe, and a pidfd or -1. When it returns -1, errno is set, and `failed` is the step.
 * When a step fails, the child writes a failed_event into the pipe; silence means that it runs.
 */
pid_t command_fork(const struct channel *channel, int *status_pipe, int *pidfd, enum step *failed);
/* To be called when the status pipe has said how it went: frees what the child worked on. */
void command_started(void);
/* Splits strings into the path, a list of arguments and one of environment entries; false unless the counts come out. */
bool command_split(char *strings, size_t size, uint32_t arguments, uint32_t environment, char **vector);

/* shepherd.c, watcher.c: the two roles. Each returns its exit status when it has nothing left to do. */
int shepherd_main(int socket, int owner); /* 0 when nothing of its tree is left */
/* Says why this can't be a watcher: the step, and errno. The exit status that goes with it. */
int watcher_refuse(int socket, enum step step);
int watcher_main(int socket, bool attached); /* when it is not attached, that of the owner's child: 0, or the errno of the fork that failed */

#endif
