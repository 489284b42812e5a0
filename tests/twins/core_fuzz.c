// SPDX-License-Identifier: Apache-2.0
/*
 * Mutated packets through every function of the core that reads one, built with sanitizers.
 *
 *     core_fuzz SEEDS COUNT START
 *
 * SEEDS holds packets, each after its size in two bytes, network order.  Each input, and each
 * answer, lies in a heap buffer of exactly its size, so that one byte too far is a report.
 * First every seed cut at every length, then COUNT mutated ones.  Prints how many reached which
 * part: a run that reaches none proves nothing.
 */
#include "core_library.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS_MAX = 256, PACKET_MAX = 4096, HEADERS = 80 };

struct seed {
	uint8_t data[PACKET_MAX];
	uint32_t size;
};

static struct seed seeds[SEEDS_MAX];
static uint32_t seed_count;
static unsigned keys, fragments, relayed, answered;

static uint64_t state = 0x9E3779B97F4A7C15;   /* of the random numbers; mixed with START */

static uint32_t next_random(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state >> 32) % below);
}

static void *allocate(uint32_t size)
{
	void *memory = malloc(size);

	if (!memory)
		abort();
	return memory;
}

static void read_seeds(const char *path)
{
	uint8_t size[2];
	FILE *file = fopen(path, "rb");

	if (!file)
		exit(2);
	while (seed_count < SEEDS_MAX && fread(size, 1, 2, file) == 2) {
		struct seed *seed = &seeds[seed_count++];

		seed->size = fn_bytes_load16(size);
		if (seed->size > PACKET_MAX || fread(seed->data, 1, seed->size, file) != seed->size)
			exit(2);
	}
	fclose(file);
	if (!seed_count)
		exit(2);
}

/* Do one thing to *packet*; at most PACKET_MAX bytes remain. */
static void mutate_once(struct seed *packet)
{
	const struct seed *other = &seeds[next_random(seed_count)];
	uint32_t at = next_random(packet->size < HEADERS ? packet->size : HEADERS);

	switch (next_random(5)) {
	case 0:
		packet->data[at] ^= (uint8_t)(1U << next_random(8));
		break;
	case 1:
		packet->data[at] = (uint8_t)next_random(256);
		break;
	case 2:
		packet->size = next_random(packet->size);
		break;
	case 3:
		memmove(packet->data + at, packet->data + at + 1, packet->size - at - 1);
		packet->size--;
		break;
	default:
		if (other->size > at) {
			memcpy(packet->data + at, other->data + at, other->size - at);
			packet->size = other->size;
		}
	}
}

/* Make lengths and the ICMP checksum right, so that the packet is looked at further. */
static void settle(struct seed *packet)
{
	struct fn_view view;

	if (packet->size >= 20 && packet->data[0] >> 4 == 4)
		fn_bytes_store16(packet->data + 2, (uint16_t)packet->size);
	else if (packet->size >= 40 && packet->data[0] >> 4 == 6)
		fn_bytes_store16(packet->data + 4, (uint16_t)(packet->size - 40));
	core_parse(packet->data, packet->size, &view);
	if (view.malformed == FN_REASON_NONE && !view.fragment.datagram_size && view.length >= view.l4 + 4 &&
	    core_is_error(&view, packet->data))
		fn_icmp_set_checksum(packet->data, view.family, view.l4, view.length);
}

static void answer(const struct fn_view *view, const uint8_t *data)
{
	uint8_t *error = allocate(view->family == 4 ? FN_MAX_ERROR_V4 : FN_MAX_ERROR_V6);

	core_build_unreachable(view, data, 3, 3, error);
	free(error);
	if (view->key_size && view->protocol == FN_TCP) {
		uint8_t *reset = allocate(view->family == 4 ? 40 : 60);

		core_build_reset(view, data, reset);
		free(reset);
	}
	if (!view->fragment.datagram_size && core_is_echo_request(view, data)) {
		uint8_t *reply = allocate(view->length);

		core_build_echo_reply(view, data, reply);
		free(reply);
		answered++;
	}
}

static void rewrite(const struct fn_view *view, uint8_t *data, const uint8_t *new_key)
{
	if (view->key_size) {
		core_apply(view->key, new_key, view->key_size, view, data);
		if (view->protocol == FN_TCP)
			core_clamp_mss(view, data, next_random(1500));
		keys++;
	} else if (view->fragment.datagram_size) {
		core_apply_addresses(new_key, new_key, view->family == 4 ? 12 : 36, view, data);
	}
	if (view->fragment.datagram_size || view->divisible) {
		core_identify(view, data, next_random(UINT32_MAX));
		fragments++;
	}
}

static void relay(const struct fn_view *view, uint8_t *data, const uint8_t *new_key)
{
	struct fn_quoted quoted;

	if (view->fragment.datagram_size || core_is_unwanted(view, data) || !core_is_error(view, data))
		return;
	if (core_parse_error(view, data, &quoted) == FN_REASON_NONE) {
		core_relay_error(view, &quoted, new_key, data);
		relayed++;
	}
}

static void run(const uint8_t *packet, uint32_t size)
{
	uint8_t *data = allocate(size), new_key[FN_KEY_MAX];
	struct fn_view view;

	memcpy(data, packet, size);
	for (int at = 0; at < FN_KEY_MAX; at++)
		new_key[at] = (uint8_t)next_random(256);
	core_parse(data, size, &view);
	if (view.malformed == FN_REASON_NONE) {
		answer(&view, data);
		relay(&view, data, new_key);
		rewrite(&view, data, new_key);
	}
	free(data);
}

/* Run every seed cut at every length, as it is and with its lengths settled. */
static void run_cut(void)
{
	static struct seed packet;

	for (uint32_t at = 0; at < seed_count; at++) {
		for (uint32_t size = 0; size <= seeds[at].size; size++) {
			packet = seeds[at];
			packet.size = size;
			run(packet.data, size);
			settle(&packet);
			run(packet.data, size);
		}
	}
}

int main(int count, char **arguments)
{
	static struct seed packet;

	if (count != 4)
		return 2;
	state ^= (uint64_t)atol(arguments[3]) << 20;
	read_seeds(arguments[1]);
	run_cut();
	for (long left = atol(arguments[2]); left > 0; left--) {
		packet = seeds[next_random(seed_count)];
		for (uint32_t times = next_random(4); times > 0 && packet.size; times--)
			mutate_once(&packet);
		if (next_random(4))
			settle(&packet);
		run(packet.data, packet.size);
	}
	printf("%u %u %u %u\n", keys, fragments, relayed, answered);
	return 0;
}
