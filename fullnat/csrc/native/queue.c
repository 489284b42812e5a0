// SPDX-License-Identifier: Apache-2.0
/* NFQUEUE over a netlink socket of our own; see queue.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE   /* recvmmsg() */
#endif
#include "queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	CACHE_LINE = 64,
	HEADROOM = CACHE_LINE,
	ATTRIBUTES = 512,        /* more than the kernel puts around a packet */
	/*
	 * An odd number of cache lines, so that the headers of a batch, all at the same place of their
	 * slot, spread over all sets of the cache.
	 */
	SLOT = 1033 * CACHE_LINE,
	MESSAGE_MAX = SLOT - HEADROOM,
	/* A send buffer counts what the kernel keeps beside the bytes. */
	SEND_OVERHEAD = 4096,
};

_Static_assert(MESSAGE_MAX >= FN_QUEUE_PACKET_MAX + ATTRIBUTES, "a slot holds the largest message");
_Static_assert(SLOT / CACHE_LINE % 2 == 1, "slots do not share cache sets");

/* A verdict, as it lies before the packet. */
struct verdict {
	struct nlmsghdr message;
	struct nfgenmsg family;
	struct nlattr verdict_attribute;
	struct nfqnl_msg_verdict_hdr verdict;
	struct nlattr mark_attribute;
	uint32_t mark;
	struct nlattr payload_attribute;
};

enum { BARE_VERDICT = offsetof(struct verdict, payload_attribute) };

_Static_assert(sizeof(struct verdict) == FN_QUEUE_VERDICT, "no padding");
_Static_assert(HEADROOM >= sizeof(struct verdict), "a verdict fits, wherever in its message a packet lies");

struct fn_queue_buffer {
	_Alignas(CACHE_LINE) uint8_t slots[FN_QUEUE_BATCH][SLOT];
	struct mmsghdr messages[FN_QUEUE_BATCH];
	struct iovec rooms[FN_QUEUE_BATCH];
};

/* The first message of a bind: all but the copy mode. */
struct configuration {
	struct nlmsghdr message;
	struct nfgenmsg family;
	struct nlattr command_attribute;
	struct nfqnl_msg_config_cmd command;
	struct nlattr length_attribute;
	uint32_t length;
	struct nlattr mask_attribute;
	uint32_t mask;
	struct nlattr flags_attribute;
	uint32_t flags;
};

/* The second: it lets packets come. */
struct copy_mode {
	struct nlmsghdr message;
	struct nfgenmsg family;
	struct nlattr attribute;
	struct nfqnl_msg_config_params params;
	uint8_t padding[3];
};

enum {
	DEFAULT_LENGTH = 8192,
	DEFAULT_RECEIVE_BUFFER = 64 << 20,
	DEFAULT_SEND_BUFFER = 8 << 20,
};

/* Counters have one writer, except send_errors, and readers on other threads. */

