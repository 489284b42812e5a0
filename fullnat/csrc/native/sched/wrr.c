// SPDX-License-Identifier: Apache-2.0
/*
 * wrr, weighted round robin: rounds in which each server is picked as often as its weight says.
 *
 * Twin of fullnat/core/sched/wrr.py, which has the theory: levels, steps and walks.
 */
#include <stdlib.h>

#include "builtin.h"
#include "tournament.h"
#include "weights.h"

/* The next server, in list order, whose weight reaches the level of the walk. */
struct weighted_round_robin {
	struct fn_scheduler scheduler;
	uint32_t *weights;              /* of all servers, those overloaded included */
	struct fn_tournament heaviest;  /* minus the weight, of the available ones */
	uint32_t last;                  /* FN_NO_POSITION: before the first */
	int64_t step;
	int64_t top;
	int64_t level;
};

static void init(struct fn_scheduler *scheduler)
{
	struct weighted_round_robin *wrr = (struct weighted_round_robin *)scheduler;

	wrr->last = FN_NO_POSITION;
	wrr->step = 1;
}

static fn_tournament_key key_of(const struct fn_server *server)
{
	return fn_server_is_available(server) ? -(fn_tournament_key)server->weight : FN_TOURNAMENT_ABSENT;
}

static void restart(struct weighted_round_robin *wrr, uint32_t count)
{
	wrr->last = FN_NO_POSITION;
	wrr->step = fn_weights_divisor(wrr->weights, count);
	wrr->top = fn_weights_greatest(wrr->weights, count) - (wrr->step - 1);
	if (wrr->level > wrr->top || !wrr->level)
		wrr->level = wrr->top;
	else if (wrr->step > 1)
		wrr->level = wrr->level / wrr->step * wrr->step + 1;
}

/* Restart with *servers*. */
static bool attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count)
{
	struct weighted_round_robin *wrr = (struct weighted_round_robin *)scheduler;
	uint32_t *weights = count ? calloc(count, sizeof(*weights)) : NULL;
	struct fn_tournament heaviest;

	if ((count && !weights) || !fn_tournament_init(&heaviest, count)) {
		free(weights);
		return false;
	}
	for (uint32_t position = 0; position < count; position++) {
		weights[position] = servers[position]->weight;
		heaviest.keys[position] = key_of(servers[position]);
	}
	fn_tournament_settle(&heaviest);
	free(wrr->weights);
	wrr->weights = weights;
	fn_tournament_free(&wrr->heaviest);
	wrr->heaviest = heaviest;
	restart(wrr, count);
	return true;
}

/* Take note of the availability of *server*; restart if its weight changed. */
static void server_changed(struct fn_scheduler *scheduler, struct fn_server *server)
{
	struct weighted_round_robin *wrr = (struct weighted_round_robin *)scheduler;

	if (!fn_scheduler_is_attached(scheduler, server))
		return;
	fn_tournament_set(&wrr->heaviest, server->position, key_of(server));
	if (wrr->weights[server->position] != server->weight) {
		wrr->weights[server->position] = server->weight;
		restart(wrr, scheduler->count);
	}
}

/* Return the level after this one, those above the *heaviest* available server skipped. */
static int64_t next_level(const struct weighted_round_robin *wrr, int64_t heaviest)
{
	int64_t level = wrr->level > wrr->step ? wrr->level - wrr->step : wrr->top;

	if (level > heaviest)
		level -= (level - heaviest + wrr->step - 1) / wrr->step * wrr->step;
	return level;
}

/* Leave the walk where the kernel's ends when it finds every server overloaded. */
static void end_walk(struct weighted_round_robin *wrr)
{
	if (wrr->last == FN_NO_POSITION || wrr->level > wrr->step) {
		wrr->last = FN_NO_POSITION;
		wrr->level = wrr->top;
	} else {
		wrr->level = 1;
	}
}

/* Return the next server of the walk. */
static struct fn_server *schedule(struct fn_scheduler *scheduler, const struct fn_request *request)
{
	struct weighted_round_robin *wrr = (struct weighted_round_robin *)scheduler;
	fn_tournament_key key = fn_tournament_least_key(&wrr->heaviest);
	uint32_t position;

	(void)request;
	if (key == FN_TOURNAMENT_ABSENT) {
		end_walk(wrr);
		return NULL;
	}
	position = fn_tournament_next_at_most(&wrr->heaviest, wrr->last, -wrr->level);
	if (position == FN_NO_POSITION) {
		wrr->level = next_level(wrr, (int64_t)-key);
		position = fn_tournament_next_at_most(&wrr->heaviest, FN_NO_POSITION, -wrr->level);
	}
	if (position == FN_NO_POSITION)
		return NULL;
	wrr->last = position;
	return scheduler->servers[position];
}

static void free_lists(struct fn_scheduler *scheduler)
{
	struct weighted_round_robin *wrr = (struct weighted_round_robin *)scheduler;

	free(wrr->weights);
	fn_tournament_free(&wrr->heaviest);
}

const struct fn_scheduler_class fn_scheduler_wrr = {
	.name = "wrr",
	.size = sizeof(struct weighted_round_robin),
	.init = init,
	.attach = attach,
	.server_changed = server_changed,
	.schedule = schedule,
	.free = free_lists,
};
