// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Flow records: a tracked connection as it lies in memory, and the entries it is found by.
 *
 *     entries   ... [tag, reference] [tag, reference] ...        two a flow, where the tag says
 *                         |
 *     chunks    IPv4 [flow flow flow ...] [flow ...]    IPv6 [flow ...]
 *
 * An entry is eight bytes: half of the hash and a reference, so that a lookup is one cache line of
 * the table and the flow's own.  A reference says in 32 bits which flow is meant, and in an entry
 * also which of its keys:
 *
 *     31 30  29   28 ... 0
 *     kind   IPv6   index in the chunks of the family
 *
 * Where the kernel carries packets (csrc/bpf/), engine and kernel have this memory in common, and
 * nothing that both could lock:
 *   1. A flow is whole before an entry leads to it, and out of reach before its place is used again:
 *      nobody reads half of one and half of another.
 *   2. Counters are added to and states exchanged in one step, from either side.
 *   3. All else is written by the engine, and only while no entry leads to the flow; but for the
 *      calendar, which the kernel does not read.
 *   4. The kernel may miss a flow whose entry is being moved.  Its packet goes up to the engine,
 *      as all do that the kernel does not carry.
 */
#ifndef FULLNAT_CORE_FLOW_RECORD_H
#define FULLNAT_CORE_FLOW_RECORD_H

#include "hash.h"
#include "packet.h"
#include "tcp.h"

enum fn_direction { FN_INBOUND, FN_OUTBOUND };

struct fn_server;

/* One tracked connection of any protocol: both directions, its state and its idle timeout. */
struct fn_flow {
	uint64_t packets[2];               /* by enum fn_direction */
	uint64_t bytes[2];
	int64_t last_seen;                 /* nanoseconds, as all times */
	int64_t created;
	int64_t timeout;
	struct fn_server *server;          /* held; of the engine alone */

	uint32_t state;                    /* enum fn_tcp_state or fn_udp_state */
	uint32_t slot;                     /* of the calendar, and the neighbours in it: references */
	uint32_t next;
	uint32_t previous;
	uint32_t reference;                /* its own; 0: the place never had a flow */
	uint16_t counter;                  /* of the server, in the kernel; 0: the kernel must not carry it */
	uint16_t lip;                      /* which of the pool's addresses */
	uint16_t ip_delta[2];              /* of struct fn_rewrite, by direction */
	uint16_t transport_delta[2];
	uint16_t mss;                      /* no SYN may offer more */
	uint8_t noted;                     /* the state that counts and timeout stand for */
	uint8_t protocol;
	uint8_t key_size;                  /* 12 or 36 */
	bool one_packet;
	uint8_t held_mask;                 /* of its persistence template; of the engine alone, which adopts it anew */
	uint8_t keys[] __attribute__((aligned(4)));   /* inbound, outbound */
};

struct fn_flow_entry {
	uint32_t tag;         /* half of the hash; its low bits say where the entry would like to be */
	uint32_t reference;
} __attribute__((aligned(8)));

/* What an entry stands for; 0 is an empty one. */
enum fn_flow_kind { FN_FLOW_INBOUND = 1, FN_FLOW_OUTBOUND, FN_FLOW_ONE_PACKET };

enum {
	FN_FLOW_KIND_SHIFT = 30,
	FN_FLOW_IS_V6 = 1 << 29,
	FN_FLOW_INDEX_MASK = FN_FLOW_IS_V6 - 1,
	FN_FLOW_CHUNK_BITS = 12,
	FN_FLOW_CHUNK = 1 << FN_FLOW_CHUNK_BITS,   /* flows */
	FN_FLOW_STRIDE4 = 128,                     /* bytes from one flow to the next: whole cache lines */
	FN_FLOW_STRIDE6 = 192,
	FN_FLOW_KEY4 = 12,
	FN_FLOW_KEY6 = FN_KEY_MAX,
};

#define FN_FLOW_NO_SLOT UINT32_MAX         /* of a flow that is not in the table */
#define FN_FLOW_NO_TEMPLATE UINT8_MAX      /* no prefix is that long */

_Static_assert(sizeof(struct fn_flow) + 2 * FN_FLOW_KEY4 <= FN_FLOW_STRIDE4, "an IPv4 flow is two cache lines");
_Static_assert(sizeof(struct fn_flow) + 2 * FN_FLOW_KEY6 <= FN_FLOW_STRIDE6, "an IPv6 flow is three");

/* Return the hash packets of *protocol* with *key* are found by. */
static inline uint64_t fn_flow_hash(const struct fn_hash_key *hash_key, uint8_t protocol, const uint8_t *key,
				    uint32_t key_size)
{
	return fn_hash(hash_key, key, key_size, protocol);
}

static inline uint32_t fn_flow_tag(uint64_t hash)
{
	return (uint32_t)hash;
}

/* Return the key of packets of *direction*. */
static inline const uint8_t *fn_flow_key(const struct fn_flow *flow, enum fn_direction direction)
{
	return flow->keys + (direction == FN_INBOUND ? 0 : flow->key_size);
}

/* What both sides change. */

/* Return the state, which the other side may be about to change. */
static inline uint32_t fn_flow_read_state(const struct fn_flow *flow)
{
	return *(const volatile uint32_t *)&flow->state;
}

/*
 * Take the TCP state on by a segment with *flags* of *direction*; return whether that changed it.
 *
 * Who is overtaken by the other side sees what that made of it; after a few times it gives up, and
 * the segment counts for nothing, as if it had been lost behind us.
 */
static inline bool fn_flow_follow_tcp(struct fn_flow *flow, enum fn_direction direction, uint8_t flags)
{
	uint32_t state = fn_flow_read_state(flow), next, seen;

	for (int attempt = 0; attempt < 4; attempt++) {
		next = fn_tcp_next_state((enum fn_tcp_state)state, flags, direction == FN_INBOUND);
		if (next == state)
			return false;
		seen = __sync_val_compare_and_swap(&flow->state, state, next);
		if (seen == state)
			return true;
		state = seen;
	}
	return false;
}

/* Note that the server answered a datagram; return whether it was the first time. */
static inline bool fn_flow_follow_udp(struct fn_flow *flow, enum fn_direction direction)
{
	if (direction != FN_OUTBOUND || fn_flow_read_state(flow) != FN_UNREPLIED)
		return false;
	return __sync_val_compare_and_swap(&flow->state, FN_UNREPLIED, FN_REPLIED) == FN_UNREPLIED;
}

/* Count *packets*, which have *bytes* together. */
static inline void fn_flow_count(struct fn_flow *flow, enum fn_direction direction, uint64_t packets, uint64_t bytes)
{
	__sync_fetch_and_add(&flow->packets[direction], packets);
	__sync_fetch_and_add(&flow->bytes[direction], bytes);
}

/* Whether a SYN finds the flow as good as gone, and may open it anew. */
static inline bool fn_flow_is_reopened(const struct fn_flow *flow, enum fn_direction direction, uint8_t flags)
{
	return direction == FN_INBOUND && fn_tcp_is_opening_syn(flags) &&
	       fn_tcp_is_reopenable((enum fn_tcp_state)fn_flow_read_state(flow));
}

#endif
