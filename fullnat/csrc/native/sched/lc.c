// SPDX-License-Identifier: Apache-2.0
/*
 * lc, least connection: the server that carries least, whatever its weight.
 *
 * Twin of fullnat/core/sched/lc.py.
 */
#include "builtin.h"
#include "load.h"
#include "ranked.h"

/* Return what *server* carries. */
static fn_tournament_key rank(const struct fn_server *server)
{
	return (fn_tournament_key)fn_load_overhead(server);
}

static void init(struct fn_scheduler *scheduler)
{
	((struct fn_ranked *)scheduler)->rank = rank;
}

const struct fn_scheduler_class fn_scheduler_lc = {
	.name = "lc",
	.size = sizeof(struct fn_ranked),
	.init = init,
	.attach = fn_ranked_attach,
	.server_changed = fn_ranked_server_changed,
	.flows_changed = fn_ranked_server_changed,
	.schedule = fn_ranked_schedule,
	.free = fn_ranked_free,
};
