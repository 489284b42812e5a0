// SPDX-License-Identifier: Apache-2.0
/*
 * Cumulative weights: find whose share of the total a number falls in, while weights change.
 *
 * Twin of fullnat/core/sched/cumulative.py, which has the theory.
 */
#ifndef FULLNAT_NATIVE_SCHED_CUMULATIVE_H
#define FULLNAT_NATIVE_SCHED_CUMULATIVE_H

#include "../service.h"

/* Weights by position, laid end to end on the line 0..total-1.  All zero, there are none. */
struct fn_cumulative {
	uint64_t *sums;      /* counted from 1 */
	uint32_t *weights;
	uint64_t total;
	uint32_t count;
	uint32_t top_bit;
};

/* Lay out the shares of *servers* (load.h); false when memory ran out, of which none takes none. */
bool fn_cumulative_init(struct fn_cumulative *cumulative, struct fn_server *const *servers, uint32_t count);
void fn_cumulative_free(struct fn_cumulative *cumulative);

/* Give *position* a new weight. */
void fn_cumulative_set(struct fn_cumulative *cumulative, uint32_t position, uint32_t weight);

/* Return the position whose share holds *point*, which is below the total. */
uint32_t fn_cumulative_find(const struct fn_cumulative *cumulative, uint64_t point);

#endif
