/*
 * libFuzzer target: whatever an owner sends, channel_receive takes it for a
 * request that is well formed, waits for more, or hangs up; it never crashes,
 * never reads past a request, and leaks no descriptor. See check.sh.
 */
#include <stdlib.h>

#include "shepherd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte says how many descriptors come with the rest. */
static bool send_input(int socket, const uint8_t *data, size_t size)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int) * MAX_DESCRIPTORS)];
	} control;
	const size_t count = data[0] % MAX_DESCRIPTORS;
	char bytes[4096];
	const size_t length = size - 1 < sizeof bytes ? size - 1 : sizeof bytes;
	memcpy(bytes, data + 1, length);
	struct iovec part = {bytes, length};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	if (count > 0) {
		memset(&control, 0, sizeof control);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * count);
		for (size_t i = 0; i < count; i++)
			memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &(int){STDIN_FILENO}, sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)length;
}

static int first_free(void)
{
	const int descriptor = dup(STDIN_FILENO);
	(void)close(descriptor);
	return descriptor;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct channel channel;
	int pair[2];
	if (size < 2)
		return 0;
	const int before = first_free();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0 || !send_input(pair[0], data, size))
		abort();
	(void)close(pair[0]);
	memset(&channel, 0, sizeof channel);
	channel.socket = pair[1];
	for (enum received received = RECEIVED_REQUEST; received == RECEIVED_REQUEST;) {
		received = channel_receive(&channel);
		if (received == RECEIVED_PART) /* the other end is closed: there is nothing to wait for */
			abort();
		if (received == RECEIVED_REQUEST && channel.have != request_size(channel.request.head.kind))
			abort();
		if (received == RECEIVED_REQUEST)
			channel_next(&channel);
	}
	channel_close(&channel);
	if (first_free() != before)
		abort();
	return 0;
}
