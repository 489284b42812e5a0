// SPDX-License-Identifier: Apache-2.0
/*
 * Flow memory: where the flows of a table and its entries lie.
 *
 * Theory.  Everything has its full size from the start, or comes in chunks that never move, as
 * memory that is backed as it is used: nothing is ever rehashed, no packet waits for a table to grow.
 * Whether anybody else reads that memory, the kernel for one, the table need not know but for two
 * things: that states change behind its back, and that a place is free only after wait_for_readers().
 */
#ifndef FULLNAT_NATIVE_FLOW_MEMORY_H
#define FULLNAT_NATIVE_FLOW_MEMORY_H

#include "../core/flow_record.h"

/* The most flows a table may have. */
#define FN_FLOW_LIMIT_MAX (1U << 28)

struct fn_flow_memory {
	struct fn_flow_entry *entries;   /* all zero in a new one */
	uint32_t places;                 /* entries: a power of two */
	uint32_t chunk_limit[2];         /* chunks a family may have: IPv4, IPv6 */
	uint32_t chunks[2];              /* chunks there are from the start, with flows that can be adopted */
	uint64_t *changed[2];            /* a bit a flow whose state others changed; NULL: nobody does */

	/* Return chunk *number*, all its bytes zero when it is new; NULL when memory ran out. */
	void *(*get_chunk)(struct fn_flow_memory *memory, bool is_v6, uint32_t number);
	/* Make chunks below *number*, in advance, from any thread.  NULL: it is not worth it. */
	void (*prepare_chunks)(struct fn_flow_memory *memory, bool is_v6, uint32_t number);
	/* Return when nobody reads any more what could be read before.  NULL: nobody does. */
	void (*wait_for_readers)(struct fn_flow_memory *memory);
	void (*destroy)(struct fn_flow_memory *memory);
};

/* Return how many entries a table of *limit* flows needs: two a flow, and half of them stay empty. */
static inline uint32_t fn_flow_memory_places(uint32_t limit)
{
	uint32_t places = 4;

	while (places < 4 * limit)
		places *= 2;
	return places;
}

/*
 * Return how many chunks a family needs for *limit* flows: some more than that, for flows that were
 * removed and cannot be overwritten yet.
 */
static inline uint32_t fn_flow_memory_chunks(uint32_t limit)
{
	return limit / FN_FLOW_CHUNK + 2 + limit / FN_FLOW_CHUNK / 16;
}

static inline uint32_t fn_flow_memory_stride(bool is_v6)
{
	return is_v6 ? FN_FLOW_STRIDE6 : FN_FLOW_STRIDE4;
}

/* Return memory of this process alone for *limit* flows, or NULL. */
struct fn_flow_memory *fn_flow_memory_create(uint32_t limit);

#endif
