// SPDX-License-Identifier: Apache-2.0
/*
 * Flows and the table that finds and expires them.  Twin of fullnat/core/flow.py.
 *
 *     client                    director                     real server
 *    CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
 *               <--outbound---            |            <---
 *
 * Theory.  The table maps the key of each direction to the flow: open addressing with linear
 * probing over entries of eight bytes (half the hash and a reference), so that a lookup is one
 * cache line of the table and the flow's own.  It has its full size from the start, as virtual memory
 * that the kernel backs page by page as it is used: nothing is ever rehashed, no packet waits for
 * a table to grow.  Flows live in chunks that never move, one kind a family.
 *
 * Expiry is the calendar of the twin: a ring of lists, one a second.
 */
#ifndef FULLNAT_NATIVE_FLOW_H
#define FULLNAT_NATIVE_FLOW_H

#include "../core/packet.h"
#include "../core/rewrite.h"
#include "hash.h"
#include "service.h"

/* One tracked connection of any protocol: both directions, its state and its idle timeout. */
struct fn_flow {
	struct fn_server *server;          /* held */
	int64_t created;                   /* nanoseconds, as all times */
	int64_t last_seen;
	int64_t timeout;
	uint64_t packets[2];               /* by enum fn_direction */
	uint64_t bytes[2];
	uint32_t slot;                     /* of the calendar, and the neighbours in it: references */
	uint32_t next;
	uint32_t previous;
	uint32_t reference;                /* its own */
	uint16_t lip;                      /* which of the pool's addresses */
	uint16_t ip_delta[2];              /* of struct fn_rewrite, by direction */
	uint16_t transport_delta[2];
	uint8_t protocol;
	uint8_t state;                     /* enum fn_tcp_state or fn_udp_state */
	uint8_t key_size;                  /* 12 or 36 */
	bool one_packet;
	uint8_t keys[];                    /* inbound, outbound */
};

struct fn_flow_table;

/* Return the key of packets of *direction*. */
static inline const uint8_t *fn_flow_key(const struct fn_flow *flow, enum fn_direction direction)
{
	return flow->keys + (direction == FN_INBOUND ? 0 : flow->key_size);
}

/* Return what turns packets of *direction* into those of the other side. */
struct fn_rewrite fn_flow_rewrite(const struct fn_flow *flow, enum fn_direction direction);

/* Whether IPVS would count it as active: TCP, and established. */
static inline bool fn_flow_is_active(const struct fn_flow *flow)
{
	return flow->protocol == FN_TCP && flow->state == FN_ESTABLISHED;
}

/* Return an empty table for at most *limit* flows, or NULL when memory cannot be had. */
struct fn_flow_table *fn_flow_table_create(uint32_t limit, const struct fn_hash_key *key, int64_t now);
void fn_flow_table_destroy(struct fn_flow_table *table);   /* releases the servers of its flows */

uint32_t fn_flow_table_count(const struct fn_flow_table *table);
uint32_t fn_flow_table_limit(const struct fn_flow_table *table);
/* Whether no flow can be added. */
bool fn_flow_table_is_full(const struct fn_flow_table *table);

/* Return the hash packets of *protocol* with *key* are found by. */
uint64_t fn_flow_table_hash(const struct fn_flow_table *table, uint8_t protocol, const uint8_t *key,
			    uint32_t key_size);
/* Bring what find() will read into the cache: the entry, then, called again later, the flow. */
void fn_flow_table_prefetch(const struct fn_flow_table *table, uint64_t hash);
void fn_flow_table_prefetch_flow(const struct fn_flow_table *table, uint64_t hash);

/* Return the flow that packets of *protocol* with *key* belong to and set *direction*, or NULL. */
struct fn_flow *fn_flow_table_find(struct fn_flow_table *table, uint64_t hash, uint8_t protocol,
				   const uint8_t *key, uint32_t key_size, enum fn_direction *direction);
/* Return the one-packet flow that takes the datagrams of *key* scheduled to *server*, or NULL. */
struct fn_flow *fn_flow_table_find_one_packet(struct fn_flow_table *table, const uint8_t *key, uint32_t key_size,
					      const struct fn_server *server);

/*
 * Add and return a flow to *server*, which it holds; NULL when memory ran out (the caller has asked
 * is_full()).  Its keys are in no other flow; *timeout* is its first idle timeout.
 */
struct fn_flow *fn_flow_table_add(struct fn_flow_table *table, struct fn_server *server, const uint8_t *inbound_key,
				  const uint8_t *outbound_key, uint32_t key_size, uint16_t lip, int64_t timeout,
				  int64_t now);
/* Take *flow* out of the table; it can still be read, and is freed by fn_flow_table_free(). */
void fn_flow_table_remove(struct fn_flow_table *table, struct fn_flow *flow);
/* Free a removed flow and release its server. */
void fn_flow_table_free(struct fn_flow_table *table, struct fn_flow *flow);

/* Give *flow* another idle timeout, counted from its last packet. */
void fn_flow_table_set_timeout(struct fn_flow_table *table, struct fn_flow *flow, int64_t timeout);

/*
 * Take out and return a flow that has been idle for its timeout, or NULL when there is none or
 * *budget*, which counts down by every flow looked at, is spent.  The caller frees it.
 */
struct fn_flow *fn_flow_table_expire(struct fn_flow_table *table, int64_t now, uint64_t *budget);

/*
 * Return the next flow at or behind *cursor*, which moves past it, or NULL at the end.  Start with 0.
 * A flow that lives throughout a walk is met once, whatever else opens and ends meanwhile.
 */
const struct fn_flow *fn_flow_table_walk(const struct fn_flow_table *table, uint64_t *cursor);

#endif