static void count(uint64_t *counter, uint64_t more)
{
	__atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

static void count_send_errors(struct fn_queue *queue, uint64_t more)
{
	__atomic_fetch_add(&queue->statistics.send_errors, more, __ATOMIC_RELAXED);
}

static uint64_t read_count(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void fn_queue_statistics(const struct fn_queue *queue, struct fn_queue_statistics *statistics)
{
	*statistics = (struct fn_queue_statistics){
		.packets = read_count(&queue->statistics.packets),
		.bytes = read_count(&queue->statistics.bytes),
		.batches = read_count(&queue->statistics.batches),
		.truncated = read_count(&queue->statistics.truncated),
		.malformed = read_count(&queue->statistics.malformed),
		.errors = read_count(&queue->statistics.errors),
		.receive_errors = read_count(&queue->statistics.receive_errors),
		.send_errors = read_count(&queue->statistics.send_errors),
	};
}

/* Messages to the kernel. */

static struct nlmsghdr message_header(uint8_t type, size_t size, uint16_t flags)
{
	return (struct nlmsghdr){
		.nlmsg_len = (uint32_t)size,
		.nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | type,
		.nlmsg_flags = NLM_F_REQUEST | flags,
	};
}

static struct nfgenmsg queue_family(const struct fn_queue *queue)
{
	return (struct nfgenmsg){ .version = NFNETLINK_V0, .res_id = htons(queue->number) };
}

static struct nlattr attribute_header(uint16_t type, size_t size)
{
	return (struct nlattr){ .nla_type = type, .nla_len = (uint16_t)(sizeof(struct nlattr) + size) };
}

static struct verdict build_verdict(const struct fn_queue *queue, uint32_t id, uint32_t verdict, uint32_t mark,
				    uint32_t size)
{
	size_t length = size ? sizeof(struct verdict) + size : BARE_VERDICT;

	return (struct verdict){
		.message = message_header(NFQNL_MSG_VERDICT, length, 0),
		.family = queue_family(queue),
		.verdict_attribute = attribute_header(NFQA_VERDICT_HDR, sizeof(struct nfqnl_msg_verdict_hdr)),
		.verdict = { .verdict = htonl(verdict), .id = htonl(id) },
		.mark_attribute = attribute_header(NFQA_MARK, sizeof(uint32_t)),
		.mark = htonl(mark),
		.payload_attribute = attribute_header(NFQA_PAYLOAD, size),
	};
}

/* Opening. */

/* Return the netlink port that has *number* bound, or 0. */
static unsigned find_owner(uint16_t number)
{
	unsigned row, port, owner = 0;
	FILE *table = fopen("/proc/thread-self/net/netfilter/nfnetlink_queue", "re");

	if (!table)
		return 0;
	while (!owner && fscanf(table, "%u %u%*[^\n]", &row, &port) == 2)
		if (row == number)
			owner = port;
	fclose(table);
	return owner;
}

/* Say why queue *number* cannot be bound. */
static void explain(uint16_t number, int code, struct fn_queue_error *error)
{
	unsigned owner = code == EPERM || code == EBUSY ? find_owner(number) : 0;
	size_t size = sizeof(error->text);

	error->code = code;
	if (owner) {
		snprintf(error->text, size,
			 "queue %u is bound by another program (netlink port %u): set another [engine] queue",
			 number, owner);
	} else if (code == EPROTONOSUPPORT || code == EINVAL) {   /* no netlink for netfilter, or not this part */
		error->code = EPROTONOSUPPORT;
		snprintf(error->text, size, "NFQUEUE: the kernel lacks it: "
			 "CONFIG_NETFILTER_NETLINK_QUEUE, module nfnetlink_queue");
	} else if (code == EPERM) {
		snprintf(error->text, size, "queue %u cannot be bound: it takes root (CAP_NET_ADMIN)", number);
	} else {
		snprintf(error->text, size, "queue %u cannot be bound: %s", number, strerror(code));
	}
}

static struct fn_queue_buffer *allocate_buffer(void)
{
	struct fn_queue_buffer *buffer = aligned_alloc(_Alignof(struct fn_queue_buffer), sizeof(*buffer));

	if (!buffer)
		return NULL;
	memset(buffer->messages, 0, sizeof(buffer->messages));
	for (int at = 0; at < FN_QUEUE_BATCH; at++) {
		buffer->rooms[at].iov_base = buffer->slots[at] + HEADROOM;
		buffer->rooms[at].iov_len = MESSAGE_MAX;
		buffer->messages[at].msg_hdr.msg_iov = &buffer->rooms[at];
		buffer->messages[at].msg_hdr.msg_iovlen = 1;
	}
	return buffer;
}

/* Set the size of a buffer: beyond the host's limit if we may, which in a user namespace root may not. */
static void set_buffer(int fd, int force, int option, uint32_t size)
{
	int value = size > INT32_MAX / 2 ? INT32_MAX / 2 : (int)size;   /* the kernel doubles it */

	if (setsockopt(fd, SOL_SOCKET, force, &value, sizeof(value)))
		setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value));
}

/* Return how many bytes may be sent at once. */
static uint32_t read_send_max(int fd)
{
	int size = 0;
	socklen_t length = sizeof(size);

	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &length) || size <= SEND_OVERHEAD)
		return 0;
	return size - SEND_OVERHEAD < FN_QUEUE_SEND_MAX ? (uint32_t)(size - SEND_OVERHEAD) : FN_QUEUE_SEND_MAX;
}

/* Return *limits* with the defaults in the place of zeros. */
static struct fn_queue_limits fill_limits(const struct fn_queue_limits *limits)
{
	struct fn_queue_limits filled = *limits;

	if (!filled.length)
		filled.length = DEFAULT_LENGTH;
	if (filled.length > FN_QUEUE_LENGTH_MAX)
		filled.length = FN_QUEUE_LENGTH_MAX;
	if (!filled.receive_buffer)
		filled.receive_buffer = DEFAULT_RECEIVE_BUFFER;
	if (!filled.send_buffer)
		filled.send_buffer = DEFAULT_SEND_BUFFER;
	return filled;
}

