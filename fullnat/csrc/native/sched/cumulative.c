// SPDX-License-Identifier: Apache-2.0
/* Cumulative weights.  See cumulative.h for the contract. */
#include "cumulative.h"

#include <stdlib.h>

#include "load.h"

/* Return the lowest bit of *node*: how many weights its sum takes in. */
static uint32_t lowest_bit(uint32_t node)
{
	return node & -node;
}

static uint32_t highest_bit(uint32_t number)
{
	return number ? 1U << (31 - __builtin_clz(number)) : 0;
}

bool fn_cumulative_init(struct fn_cumulative *cumulative, struct fn_server *const *servers, uint32_t count)
{
	*cumulative = (struct fn_cumulative){ .count = count, .top_bit = highest_bit(count) };
	if (!count)
		return true;
	cumulative->sums = calloc((size_t)count + 1, sizeof(*cumulative->sums));
	cumulative->weights = calloc(count, sizeof(*cumulative->weights));
	if (!cumulative->sums || !cumulative->weights) {
		fn_cumulative_free(cumulative);
		return false;
	}
	for (uint32_t node = 1; node <= count; node++) {
		uint32_t weight = fn_load_share(servers[node - 1]), parent = node + lowest_bit(node);

		cumulative->weights[node - 1] = weight;
		cumulative->total += weight;
		cumulative->sums[node] += weight;
		if (parent <= count)
			cumulative->sums[parent] += cumulative->sums[node];
	}
	return true;
}

void fn_cumulative_free(struct fn_cumulative *cumulative)
{
	free(cumulative->sums);
	free(cumulative->weights);
	*cumulative = (struct fn_cumulative){ 0 };
}

void fn_cumulative_set(struct fn_cumulative *cumulative, uint32_t position, uint32_t weight)
{
	/* Unsigned: adding a lower weight's difference wraps round to taking it away. */
	uint64_t change = (uint64_t)weight - cumulative->weights[position];

	if (!change)
		return;
	cumulative->weights[position] = weight;
	cumulative->total += change;
	for (uint32_t node = position + 1; node <= cumulative->count; node += lowest_bit(node))
		cumulative->sums[node] += change;
}

uint32_t fn_cumulative_find(const struct fn_cumulative *cumulative, uint64_t point)
{
	uint32_t position = 0;

	for (uint32_t step = cumulative->top_bit; step; step /= 2) {
		uint32_t node = position + step;

		if (node > cumulative->count || cumulative->sums[node] > point)
			continue;
		position = node;
		point -= cumulative->sums[node];
	}
	return position;
}
