// SPDX-License-Identifier: Apache-2.0
/* wlc's order, which lblc and lblcr share.  Twin of fullnat/core/sched/wlc.py. */
#ifndef FULLNAT_NATIVE_SCHED_WLC_H
#define FULLNAT_NATIVE_SCHED_WLC_H

#include "load.h"

/* Return what *server* carries for its weight, which is not 0. */
static inline fn_tournament_key fn_wlc_rank(const struct fn_server *server)
{
	return fn_load_relative(fn_load_overhead(server), server->weight);
}

#endif