static bool open_socket(struct fn_queue *queue, const struct fn_queue_limits *limits)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int on = 1;

	queue->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (queue->fd < 0)
		return false;
	/*
	 * Without NO_ENOBUFS a full buffer makes the kernel drop all packets until we have read it empty.
	 * Without CAP_ACK it sends a refused verdict back, payload and all.
	 */
	if (setsockopt(queue->fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof(on)) ||
	    setsockopt(queue->fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)) ||
	    connect(queue->fd, (struct sockaddr *)&kernel, sizeof(kernel)))
		return false;
	set_buffer(queue->fd, SO_RCVBUFFORCE, SO_RCVBUF, limits->receive_buffer);
	set_buffer(queue->fd, SO_SNDBUFFORCE, SO_SNDBUF, limits->send_buffer);
	queue->send_max = read_send_max(queue->fd);
	return true;
}

/* Return the errno with which the kernel answered the last message, which asked for an answer. */
static int read_answer(struct fn_queue *queue)
{
	uint8_t *answer = queue->buffer->slots[0];
	struct nlmsghdr header;
	int error;

	for (;;) {
		ssize_t size = recv(queue->fd, answer, SLOT, MSG_DONTWAIT);

		if (size < 0)
			return errno;
		if ((size_t)size < sizeof(header) + sizeof(error))
			continue;
		memcpy(&header, answer, sizeof(header));
		memcpy(&error, answer + sizeof(header), sizeof(error));
		if (header.nlmsg_type == NLMSG_ERROR)
			return -error;
	}
}

/*
 * Bind the queue; return 0 or an errno.
 *
 * The copy mode goes last and asks for no answer: before it no packet comes, and after it one could
 * come before the answer.
 */
static int bind_queue(struct fn_queue *queue, const struct fn_queue_limits *limits)
{
	struct configuration configuration = {
		.message = message_header(NFQNL_MSG_CONFIG, sizeof(configuration), NLM_F_ACK),
		.family = queue_family(queue),
		.command_attribute = attribute_header(NFQA_CFG_CMD, sizeof(configuration.command)),
		.command = { .command = NFQNL_CFG_CMD_BIND },
		.length_attribute = attribute_header(NFQA_CFG_QUEUE_MAXLEN, sizeof(configuration.length)),
		.length = htonl(limits->length),
		.mask_attribute = attribute_header(NFQA_CFG_MASK, sizeof(configuration.mask)),
		.mask = htonl(NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN),
		.flags_attribute = attribute_header(NFQA_CFG_FLAGS, sizeof(configuration.flags)),
		.flags = htonl(limits->segmented ? 0 : NFQA_CFG_F_GSO),
	};
	struct copy_mode copy_mode = {
		.message = message_header(NFQNL_MSG_CONFIG, sizeof(copy_mode), 0),
		.family = queue_family(queue),
		.attribute = attribute_header(NFQA_CFG_PARAMS, sizeof(copy_mode.params)),
		.params = { .copy_range = htonl(FN_QUEUE_PACKET_MAX), .copy_mode = NFQNL_COPY_PACKET },
	};
	int code;

	if (send(queue->fd, &configuration, sizeof(configuration), 0) < 0)
		return errno;
	code = read_answer(queue);
	if (!code && send(queue->fd, &copy_mode, sizeof(copy_mode), 0) < 0)
		code = errno;
	return code;
}

int fn_queue_open(struct fn_queue *queue, uint16_t number, const struct fn_queue_limits *limits,
		  struct fn_queue_error *error)
{
	struct fn_queue_limits filled = fill_limits(limits);
	int code;

	memset(queue, 0, sizeof(*queue));
	queue->fd = -1;
	queue->number = number;
	queue->buffer = allocate_buffer();
	if (!queue->buffer)
		code = ENOMEM;
	else if (!open_socket(queue, &filled))
		code = errno;
	else
		code = bind_queue(queue, &filled);
	if (!code)
		return 0;
	explain(number, code, error);
	fn_queue_close(queue);
	return error->code;
}

void fn_queue_close(struct fn_queue *queue)
{
	if (queue->fd >= 0)
		close(queue->fd);
	free(queue->buffer);
	queue->fd = -1;
	queue->buffer = NULL;
}

/* Receiving. */

/* Return *size* as netlink counts it: the next attribute or message begins at a multiple of four. */
static uint32_t align(uint32_t size)
{
	return (size + 3) & ~3U;
}

