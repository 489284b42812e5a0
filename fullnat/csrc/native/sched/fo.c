// SPDX-License-Identifier: Apache-2.0
/* fo, weighted failover: everything to the heaviest available server.  Twin of fullnat/core/sched/fo.py. */
#include "builtin.h"
#include "ranked.h"

/* Return the weight, heaviest first. */
static fn_tournament_key rank(const struct fn_server *server)
{
	return -(fn_tournament_key)server->weight;
}

static void init(struct fn_scheduler *scheduler)
{
	((struct fn_ranked *)scheduler)->rank = rank;
}

const struct fn_scheduler_class fn_scheduler_fo = {
	.name = "fo",
	.size = sizeof(struct fn_ranked),
	.init = init,
	.attach = fn_ranked_attach,
	.server_changed = fn_ranked_server_changed,
	.flows_changed = fn_ranked_server_changed,
	.schedule = fn_ranked_schedule,
	.free = fn_ranked_free,
};
