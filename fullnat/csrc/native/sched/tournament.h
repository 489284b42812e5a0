// SPDX-License-Identifier: Apache-2.0
/*
 * Tournament tree: the least of n keys, while keys change one at a time.
 *
 * Twin of fullnat/core/sched/tournament.py, which has the theory and the drawing.
 */
#ifndef FULLNAT_NATIVE_SCHED_TOURNAMENT_H
#define FULLNAT_NATIVE_SCHED_TOURNAMENT_H

#include <stdbool.h>
#include <stdint.h>

/* Wide enough for every rank there is: load.h says how large they get. */
typedef __int128 fn_tournament_key;

#define FN_TOURNAMENT_ABSENT ((fn_tournament_key)1 << 126)   /* above every key */
#define FN_NO_POSITION UINT32_MAX   /* none; as *after*, before the first */

/* Keys by position; position 0 wins ties.  All zero, it is one of no positions. */
struct fn_tournament {
	fn_tournament_key *keys;   /* one a leaf, the surplus ones absent */
	uint32_t *winners;         /* node i has children 2i and 2i+1; the leaves name themselves */
	uint32_t size;             /* leaves: a power of two, or 0 */
};

/*
 * Make room for *count* keys, all absent; write them and call settle() before anything else.
 * False when memory ran out; none is needed for no keys.
 */
bool fn_tournament_init(struct fn_tournament *tournament, uint32_t count);
void fn_tournament_free(struct fn_tournament *tournament);

/* Play all matches. */
void fn_tournament_settle(struct fn_tournament *tournament);

/* Give *position* a new key; FN_TOURNAMENT_ABSENT takes it out. */
void fn_tournament_set(struct fn_tournament *tournament, uint32_t position, fn_tournament_key key);

/* Return the first position behind *after* whose key is at most *bound*, or FN_NO_POSITION. */
uint32_t fn_tournament_next_at_most(const struct fn_tournament *tournament, uint32_t after,
				    fn_tournament_key bound);

/* Return the least key, or FN_TOURNAMENT_ABSENT when there is none. */
static inline fn_tournament_key fn_tournament_least_key(const struct fn_tournament *tournament)
{
	return tournament->size ? tournament->keys[tournament->winners[1]] : FN_TOURNAMENT_ABSENT;
}

/* Return the first position with the least key, or FN_NO_POSITION when there is no key. */
static inline uint32_t fn_tournament_least(const struct fn_tournament *tournament)
{
	if (fn_tournament_least_key(tournament) == FN_TOURNAMENT_ABSENT)
		return FN_NO_POSITION;
	return tournament->winners[1];
}

#endif