static uint32_t load_number(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return ntohl(value);
}

/* Take from an attribute, whose *size* bytes are at *at*, what it says of the packet. */
static void read_attribute(struct fn_packet *packet, bool *has_id, uint16_t type, uint8_t *at, uint32_t size)
{
	struct nfqnl_msg_packet_hdr about;

	switch (type) {
	case NFQA_PACKET_HDR:
		if (size < sizeof(about))
			break;
		memcpy(&about, at, sizeof(about));
		packet->id = ntohl(about.packet_id);
		packet->hook = about.hook;
		*has_id = true;
		break;
	case NFQA_MARK:
		if (size >= 4)
			packet->mark = load_number(at);
		break;
	case NFQA_SKB_INFO:
		if (size >= 4)
			packet->offload = (uint8_t)load_number(at);
		break;
	case NFQA_CAP_LEN:   /* how long it really is: there only if not all of it is */
		packet->truncated = true;
		break;
	case NFQA_PAYLOAD:
		packet->data = at;
		packet->size = size;
		break;
	default:
		break;
	}
}

/* Read the attributes of *message* into *packet*; false when none says which packet it is. */
static bool read_attributes(uint8_t *message, uint32_t size, struct fn_packet *packet)
{
	uint32_t at = sizeof(struct nlmsghdr) + sizeof(struct nfgenmsg);
	struct nlattr attribute;
	bool has_id = false;

	while (at + sizeof(attribute) <= size) {
		memcpy(&attribute, message + at, sizeof(attribute));
		if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > size - at)
			break;
		read_attribute(packet, &has_id, attribute.nla_type, message + at + sizeof(attribute),
			       attribute.nla_len - (uint32_t)sizeof(attribute));
		at += align(attribute.nla_len);
	}
	return has_id;
}

enum fn_queue_message fn_queue_parse(uint8_t *message, uint32_t size, struct fn_packet *packet)
{
	struct nlmsghdr header;

