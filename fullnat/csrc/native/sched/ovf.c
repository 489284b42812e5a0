// SPDX-License-Identifier: Apache-2.0
/* ovf, weighted overflow: fill the heaviest server, then the next.  Twin of fullnat/core/sched/ovf.py. */
#include "builtin.h"
#include "ranked.h"

/* Return the weight, heaviest first, or absent when *server* is full. */
static fn_tournament_key rank(const struct fn_server *server)
{
	return server->active > server->weight ? FN_TOURNAMENT_ABSENT : -(fn_tournament_key)server->weight;
}

static void init(struct fn_scheduler *scheduler)
{
	((struct fn_ranked *)scheduler)->rank = rank;
}

const struct fn_scheduler_class fn_scheduler_ovf = {
	.name = "ovf",
	.size = sizeof(struct fn_ranked),
	.init = init,
	.attach = fn_ranked_attach,
	.server_changed = fn_ranked_server_changed,
	.flows_changed = fn_ranked_server_changed,
	.schedule = fn_ranked_schedule,
	.free = fn_ranked_free,
};
