// SPDX-License-Identifier: Apache-2.0
/* wlc, weighted least connection: the server that carries least for its weight.  See wlc.h. */
#include "wlc.h"

#include "builtin.h"
#include "ranked.h"

static void init(struct fn_scheduler *scheduler)
{
	((struct fn_ranked *)scheduler)->rank = fn_wlc_rank;
}

const struct fn_scheduler_class fn_scheduler_wlc = {
	.name = "wlc",
	.size = sizeof(struct fn_ranked),
	.init = init,
	.attach = fn_ranked_attach,
	.server_changed = fn_ranked_server_changed,
	.flows_changed = fn_ranked_server_changed,
	.schedule = fn_ranked_schedule,
	.free = fn_ranked_free,
};
