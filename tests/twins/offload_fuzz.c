// SPDX-License-Identifier: Apache-2.0
/*
 * Mutated messages through the queue, built with sanitizers: offload_fuzz COUNT.
 *
 * The parser gets each in a heap buffer of exactly its size and the headroom, so that one byte too
 * far is a report.  Then batches of them go through a pair of sockets in the place of the kernel's:
 * received, judged at random, and the verdicts read back and compared with what they must be.
 * Prints how many messages came to which end: a run that reaches none proves nothing.
 */
#include "../../fullnat/csrc/native/queue.c"

enum { FRONT = 512, BATCH_MAX = 64 << 10, LARGE = 1 << 20 };

static unsigned packets, refusals, malformed, others, rewritten, dropped, splits, unsent;

static uint32_t next_random(uint32_t below)
{
	static uint64_t state = 0x9E3779B97F4A7C15;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state >> 32) % below);
}

static void check(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

/* A message as the kernel builds it, and what is in it. */
struct sample {
	uint8_t data[FRONT + FN_QUEUE_PACKET_MAX + 3];
	uint32_t size;
	struct fn_packet packet;   /* data: NULL */
};

static void add_attribute(struct sample *sample, uint16_t type, const void *value, uint32_t size)
{
	struct nlattr header = attribute_header(type, size);

	memcpy(sample->data + sample->size, &header, sizeof(header));
	if (value)
		memcpy(sample->data + sample->size + sizeof(header), value, size);
	sample->size += align((uint32_t)sizeof(header) + size);
}

static void add_number(struct sample *sample, uint16_t type, uint32_t value)
{
	value = htonl(value);
	add_attribute(sample, type, &value, sizeof(value));
}

static void build_packet(struct sample *sample)
{
	struct nlmsghdr header = message_header(NFQNL_MSG_PACKET, 0, 0);
	struct fn_packet *packet = &sample->packet;
	struct nfqnl_msg_packet_hdr about = { .hook = (uint8_t)next_random(5) };
	uint32_t size = next_random(64) ? next_random(2000) : next_random(FN_QUEUE_PACKET_MAX + 1);

	*packet = (struct fn_packet){ .id = next_random(UINT32_MAX), .hook = about.hook, .size = size };
	about.packet_id = htonl(packet->id);
	sample->size = sizeof(header) + sizeof(struct nfgenmsg);
	memset(sample->data, 0, sample->size);
	add_attribute(sample, NFQA_PACKET_HDR, &about, sizeof(about));
	add_number(sample, NFQA_IFINDEX_INDEV, 7);
	if (next_random(2)) {
		packet->mark = next_random(UINT32_MAX);
		add_number(sample, NFQA_MARK, packet->mark);
	}
	if (next_random(2))
		add_attribute(sample, NFQA_HWADDR, NULL, 12);
	if (next_random(2)) {
		packet->offload = (uint8_t)next_random(8);
		add_number(sample, NFQA_SKB_INFO, packet->offload);
	}
	packet->truncated = !size || !next_random(8);
	if (packet->truncated)
		add_number(sample, NFQA_CAP_LEN, size + 1);
	add_attribute(sample, NFQA_PAYLOAD, NULL, size);
	header.nlmsg_len = sample->size;
	memcpy(sample->data, &header, sizeof(header));
}

static void build_error(struct sample *sample)
{
	struct nlmsgerr error = { .error = next_random(2) ? -ENOENT : 0 };
	struct nlmsghdr header = { .nlmsg_len = sizeof(header) + sizeof(error), .nlmsg_type = NLMSG_ERROR };

	memcpy(sample->data, &header, sizeof(header));
	memcpy(sample->data + sizeof(header), &error, sizeof(error));
	sample->size = header.nlmsg_len;
}

/* Do one thing to *sample*; the headers are where it matters. */
static void mutate(struct sample *sample)
{
	uint32_t at = next_random(sample->size < 100 ? sample->size : 100);
	uint16_t length = (uint16_t)next_random(next_random(2) ? 20 : 65536);

	switch (next_random(5)) {
	case 0:
		sample->data[at] ^= (uint8_t)(1U << next_random(8));
		break;
	case 1:
		sample->data[at] = (uint8_t)next_random(256);
		break;
	case 2:
		sample->size = 1 + next_random(sample->size);
		break;
	case 3:
		memmove(sample->data + at, sample->data + at + 1, sample->size - at - 1);
		sample->size -= sample->size > 1;
		break;
	default:   /* the length of what may be an attribute */
		if ((at & ~3U) + sizeof(length) <= sample->size)
			memcpy(sample->data + (at & ~3U), &length, sizeof(length));
	}
}

static bool is_same(const struct fn_packet *one, const struct fn_packet *other)
{
	return one->size == other->size && one->id == other->id && one->mark == other->mark &&
	       one->hook == other->hook && one->offload == other->offload &&
	       one->truncated == other->truncated;
}

static void parse_exactly(const struct sample *sample, bool is_mutated)
{
	uint8_t *block = malloc(HEADROOM + sample->size), *message = block + HEADROOM;
	struct fn_packet packet;

	check(block, "memory");
	memcpy(message, sample->data, sample->size);
	switch (fn_queue_parse(message, sample->size, &packet)) {
	case FN_QUEUE_PACKET:
		check(packet.data >= message && packet.size <= message + sample->size - packet.data, "inside");
		check(packet.size || packet.truncated, "empty is truncated");
		check(is_mutated || is_same(&packet, &sample->packet), "as built");
		memset(packet.data - FN_QUEUE_VERDICT, 0, FN_QUEUE_VERDICT);
		packets++;
		break;
	case FN_QUEUE_REFUSAL:
		refusals++;
		break;
	case FN_QUEUE_MALFORMED:
		malformed++;
		break;
	case FN_QUEUE_OTHER:
		others++;
	}
	free(block);
}

/* The queue and what plays the kernel for it. */
struct rig {
	struct fn_queue queue;
	int kernel;
};

static void open_rig(struct rig *rig)
{
	int ends[2], size = LARGE;

	check(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), "a pair of sockets");
	memset(rig, 0, sizeof(*rig));
	rig->queue.fd = ends[0];
	rig->queue.number = 0x1234;
	rig->queue.buffer = allocate_buffer();
	rig->kernel = ends[1];
	for (int end = 0; end < 2; end++)
		setsockopt(ends[end], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/* What a verdict must be. */
struct expected {
	uint32_t id, verdict, mark, size;
	const uint8_t *payload;
};

static struct expected judge(struct fn_queue *queue, struct fn_packet *packet)
{
	struct expected expected = { packet->id, NF_ACCEPT, next_random(UINT32_MAX), 0, packet->data };

	switch (next_random(5)) {
	case 0:
		fn_queue_accept(queue, packet, expected.mark, false);
		return expected;
	case 1:
		fn_queue_repeat(queue, packet, expected.mark);
		expected.verdict = NF_REPEAT;
		break;
	case 2:
		fn_queue_drop(queue, packet);
		expected.verdict = NF_DROP;
		expected.mark = packet->mark;
		return expected;
	case 3:
		fn_queue_pass_on(queue, packet, 0x4321);
		expected.verdict = 0x43210000 | NF_QUEUE;
		expected.mark = packet->mark;
		return expected;
	default:
		fn_queue_accept(queue, packet, expected.mark, true);
	}
	if (packet->truncated) {
		expected.verdict = NF_DROP;
		expected.mark = packet->mark;
		dropped++;
		return expected;
	}
	expected.size = packet->size;
	rewritten++;
	return expected;
}

/* Compare one verdict at *at* with what was expected; return where the next one begins. */
static uint32_t compare(const uint8_t *at, const struct expected *expected)
{
	struct verdict verdict;

	memcpy(&verdict, at, BARE_VERDICT);
	check(verdict.message.nlmsg_type == (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT), "its type");
	check(verdict.message.nlmsg_flags == NLM_F_REQUEST && verdict.family.res_id == htons(0x1234), "its queue");
	check(ntohl(verdict.verdict.id) == expected->id, "its packet");
	check(ntohl(verdict.mark) == expected->mark, "its mark");
	if (ntohl(verdict.verdict.verdict) == NF_DROP && expected->verdict != NF_DROP) {
		unsent++;
		check(verdict.message.nlmsg_len == BARE_VERDICT, "what could not be sent has no payload");
		return BARE_VERDICT;
	}
	check(ntohl(verdict.verdict.verdict) == expected->verdict, "its verdict");
	if (!expected->size) {
		check(verdict.message.nlmsg_len == BARE_VERDICT, "no payload");
		return BARE_VERDICT;
	}
	memcpy(&verdict, at, sizeof(verdict));
	check(verdict.message.nlmsg_len == sizeof(verdict) + expected->size, "its length");
	check(verdict.payload_attribute.nla_type == NFQA_PAYLOAD &&
	      verdict.payload_attribute.nla_len == sizeof(struct nlattr) + expected->size, "its payload");
	check(!memcmp(at + sizeof(verdict), expected->payload, expected->size), "the packet");
	return align(verdict.message.nlmsg_len);
}

static void compare_all(struct rig *rig, const struct expected *expected, int count)
{
	static uint8_t sent[LARGE];
	int seen = 0;

	for (unsigned datagrams = 0; seen < count; datagrams++) {
		ssize_t size = recv(rig->kernel, sent, sizeof(sent), 0);

		check(size > 0, "a verdict for each packet");
		for (uint32_t at = 0; at < (size_t)size; seen++) {
			check(seen < count, "one verdict for each packet");
			at += compare(sent + at, &expected[seen]);
		}
		splits += datagrams > 0;
	}
	check(recv(rig->kernel, sent, sizeof(sent), 0) < 0, "nothing more");
}

/* Send mutated and sound messages as one batch, judge what comes of them, compare the verdicts. */
static void run_batch(struct rig *rig, struct sample *sample)
{
	struct expected expected[FN_QUEUE_BATCH];
	bool is_scarce = !next_random(8);
	int small = 4608, large = LARGE, count;

	/* No more than fits into a socket buffer of the size that any user may have. */
	for (uint32_t left = 1 + next_random(24), size = 0; left && size < BATCH_MAX; left--) {
		build_packet(sample);
		if (!next_random(3))
			mutate(sample);
		check(send(rig->kernel, sample->data, sample->size, 0) >= 0, "a message is sent");
		size += sample->size;
	}
	rig->queue.send_max = is_scarce ? LARGE : 256 + next_random(FN_QUEUE_SEND_MAX / 8);
	count = fn_queue_receive(&rig->queue, false);
	for (int at = 0; at < count; at++)
		expected[at] = judge(&rig->queue, &rig->queue.packets[at]);
	if (is_scarce)
		setsockopt(rig->queue.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	fn_queue_flush(&rig->queue);
	if (is_scarce)
		setsockopt(rig->queue.fd, SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
	compare_all(rig, expected, count);
}

static void run_late_verdict(struct rig *rig)
{
	uint8_t payload[] = { 1, 2, 3, 4, 5 };
	struct expected with = { 77, NF_REPEAT, 9, sizeof(payload), payload };
	struct expected without = { 78, NF_ACCEPT, 0, 0, NULL };

	check(!fn_queue_verdict(&rig->queue, 77, NF_REPEAT, 9, payload, sizeof(payload)), "sent");
	compare_all(rig, &with, 1);
	check(!fn_queue_verdict(&rig->queue, 78, NF_ACCEPT, 0, NULL, 0), "sent");
	compare_all(rig, &without, 1);
}

static void check_counters(const struct rig *rig)
{
	struct fn_queue_statistics statistics;

	fn_queue_statistics(&rig->queue, &statistics);
	check(statistics.packets && statistics.batches && statistics.bytes && statistics.truncated, "counted");
	check(statistics.malformed && statistics.send_errors >= unsent && unsent, "errors are counted");
}

int main(int count, char **arguments)
{
	static struct sample sample;
	static struct rig rig;
	long inputs;

	if (count != 2)
		return 2;
	inputs = atol(arguments[1]);
	for (long left = inputs; left > 0; left--) {
		uint32_t times = next_random(4);

		if (next_random(8))
			build_packet(&sample);
		else
			build_error(&sample);
		for (uint32_t turn = 0; turn < times; turn++)
			mutate(&sample);
		parse_exactly(&sample, times);
	}
	open_rig(&rig);
	run_late_verdict(&rig);
	for (long left = inputs / 64; left > 0; left--)
		run_batch(&rig, &sample);
	check_counters(&rig);
	fn_queue_close(&rig.queue);
	close(rig.kernel);
	printf("%u %u %u %u %u %u %u %u\n", packets, refusals, malformed, others, rewritten, dropped, splits, unsent);
	return 0;
}
