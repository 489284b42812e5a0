// SPDX-License-Identifier: Apache-2.0
/*
 * Base of the schedulers that pick the best-ranked server: lc wlc sed nq fo ovf, and lblc, lblcr.
 *
 * Twin of fullnat/core/sched/ranked.py.  Each sets rank() in its init().
 */
#ifndef FULLNAT_NATIVE_SCHED_RANKED_H
#define FULLNAT_NATIVE_SCHED_RANKED_H

#include "../sched.h"
#include "tournament.h"

/* Picks the available server of the lowest rank; on a tie, the first in the list. */
struct fn_ranked {
	struct fn_scheduler scheduler;
	struct fn_tournament ranks;
	/* The rank of an available *server*, lowest picked first; FN_TOURNAMENT_ABSENT passes it over. */
	fn_tournament_key (*rank)(const struct fn_server *server);
};

bool fn_ranked_attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count);
void fn_ranked_server_changed(struct fn_scheduler *scheduler, struct fn_server *server);
struct fn_server *fn_ranked_schedule(struct fn_scheduler *scheduler, const struct fn_request *request);
void fn_ranked_free(struct fn_scheduler *scheduler);

#endif
