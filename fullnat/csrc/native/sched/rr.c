// SPDX-License-Identifier: Apache-2.0
/*
 * rr, round robin: the servers in turn, in list order, weights above 0 being all alike.
 *
 * Twin of fullnat/core/sched/rr.py.
 */
#include "builtin.h"
#include "tournament.h"

/* The next available server behind the last one picked. */
struct round_robin {
	struct fn_scheduler scheduler;
	struct fn_tournament available;   /* key 0 = may be picked */
	uint32_t last;                    /* FN_NO_POSITION: before the first */
};

static void init(struct fn_scheduler *scheduler)
{
	((struct round_robin *)scheduler)->last = FN_NO_POSITION;
}

static fn_tournament_key key_of(const struct fn_server *server)
{
	return fn_server_is_available(server) ? 0 : FN_TOURNAMENT_ABSENT;
}

/* Return the new position of the last pick, or of the nearest one before it that is in *servers*. */
static uint32_t find_last(const struct round_robin *rr, struct fn_server *const *servers, uint32_t count)
{
	struct fn_server *const *old = rr->scheduler.servers;

	for (uint32_t at = rr->last + 1; at--;) {   /* none for FN_NO_POSITION */
		uint32_t position = old[at]->position;

		if (position < count && servers[position] == old[at])
			return position;
	}
	return FN_NO_POSITION;
}

/* Go on behind the last pick, or behind the nearest one before it that is still listed. */
static bool attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count)
{
	struct round_robin *rr = (struct round_robin *)scheduler;
	struct fn_tournament available;

	if (!fn_tournament_init(&available, count))
		return false;
	for (uint32_t position = 0; position < count; position++)
		available.keys[position] = key_of(servers[position]);
	fn_tournament_settle(&available);
	fn_tournament_free(&rr->available);
	rr->available = available;
	rr->last = find_last(rr, servers, count);
	return true;
}

/* Take *server* into the round or out of it. */
static void server_changed(struct fn_scheduler *scheduler, struct fn_server *server)
{
	struct round_robin *rr = (struct round_robin *)scheduler;

	if (fn_scheduler_is_attached(scheduler, server))
		fn_tournament_set(&rr->available, server->position, key_of(server));
}

/* Return the next server in turn. */
static struct fn_server *schedule(struct fn_scheduler *scheduler, const struct fn_request *request)
{
	struct round_robin *rr = (struct round_robin *)scheduler;
	uint32_t position = fn_tournament_next_at_most(&rr->available, rr->last, 0);

	(void)request;
	if (position == FN_NO_POSITION)
		position = fn_tournament_next_at_most(&rr->available, FN_NO_POSITION, 0);
	if (position == FN_NO_POSITION)
		return NULL;
	rr->last = position;
	return scheduler->servers[position];
}

static void free_available(struct fn_scheduler *scheduler)
{
	fn_tournament_free(&((struct round_robin *)scheduler)->available);
}

const struct fn_scheduler_class fn_scheduler_rr = {
	.name = "rr",
	.size = sizeof(struct round_robin),
	.init = init,
	.attach = attach,
	.server_changed = server_changed,
	.schedule = schedule,
	.free = free_available,
};
