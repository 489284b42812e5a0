// SPDX-License-Identifier: Apache-2.0
/*
 * What a server carries (overhead, as in IPVS), carries for its weight, and is due of a draw.
 *
 * Twin of fullnat/core/sched/load.py, which says why.  Counts have 32 bits, so an overhead is below
 * 2**41, what relative() returns below 2**73, and 32 more bits below that (lblcr) fit in 128 as well.
 */
#ifndef FULLNAT_NATIVE_SCHED_LOAD_H
#define FULLNAT_NATIVE_SCHED_LOAD_H

#include "../service.h"
#include "tournament.h"

/* Return what *server* carries: an active flow costs as much as 256 inactive ones. */
static inline uint64_t fn_load_overhead(const struct fn_server *server)
{
	return (uint64_t)server->active * 256 + server->inactive;
}

/* Return (cost << 32) / weight, which orders as the fraction does; *weight* is not 0. */
static inline fn_tournament_key fn_load_relative(uint64_t cost, uint32_t weight)
{
	/* In two steps of 64 bits: the remainder is below the weight, and the weight below 2**32. */
	uint64_t whole = cost / weight, part = (cost % weight << 32) / weight;

	return (fn_tournament_key)whole << 32 | part;
}

/* Return the weight of *server* in a draw: 0 while it may not be picked. */
static inline uint32_t fn_load_share(const struct fn_server *server)
{
	return fn_server_is_available(server) ? server->weight : 0;
}

#endif