	if (size < sizeof(header))
		return FN_QUEUE_MALFORMED;
	memcpy(&header, message, sizeof(header));
	if (header.nlmsg_len < size)
		size = header.nlmsg_len;
	if (header.nlmsg_type == NLMSG_ERROR)
		return size >= NLMSG_HDRLEN + 4 && load_number(message + NLMSG_HDRLEN) ? FN_QUEUE_REFUSAL
										       : FN_QUEUE_OTHER;
	if (header.nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
		return FN_QUEUE_OTHER;
	*packet = (struct fn_packet){ .data = message };
	if (!read_attributes(message, size, packet))
		return FN_QUEUE_MALFORMED;
	if (!packet->size)
		packet->truncated = true;
	return FN_QUEUE_PACKET;
}

/* Take one message of a batch; return how many packets it was. */
static int take_message(struct fn_queue *queue, uint8_t *message, uint32_t size, struct fn_packet *packet)
{
	struct fn_queue_statistics *statistics = &queue->statistics;

	switch (fn_queue_parse(message, size, packet)) {
	case FN_QUEUE_PACKET:
		count(&statistics->bytes, packet->size);
		count(&statistics->truncated, packet->truncated);
		return 1;
	case FN_QUEUE_REFUSAL:
		count(&statistics->errors, 1);
		return 0;
	case FN_QUEUE_MALFORMED:
		count(&statistics->malformed, 1);
		return 0;
	default:
		return 0;
	}
}

int fn_queue_receive(struct fn_queue *queue, bool wait)
{
	struct mmsghdr *messages = queue->buffer->messages;
	int flags = wait ? MSG_WAITFORONE : MSG_DONTWAIT, packets = 0;
	int received = recvmmsg(queue->fd, messages, FN_QUEUE_BATCH, flags, NULL);

	if (received < 0 && errno != EAGAIN && errno != EINTR)
		count(&queue->statistics.receive_errors, 1);
	for (int at = 0; at < received; at++)
		packets += take_message(queue, queue->buffer->slots[at] + HEADROOM, messages[at].msg_len,
					&queue->packets[packets]);
	if (packets) {
		count(&queue->statistics.packets, (uint64_t)packets);
		count(&queue->statistics.batches, 1);
	}
	return packets;
}

/* An empty configuration changes nothing; that it is acknowledged is what it is for. */
void fn_queue_wake(struct fn_queue *queue)
{
	struct {
		struct nlmsghdr message;
		struct nfgenmsg family;
	} nothing = {
		.message = message_header(NFQNL_MSG_CONFIG, sizeof(nothing), NLM_F_ACK),
		.family = queue_family(queue),
	};

	send(queue->fd, &nothing, sizeof(nothing), 0);
}

/* Verdicts. */

static void add_verdict(struct fn_queue *queue, const struct fn_packet *packet, uint32_t verdict, uint32_t mark,
			uint32_t size)
{
	struct verdict built = build_verdict(queue, packet->id, verdict, mark, size);
	struct iovec *slot = &queue->verdicts[queue->pending++];

	slot->iov_base = packet->data - sizeof(built);
	slot->iov_len = align(built.message.nlmsg_len);   /* the next one follows */
	memcpy(slot->iov_base, &built, sizeof(built));
}

/* What is not all here cannot be sent back, and to go on as it came it was not meant. */
static void send_back(struct fn_queue *queue, const struct fn_packet *packet, uint32_t verdict, uint32_t mark)
{
	if (packet->truncated)
		fn_queue_drop(queue, packet);
	else
		add_verdict(queue, packet, verdict, mark, packet->size);
}

void fn_queue_accept(struct fn_queue *queue, const struct fn_packet *packet, uint32_t mark, bool rewritten)
{
	if (rewritten)
		send_back(queue, packet, NF_ACCEPT, mark);
	else
		add_verdict(queue, packet, NF_ACCEPT, mark, 0);
}

void fn_queue_repeat(struct fn_queue *queue, const struct fn_packet *packet, uint32_t mark)
{
	send_back(queue, packet, NF_REPEAT, mark);
}

void fn_queue_drop(struct fn_queue *queue, const struct fn_packet *packet)
{
	add_verdict(queue, packet, NF_DROP, packet->mark, 0);
}

void fn_queue_pass_on(struct fn_queue *queue, const struct fn_packet *packet, uint16_t number)
{
	add_verdict(queue, packet, (uint32_t)number << 16 | NF_QUEUE, packet->mark, 0);
}

/* Make *verdict* one that drops and has no payload. */
static void turn_into_drop(struct iovec *verdict)
{
	struct verdict built;

	memcpy(&built, verdict->iov_base, sizeof(built));
	built.message.nlmsg_len = BARE_VERDICT;
	built.verdict.verdict = htonl(NF_DROP);
	memcpy(verdict->iov_base, &built, sizeof(built));
	verdict->iov_len = BARE_VERDICT;
}

/*
 * Send *verdicts* at once.  What the kernel has no memory for is dropped: a packet without a verdict
 * would have its place in the queue for ever.
 */
static void send_verdicts(struct fn_queue *queue, struct iovec *verdicts, uint32_t number)
{
	struct msghdr message = { .msg_iov = verdicts, .msg_iovlen = number };

	if (sendmsg(queue->fd, &message, 0) >= 0)
		return;
	count_send_errors(queue, number);
	for (uint32_t at = 0; at < number; at++)
		turn_into_drop(&verdicts[at]);
	sendmsg(queue->fd, &message, 0);
}

void fn_queue_flush(struct fn_queue *queue)
{
	uint32_t first = 0, next;

	while (first < queue->pending) {
		size_t size = queue->verdicts[first].iov_len;

		for (next = first + 1; next < queue->pending; next++) {
			size += queue->verdicts[next].iov_len;
			if (size > queue->send_max)
				break;
		}
		send_verdicts(queue, queue->verdicts + first, next - first);
		first = next;
	}
	queue->pending = 0;
}

int fn_queue_verdict(struct fn_queue *queue, uint32_t id, uint32_t verdict, uint32_t mark,
		     const uint8_t *payload, uint32_t size)
{
	struct verdict built = build_verdict(queue, id, verdict, mark, payload ? size : 0);
	bool is_bare = built.message.nlmsg_len == BARE_VERDICT;
	struct iovec parts[] = {
		{ .iov_base = &built, .iov_len = is_bare ? BARE_VERDICT : sizeof(built) },
		{ .iov_base = (void *)(uintptr_t)payload, .iov_len = is_bare ? 0 : size },
	};
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	int code;

	if (sendmsg(queue->fd, &message, 0) >= 0)
		return 0;
	code = errno;
	count_send_errors(queue, 1);
	built = build_verdict(queue, id, NF_DROP, mark, 0);
	send(queue->fd, &built, BARE_VERDICT, 0);
	return -code;
}
