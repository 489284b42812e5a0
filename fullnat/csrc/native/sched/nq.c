// SPDX-License-Identifier: Apache-2.0
/* nq, never queue: the first idle server if there is one, else as sed.  Twin of fullnat/core/sched/nq.py. */
#include "builtin.h"
#include "load.h"
#include "ranked.h"

/* Return 0 for an idle *server*, else the delay a new flow would meet, which is above 0. */
static fn_tournament_key rank(const struct fn_server *server)
{
	return server->active ? fn_load_relative((uint64_t)server->active + 1, server->weight) : 0;
}

static void init(struct fn_scheduler *scheduler)
{
	((struct fn_ranked *)scheduler)->rank = rank;
}

const struct fn_scheduler_class fn_scheduler_nq = {
	.name = "nq",
	.size = sizeof(struct fn_ranked),
	.init = init,
	.attach = fn_ranked_attach,
	.server_changed = fn_ranked_server_changed,
	.flows_changed = fn_ranked_server_changed,
	.schedule = fn_ranked_schedule,
	.free = fn_ranked_free,
};
