// SPDX-License-Identifier: Apache-2.0
/*
 * sed, shortest expected delay: the server that would carry least with the new flow on it.
 *
 * Twin of fullnat/core/sched/sed.py.
 */
#include "builtin.h"
#include "load.h"
#include "ranked.h"

/* Return the delay a new flow would meet at *server*. */
static fn_tournament_key rank(const struct fn_server *server)
{
	return fn_load_relative((uint64_t)server->active + 1, server->weight);
}

static void init(struct fn_scheduler *scheduler)
{
	((struct fn_ranked *)scheduler)->rank = rank;
}

const struct fn_scheduler_class fn_scheduler_sed = {
	.name = "sed",
	.size = sizeof(struct fn_ranked),
	.init = init,
	.attach = fn_ranked_attach,
	.server_changed = fn_ranked_server_changed,
	.flows_changed = fn_ranked_server_changed,
	.schedule = fn_ranked_schedule,
	.free = fn_ranked_free,
};
