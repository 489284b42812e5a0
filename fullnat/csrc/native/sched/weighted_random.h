// SPDX-License-Identifier: Apache-2.0
/*
 * random, weighted random: each new flow to a server drawn with a chance in proportion to weight.
 *
 * Twin of fullnat/core/sched/weighted_random.py: the same draws from the same seed.  Base of twos.
 */
#ifndef FULLNAT_NATIVE_SCHED_WEIGHTED_RANDOM_H
#define FULLNAT_NATIVE_SCHED_WEIGHTED_RANDOM_H

#include "../prng.h"
#include "../sched.h"
#include "cumulative.h"

/* A weighted draw among the available servers. */
struct fn_weighted_random {
	struct fn_scheduler scheduler;
	struct fn_prng random;
	struct fn_cumulative weights;
};

void fn_weighted_random_init(struct fn_scheduler *scheduler);
bool fn_weighted_random_attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count);
void fn_weighted_random_server_changed(struct fn_scheduler *scheduler, struct fn_server *server);
void fn_weighted_random_free(struct fn_scheduler *scheduler);

/* Return a server drawn by weight; the total is not 0. */
struct fn_server *fn_weighted_random_draw(struct fn_weighted_random *random);

#endif
