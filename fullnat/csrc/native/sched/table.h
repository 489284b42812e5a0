// SPDX-License-Identifier: Apache-2.0
/*
 * Base of the schedulers that look a hash up in a table of servers: dh, sh and mh.
 *
 * Twin of fullnat/core/sched/table.py, which has the rules.  The first pick after a change fills the
 * table in, here into memory that attach() has taken: how many places there are depends on the
 * number of servers alone, so a pick never allocates.  Each scheduler sets its three functions in
 * its init().
 */
#ifndef FULLNAT_NATIVE_SCHED_TABLE_H
#define FULLNAT_NATIVE_SCHED_TABLE_H

#include "../sched.h"
#include "cumulative.h"

#define FN_TABLE_FREE UINT32_MAX   /* a place no server has yet */

/* Picks table[hash % size] if that server is available. */
struct fn_table {
	struct fn_scheduler scheduler;
	uint32_t *places;              /* position of the server that has each */
	uint32_t size;                 /* 0: no server has a place */
	uint32_t *latest_weights;      /* by position: the latest that was not 0 */
	struct fn_cumulative available;
	bool is_stale;
	/* How many places a table of *count* servers has; *count* is not 0. */
	uint32_t (*size_for)(uint32_t count);
	/* Give *places* to the servers by latest_weights; false, with none given, when no server has a place. */
	bool (*build)(struct fn_table *table, uint32_t *places, uint32_t size);
	/* Return the hash to look up. */
	uint64_t (*hash_request)(const struct fn_table *table, const struct fn_request *request);
};

bool fn_table_attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count);
void fn_table_server_changed(struct fn_scheduler *scheduler, struct fn_server *server);
struct fn_server *fn_table_schedule(struct fn_scheduler *scheduler, const struct fn_request *request);
void fn_table_free(struct fn_scheduler *scheduler);

/* hash_request() of sh and mh: the client, with its port if FN_SCHEDULER_PORT is set. */
uint64_t fn_table_hash_client(const struct fn_table *table, const struct fn_request *request);

#endif
