// SPDX-License-Identifier: Apache-2.0
/*
 * Flows and the table that finds and expires them.  Twin of fullnat/core/flow.py.
 *
 *     client                    director                     real server
 *    CIP:cport  ---inbound--->  VIP:vport | LIP:lport  --->  RIP:rport
 *               <--outbound---            |            <---
 *
 * Theory.  The table maps the key of each direction to the flow: open addressing with linear
 * probing over the entries of flow_record.h, in the memory it is given (flow_memory.h).
 *
 * Expiry is the calendar of the twin: a ring of lists, one a second.
 */
#ifndef FULLNAT_NATIVE_FLOW_H
#define FULLNAT_NATIVE_FLOW_H

#include "../core/rewrite.h"
#include "flow_memory.h"
#include "service.h"

struct fn_flow_table;

/* Return what turns packets of *direction* into those of the other side. */
struct fn_rewrite fn_flow_rewrite(const struct fn_flow *flow, enum fn_direction direction);

/* Whether its server counts it as active, as IPVS does: TCP, and established. */
static inline bool fn_flow_is_active(const struct fn_flow *flow)
{
	return flow->protocol == FN_TCP && flow->noted == FN_ESTABLISHED;
}

/* Return which of its service's timeouts it has. */
static inline enum fn_timeout fn_flow_timeout_kind(const struct fn_flow *flow)
{
	if (flow->protocol == FN_TCP)
		return fn_tcp_state_timeout((enum fn_tcp_state)flow->noted);
	return flow->noted == FN_REPLIED ? FN_TIMEOUT_UDP : FN_TIMEOUT_UDP_UNREPLIED;
}

/*
 * Return an empty table for at most *limit* flows, or NULL when memory cannot be had.  *memory* has
 * room for them and becomes the table's; not on NULL.
 */
struct fn_flow_table *fn_flow_table_create(uint32_t limit, const struct fn_hash_key *key, int64_t now,
					   struct fn_flow_memory *memory);
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

/* What a new flow is made of. */
struct fn_flow_opening {
	struct fn_server *server;
	const uint8_t *inbound_key;
	const uint8_t *outbound_key;
	uint32_t key_size;             /* of both */
	uint16_t lip;
	uint16_t mss;                  /* no SYN may offer more; for the kernel, which does not know path MTUs */
	int64_t timeout;               /* its first idle timeout */
};

/*
 * Add and return a flow, which holds its server; NULL when memory ran out (the caller has asked
 * is_full()).  Its keys are in no other flow.
 */
struct fn_flow *fn_flow_table_add(struct fn_flow_table *table, const struct fn_flow_opening *opening, int64_t now);
/* Take *flow* out of the table; it can still be read, and is freed by fn_flow_table_free(). */
void fn_flow_table_remove(struct fn_flow_table *table, struct fn_flow *flow);
/* Free a removed flow and release its server.  Where others read the memory, its place rests: see reclaim. */
void fn_flow_table_free(struct fn_flow_table *table, struct fn_flow *flow);

/*
 * Make the places of flows that were freed before this call usable again.  The table is locked for
 * the first and the last of these, not for the one between, which may wait for others to have read:
 *
 *     if (fn_flow_table_begin_reclaim(table)) {
 *             fn_flow_table_wait_for_readers(table);
 *             fn_flow_table_end_reclaim(table);
 *     }
 */
bool fn_flow_table_begin_reclaim(struct fn_flow_table *table);
void fn_flow_table_wait_for_readers(const struct fn_flow_table *table);
void fn_flow_table_end_reclaim(struct fn_flow_table *table);

/* Make room for as many flows as there are, ahead of need, where that takes long.  Needs no lock. */
void fn_flow_table_prepare(const struct fn_flow_table *table);

/*
 * Return a flow whose state the kernel changed since this last returned it, or NULL when there is
 * none behind *cursor*, which moves.  Start with 0.
 */
struct fn_flow *fn_flow_table_next_changed(struct fn_flow_table *table, uint64_t *cursor);

/*
 * Take over the flows that lie in the memory of a new table, left by another process of this
 * machine: of each *adopt* is asked its server, and may set what is the engine's own.  The table
 * holds that server; NULL has the flow removed.  Return how many there are.
 *
 * Whoever was killed while adding or removing one left entries too many or too few: they are mended.
 */
typedef struct fn_server *fn_flow_adopter(void *context, struct fn_flow *flow);
uint32_t fn_flow_table_adopt(struct fn_flow_table *table, fn_flow_adopter *adopt, void *context);

/*
 * Return the next flow of *server* at or behind *cursor*, which moves past it, or NULL at the end or
 * when *budget*, which counts down by every place looked at, is spent.  Start with 0.
 */
struct fn_flow *fn_flow_table_next_of(struct fn_flow_table *table, const struct fn_server *server, uint64_t *cursor,
				      uint64_t *budget);
/* Whether *cursor* is at the end. */
static inline bool fn_flow_table_is_end(uint64_t cursor)
{
	return cursor >> 32 >= 2;
}

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
