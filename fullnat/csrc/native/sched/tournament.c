// SPDX-License-Identifier: Apache-2.0
/* The tournament tree.  See tournament.h for the contract. */
#include "tournament.h"

#include <stdlib.h>

bool fn_tournament_init(struct fn_tournament *tournament, uint32_t count)
{
	uint32_t size = 1;

	*tournament = (struct fn_tournament){ 0 };
	if (!count)
		return true;
	while (size < count)
		size *= 2;
	tournament->keys = calloc(size, sizeof(*tournament->keys));
	tournament->winners = calloc(2 * (size_t)size, sizeof(*tournament->winners));
	if (!tournament->keys || !tournament->winners) {
		fn_tournament_free(tournament);
		return false;
	}
	tournament->size = size;
	for (uint32_t position = 0; position < size; position++) {
		tournament->keys[position] = FN_TOURNAMENT_ABSENT;
		tournament->winners[size + position] = position;
	}
	return true;
}

void fn_tournament_free(struct fn_tournament *tournament)
{
	free(tournament->keys);
	free(tournament->winners);
	*tournament = (struct fn_tournament){ 0 };
}

static uint32_t play(const struct fn_tournament *tournament, uint32_t node)
{
	uint32_t left = tournament->winners[2 * node], right = tournament->winners[2 * node + 1];

	return tournament->keys[left] <= tournament->keys[right] ? left : right;
}

void fn_tournament_settle(struct fn_tournament *tournament)
{
	if (!tournament->size)
		return;
	for (uint32_t node = tournament->size - 1; node; node--)
		tournament->winners[node] = play(tournament, node);
}

void fn_tournament_set(struct fn_tournament *tournament, uint32_t position, fn_tournament_key key)
{
	tournament->keys[position] = key;
	for (uint32_t node = (tournament->size + position) / 2; node; node /= 2) {
		uint32_t winner = play(tournament, node);

		/* Another position won before and wins still: nothing changes further up. */
		if (winner == tournament->winners[node] && winner != position)
			return;
		tournament->winners[node] = winner;
	}
}

/* Whether some position below *node* has a key of at most *bound*. */
static bool reaches(const struct fn_tournament *tournament, uint32_t node, fn_tournament_key bound)
{
	return tournament->keys[tournament->winners[node]] <= bound;
}

uint32_t fn_tournament_next_at_most(const struct fn_tournament *tournament, uint32_t after,
				    fn_tournament_key bound)
{
	uint32_t first = after + 1;   /* 0 when *after* is FN_NO_POSITION */
	uint32_t node = tournament->size + first;

	if (first >= tournament->size)
		return FN_NO_POSITION;
	while (!reaches(tournament, node, bound)) {
		while (node % 2)   /* a right child: all its parent covers has been seen */
			node /= 2;
		if (!node)
			return FN_NO_POSITION;
		node++;
	}
	while (node < tournament->size)
		node = reaches(tournament, 2 * node, bound) ? 2 * node : 2 * node + 1;
	return node - tournament->size;
}
