// SPDX-License-Identifier: Apache-2.0
/*
 * twos, power of two choices: of two servers drawn by weight, the less loaded one.
 *
 * Twin of fullnat/core/sched/twos.py.
 */
#include "builtin.h"
#include "load.h"
#include "weighted_random.h"

/* Whether *second* carries less for its weight than *first*; exact, as the product has 128 bits. */
static bool is_lighter(const struct fn_server *second, const struct fn_server *first)
{
	return (unsigned __int128)fn_load_overhead(first) * second->weight >
	       (unsigned __int128)fn_load_overhead(second) * first->weight;
}

/* Return the less loaded of two servers drawn by weight. */
static struct fn_server *schedule(struct fn_scheduler *scheduler, const struct fn_request *request)
{
	struct fn_weighted_random *random = (struct fn_weighted_random *)scheduler;
	struct fn_server *first, *second;

	(void)request;
	if (!random->weights.total)
		return NULL;
	first = fn_weighted_random_draw(random);
	second = fn_weighted_random_draw(random);
	return is_lighter(second, first) ? second : first;
}

const struct fn_scheduler_class fn_scheduler_twos = {
	.name = "twos",
	.size = sizeof(struct fn_weighted_random),
	.init = fn_weighted_random_init,
	.attach = fn_weighted_random_attach,
	.server_changed = fn_weighted_random_server_changed,
	.schedule = schedule,
	.free = fn_weighted_random_free,
};
