// SPDX-License-Identifier: Apache-2.0
/*
 * A balancer without a director: full NAT between one client and one server, to try queue.c and
 * offload.h on real packets.
 *
 *     static_nat QUEUE MARK forwarded|local CIP VIP LIP RIP [CIP VIP LIP RIP]
 *
 *     inbound   CIP:port -> VIP:port   becomes   LIP:port -> RIP:port
 *     outbound  RIP:port -> LIP:port   becomes   VIP:port -> CIP:port
 *
 * The ports stay, so it needs no flows.  Four addresses a family.  With `local` RIP is this host's.
 * QUEUE + 1 is for what has to be segmented first.  Prints `ready` when both are bound, and on SIGTERM
 * what it carried by the state in which it came, `tcp OFFLOAD COUNT` and `udp OFFLOAD COUNT`, then
 * `passed on COUNT` and `errors COUNT`.
 */
#include "../../../fullnat/csrc/core/rewrite.h"
#include "../../../fullnat/csrc/native/offload.h"
#include "../../../fullnat/csrc/native/queue.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CIP, VIP, LIP, RIP, ADDRESSES };

/* The addresses of one family. */
struct path {
	uint8_t address[ADDRESSES][16];
	uint32_t size;   /* of each; 0: the family is not used */
};

static struct path paths[2];   /* IPv4, IPv6 */
static uint64_t seen[2][4];    /* TCP, UDP; by offload */
static uint64_t passed_on;
static uint32_t mark;
static bool local;
static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

static void read_path(char **texts)
{
	bool is_v6 = strchr(texts[0], ':');
	struct path *path = &paths[is_v6];

	for (int at = 0; at < ADDRESSES; at++) {
		if (inet_pton(is_v6 ? AF_INET6 : AF_INET, texts[at], path->address[at]) != 1) {
			fprintf(stderr, "not an address: %s\n", texts[at]);
			exit(2);
		}
	}
	path->size = is_v6 ? 16 : 4;
}

/* If *key* goes from *from* to *to*, make *new_key* go from *new_from* to *new_to*. */
static bool translate(const struct path *path, const uint8_t *key, uint8_t *new_key, int from, int to,
		      int new_from, int new_to)
{
	if (memcmp(key, path->address[from], path->size) ||
	    memcmp(key + path->size, path->address[to], path->size))
		return false;
	memcpy(new_key, path->address[new_from], path->size);
	memcpy(new_key + path->size, path->address[new_to], path->size);
	return true;
}

/* Fill *new_key* if the packet of *view* is of the path. */
static bool decide(const struct fn_view *view, uint8_t *new_key)
{
	const struct path *path = &paths[view->family == 6];

	if (view->malformed != FN_REASON_NONE || !view->key_size || !path->size)
		return false;
	memcpy(new_key, view->key, view->key_size);
	return translate(path, view->key, new_key, CIP, VIP, LIP, RIP) ||
	       translate(path, view->key, new_key, RIP, LIP, VIP, CIP);
}

/* Rewrite *packet* if it is of the path. */
static void carry(struct fn_queue *queue, struct fn_packet *packet)
{
	bool is_delivered = local && packet->hook == NF_INET_PRE_ROUTING;
	struct fn_rewrite rewrite;
	struct fn_view view;
	uint8_t new_key[FN_KEY_MAX];

	fn_packet_parse(&view, packet->data, packet->size);
	if ((packet->truncated && packet->offload & FN_OFFLOAD_GSO) ||
	    fn_offload_needs_segments(&view, packet->offload, is_delivered)) {
		fn_queue_pass_on(queue, packet, (uint16_t)(queue->number + 1));
		passed_on++;
		return;
	}
	if (!decide(&view, new_key)) {
		fn_queue_accept(queue, packet, packet->mark, false);
		return;
	}
	fn_rewrite_init(&rewrite, view.key, new_key, view.key_size);
	fn_rewrite_apply(&rewrite, &view, packet->data);
	fn_offload_complete(&view, packet->offload, is_delivered, packet->data);
	fn_queue_accept(queue, packet, packet->mark | mark, true);
	seen[view.protocol == FN_UDP][packet->offload & 3]++;
}

/* Serve *queue* until it is empty. */
static void serve(struct fn_queue *queue)
{
	int count;

	while ((count = fn_queue_receive(queue, false))) {
		for (int at = 0; at < count; at++)
			carry(queue, &queue->packets[at]);
		fn_queue_flush(queue);
	}
}

static void run(struct fn_queue *queues)
{
	struct pollfd descriptors[2] = {
		{ .fd = queues[0].fd, .events = POLLIN },
		{ .fd = queues[1].fd, .events = POLLIN },
	};

	while (!stopped) {
		poll(descriptors, 2, 100);
		serve(&queues[0]);
		serve(&queues[1]);
	}
}

static unsigned long long count_errors(const struct fn_queue *queue)
{
	struct fn_queue_statistics statistics;

	fn_queue_statistics(queue, &statistics);
	return statistics.malformed + statistics.errors + statistics.receive_errors + statistics.send_errors;
}

static void report(const struct fn_queue *queues)
{
	for (int protocol = 0; protocol < 2; protocol++)
		for (int offload = 0; offload < 4; offload++)
			printf("%s %d %llu\n", protocol ? "udp" : "tcp", offload,
			       (unsigned long long)seen[protocol][offload]);
	printf("passed on %llu\n", (unsigned long long)passed_on);
	printf("errors %llu\n", count_errors(&queues[0]) + count_errors(&queues[1]));
}

static void open_queue(struct fn_queue *queue, int number, bool segmented)
{
	struct fn_queue_limits limits = { .segmented = segmented };
	struct fn_queue_error error;

	if (!fn_queue_open(queue, (uint16_t)number, &limits, &error))
		return;
	fprintf(stderr, "%s\n", error.text);
	exit(1);
}

int main(int count, char **arguments)
{
	static struct fn_queue queues[2];
	struct sigaction action = { .sa_handler = stop };

	if (count != 8 && count != 12)
		return 2;
	mark = (uint32_t)strtoul(arguments[2], NULL, 0);
	local = !strcmp(arguments[3], "local");
	for (int at = 4; at < count; at += ADDRESSES)
		read_path(arguments + at);
	open_queue(&queues[0], atoi(arguments[1]), false);
	open_queue(&queues[1], atoi(arguments[1]) + 1, true);
	sigaction(SIGTERM, &action, NULL);
	printf("ready\n");
	fflush(stdout);
	run(queues);
	report(queues);
	fn_queue_close(&queues[0]);
	fn_queue_close(&queues[1]);
	return 0;
}
