/* Frames over a Unix socket: a length, a kind, fields, and descriptors beside them. */
#include "shepherd.h"

#define NO_SIGNAL(number) ((number) < 1 || (number) > 64)
#define NO_PID(number) ((number) < 1 || (number) >= PID_LIMIT)

static void keep_descriptors(struct channel *channel, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at < c->cmsg_len; at += sizeof(int)) {
			int descriptor = -1;
			memcpy(&descriptor, (char *)c + at, sizeof descriptor);
			if (channel->descriptor_count < MAX_DESCRIPTORS)
				channel->descriptors[channel->descriptor_count++] = descriptor;
			else
				(void)close(descriptor);
		}
	}
	/* Some were lost on the way: this process may not have so many (man 2 recvmsg). */
	channel->truncated = channel->truncated || (message->msg_flags & MSG_CTRUNC) != 0;
}

/* Checks what can be checked once the whole structure is there. */
static bool well_formed(const struct channel *channel)
{
	const union request *r = &channel->request;
	uint64_t length = request_size(r->head.kind);
	uint32_t descriptors = 0;
	if (r->head.kind == REQUEST_START) {
		length += (uint64_t)r->start.setup + r->start.strings;
		descriptors = r->start.descriptors;
		/* 0, 1, 2 and the last, which is closed on exec; every string has at least its NUL, and the path is one. */
		if (descriptors < 4 || NO_SIGNAL(r->start.stop_signal) || r->start.setup % 8 != 0 ||
		    sizeof(struct setup) + (uint64_t)r->start.calls * sizeof(struct call) > r->start.setup ||
		    (uint64_t)r->start.arguments + r->start.environment >= r->start.strings)
			return false;
	} else if (r->head.kind == REQUEST_SPAWN) {
		descriptors = 1;
	} else if ((r->head.kind == REQUEST_SIGNAL && NO_SIGNAL(r->signal.signal)) ||
		   (r->head.kind == REQUEST_SETTLE && NO_PID(r->settle.shepherd)) ||
		   (r->head.kind == REQUEST_NUDGE && NO_PID(r->nudge.shepherd))) {
		return false;
	}
	return r->head.length == length && (channel->descriptor_count == descriptors || channel->truncated);
}

/*
 * Receives what there is of one request and never a byte more: the strings
 * that follow a start are left in the socket for the command itself to read.
 */
enum received channel_receive(struct channel *channel)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MAX_DESCRIPTORS)];
	} control;
	for (;;) {
		uint32_t want = sizeof(struct head);
		if (channel->have >= want) {
			want = request_size(channel->request.head.kind);
			if (want == 0 || channel->request.head.length < want)
				return RECEIVED_MALFORMED;
			if (channel->have == want)
				return well_formed(channel) ? RECEIVED_REQUEST : RECEIVED_MALFORMED;
		}
		struct iovec part = {(char *)&channel->request + channel->have, want - channel->have};
		struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1,
			.msg_control = &control, .msg_controllen = sizeof control};
		const ssize_t got = recvmsg(channel->socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (got <= 0)
			return got < 0 && errno == EAGAIN ? RECEIVED_PART : RECEIVED_HANGUP;
		keep_descriptors(channel, &message);
		channel->have += (uint32_t)got;
	}
}

void channel_next(struct channel *channel)
{
	for (uint32_t i = 0; i < channel->descriptor_count; i++)
		(void)close(channel->descriptors[i]);
	channel->descriptor_count = 0;
	channel->truncated = false;
	channel->have = 0;
}

void channel_close(struct channel *channel)
{
	channel_next(channel);
	(void)close(channel->socket);
	channel->socket = -1;
}

/*
 * The few events of a command always fit into the socket's buffer: a peer for
 * whom they don't is no owner of ours, and is not waited for.
 */
bool channel_send(const struct channel *channel, void *event, uint32_t size, uint32_t kind, int descriptor)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	const struct head head = {size, kind};
	memcpy(event, &head, sizeof head);
	struct iovec part = {event, size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	if (descriptor >= 0) {
		memset(&control, 0, sizeof control);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof descriptor);
		memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
	}
	return channel->socket >= 0 &&
		sendmsg(channel->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}
