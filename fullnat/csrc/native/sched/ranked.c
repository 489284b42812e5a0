// SPDX-License-Identifier: Apache-2.0
/* Base of the schedulers that pick the best-ranked server.  See ranked.h for the contract. */
#include "ranked.h"

static fn_tournament_key rank_if_available(const struct fn_ranked *ranked, const struct fn_server *server)
{
	return fn_server_is_available(server) ? ranked->rank(server) : FN_TOURNAMENT_ABSENT;
}

/* Rank all of *servers* anew. */
bool fn_ranked_attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count)
{
	struct fn_ranked *ranked = (struct fn_ranked *)scheduler;
	struct fn_tournament ranks;

	if (!fn_tournament_init(&ranks, count))
		return false;
	for (uint32_t position = 0; position < count; position++)
		ranks.keys[position] = rank_if_available(ranked, servers[position]);
	fn_tournament_settle(&ranks);
	fn_tournament_free(&ranked->ranks);
	ranked->ranks = ranks;
	return true;
}

/* Rank *server* anew. */
void fn_ranked_server_changed(struct fn_scheduler *scheduler, struct fn_server *server)
{
	struct fn_ranked *ranked = (struct fn_ranked *)scheduler;

	if (fn_scheduler_is_attached(scheduler, server))
		fn_tournament_set(&ranked->ranks, server->position, rank_if_available(ranked, server));
}

/* Return the best-ranked server. */
struct fn_server *fn_ranked_schedule(struct fn_scheduler *scheduler, const struct fn_request *request)
{
	const struct fn_ranked *ranked = (const struct fn_ranked *)scheduler;
	uint32_t position = fn_tournament_least(&ranked->ranks);

	(void)request;
	return position == FN_NO_POSITION ? NULL : scheduler->servers[position];
}

void fn_ranked_free(struct fn_scheduler *scheduler)
{
	fn_tournament_free(&((struct fn_ranked *)scheduler)->ranks);
}
