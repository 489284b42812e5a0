// SPDX-License-Identifier: Apache-2.0
/* sh, source hashing: a client address always goes to the same server.  Twin of fullnat/core/sched/sh.py. */
#include "builtin.h"
#include "table.h"

enum { BUCKETS = 256 };

static uint32_t size_for(uint32_t count)
{
	(void)count;
	return BUCKETS;
}

/* Deal the buckets, each server's in a run as long as its weight. */
static bool build(struct fn_table *table, uint32_t *places, uint32_t size)
{
	uint32_t position = 0, left = table->latest_weights[0];

	for (uint32_t place = 0; place < size; place++) {
		places[place] = position;
		if (left > 1) {
			left--;
			continue;
		}
		position = (position + 1) % table->scheduler.count;
		left = table->latest_weights[position];
	}
	return true;
}

static void init(struct fn_scheduler *scheduler)
{
	struct fn_table *table = (struct fn_table *)scheduler;

	table->size_for = size_for;
	table->build = build;
	table->hash_request = fn_table_hash_client;
}

const struct fn_scheduler_class fn_scheduler_sh = {
	.name = "sh",
	.size = sizeof(struct fn_table),
	.init = init,
	.attach = fn_table_attach,
	.server_changed = fn_table_server_changed,
	.schedule = fn_table_schedule,
	.free = fn_table_free,
};
