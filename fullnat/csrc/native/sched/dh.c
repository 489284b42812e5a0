// SPDX-License-Identifier: Apache-2.0
/*
 * dh, destination hashing: by the virtual address the client asked for; weights do not matter.
 *
 * Twin of fullnat/core/sched/dh.py.
 */
#include "builtin.h"
#include "hashing.h"
#include "table.h"

enum { BUCKETS = 256 };

static uint32_t size_for(uint32_t count)
{
	(void)count;
	return BUCKETS;
}

/* Deal the buckets, one server after the other. */
static bool build(struct fn_table *table, uint32_t *places, uint32_t size)
{
	for (uint32_t place = 0; place < size; place++)
		places[place] = place % table->scheduler.count;
	return true;
}

/* Return the hash of the virtual address. */
static uint64_t hash_request(const struct fn_table *table, const struct fn_request *request)
{
	(void)table;
	return fn_hashing_hash_endpoint(&request->virtual.address, 0, 0);
}

static void init(struct fn_scheduler *scheduler)
{
	struct fn_table *table = (struct fn_table *)scheduler;

	scheduler->flags = 0;   /* they are those of sh and mh */
	table->size_for = size_for;
	table->build = build;
	table->hash_request = hash_request;
}

const struct fn_scheduler_class fn_scheduler_dh = {
	.name = "dh",
	.size = sizeof(struct fn_table),
	.init = init,
	.attach = fn_table_attach,
	.server_changed = fn_table_server_changed,
	.schedule = fn_table_schedule,
	.free = fn_table_free,
};
