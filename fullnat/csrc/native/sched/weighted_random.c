// SPDX-License-Identifier: Apache-2.0
/* random, weighted random.  See weighted_random.h for the contract. */
#include "weighted_random.h"

#include "builtin.h"
#include "load.h"

void fn_weighted_random_init(struct fn_scheduler *scheduler)
{
	((struct fn_weighted_random *)scheduler)->random.state = scheduler->seed;
}

/* Draw from *servers*. */
bool fn_weighted_random_attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count)
{
	struct fn_weighted_random *random = (struct fn_weighted_random *)scheduler;
	struct fn_cumulative weights;

	if (!fn_cumulative_init(&weights, servers, count))
		return false;
	fn_cumulative_free(&random->weights);
	random->weights = weights;
	return true;
}

/* Give *server* its new share. */
void fn_weighted_random_server_changed(struct fn_scheduler *scheduler, struct fn_server *server)
{
	struct fn_weighted_random *random = (struct fn_weighted_random *)scheduler;

	if (fn_scheduler_is_attached(scheduler, server))
		fn_cumulative_set(&random->weights, server->position, fn_load_share(server));
}

struct fn_server *fn_weighted_random_draw(struct fn_weighted_random *random)
{
	uint64_t point = fn_prng_below(&random->random, random->weights.total);

	return random->scheduler.servers[fn_cumulative_find(&random->weights, point)];
}

/* Return a server drawn by weight. */
static struct fn_server *schedule(struct fn_scheduler *scheduler, const struct fn_request *request)
{
	struct fn_weighted_random *random = (struct fn_weighted_random *)scheduler;

	(void)request;
	return random->weights.total ? fn_weighted_random_draw(random) : NULL;
}

void fn_weighted_random_free(struct fn_scheduler *scheduler)
{
	fn_cumulative_free(&((struct fn_weighted_random *)scheduler)->weights);
}

const struct fn_scheduler_class fn_scheduler_random = {
	.name = "random",
	.size = sizeof(struct fn_weighted_random),
	.init = fn_weighted_random_init,
	.attach = fn_weighted_random_attach,
	.server_changed = fn_weighted_random_server_changed,
	.schedule = schedule,
	.free = fn_weighted_random_free,
};
