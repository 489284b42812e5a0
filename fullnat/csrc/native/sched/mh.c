// SPDX-License-Identifier: Apache-2.0
/*
 * mh, Maglev hashing: a client address always goes to the same server, and few move when one comes or goes.
 *
 * Twin of fullnat/core/sched/mh.py, which has the theory.
 */
#include <stdlib.h>

#include "builtin.h"
#include "hashing.h"
#include "table.h"
#include "weights.h"

enum { PLACES_PER_SERVER = 100, TURN_BITS = 6, OFFSET_SALT = 1, SKIP_SALT = 2 };

/* A server on its way through its own order of places. */
struct claim {
	uint32_t position;
	uint32_t count;   /* places a turn */
	uint32_t place;
	uint32_t skip;
};

/* A Maglev table over the servers. */
struct maglev {
	struct fn_table table;
	struct claim *claims;   /* room for one a server, used by build() */
};

/* Return the size of a table for *count* servers. */
static uint32_t size_for(uint32_t count)
{
	/* The largest prime below each power of two. */
	static const uint32_t primes[] = { 4093, 8191, 16381, 32749, 65521, 131071, 262139, 524287, 1048573 };
	uint32_t last = sizeof(primes) / sizeof(*primes) - 1, at = 0;

	while (at < last && primes[at] < (uint64_t)PLACES_PER_SERVER * count)
		at++;
	return primes[at];
}

/* Return by how many bits weights are scaled down, so that the *greatest* has TURN_BITS. */
static uint32_t turn_shift(uint32_t greatest)
{
	uint32_t bits = greatest ? 32 - (uint32_t)__builtin_clz(greatest) : 0;

	return bits > TURN_BITS ? bits - TURN_BITS : 0;
}

/* Set the claims of the servers that have a weight, and return how many do. */
static uint32_t stake(struct maglev *maglev, uint32_t size)
{
	const struct fn_scheduler *scheduler = &maglev->table.scheduler;
	const uint32_t *weights = maglev->table.latest_weights;
	uint32_t divisor = fn_weights_divisor(weights, scheduler->count);
	uint32_t shift = turn_shift(fn_weights_greatest(weights, scheduler->count) / divisor), staked = 0;

	for (uint32_t position = 0; position < scheduler->count; position++) {
		const struct fn_endpoint *endpoint = &scheduler->servers[position]->endpoint;
		uint64_t offset = fn_hashing_hash_endpoint(&endpoint->address, endpoint->port, OFFSET_SALT);
		uint64_t skip = fn_hashing_hash_endpoint(&endpoint->address, endpoint->port, SKIP_SALT);
		uint32_t count = weights[position] / divisor >> shift;

		if (!weights[position])
			continue;
		maglev->claims[staked++] = (struct claim){
			.position = position,
			.count = count ? count : 1,
			.place = (uint32_t)(offset % size),
			.skip = (uint32_t)(skip % (size - 1)) + 1,
		};
	}
	return staked;
}

/* Claim as many of the *free* places left as a turn has and return how many. */
static uint32_t take_turn(struct claim *claim, uint32_t *places, uint32_t size, uint32_t free)
{
	uint32_t taken = claim->count < free ? claim->count : free, place = claim->place;

	for (uint32_t at = 0; at < taken; at++) {
		while (places[place] != FN_TABLE_FREE) {
			place += claim->skip;
			if (place >= size)
				place -= size;
		}
		places[place] = claim->position;
	}
	claim->place = place;
	return taken;
}

/* Have every place claimed by a server. */
static bool build(struct fn_table *table, uint32_t *places, uint32_t size)
{
	struct maglev *maglev = (struct maglev *)table;
	uint32_t staked = stake(maglev, size), free = size;

	if (!staked)
		return false;
	for (uint32_t place = 0; place < size; place++)
		places[place] = FN_TABLE_FREE;
	while (free)
		for (uint32_t at = 0; at < staked; at++)
			free -= take_turn(&maglev->claims[at], places, size, free);
	return true;
}

static void init(struct fn_scheduler *scheduler)
{
	struct fn_table *table = (struct fn_table *)scheduler;

	table->size_for = size_for;
	table->build = build;
	table->hash_request = fn_table_hash_client;
}

static bool attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count)
{
	struct maglev *maglev = (struct maglev *)scheduler;
	struct claim *claims = count ? calloc(count, sizeof(*claims)) : NULL;

	if ((count && !claims) || !fn_table_attach(scheduler, servers, count)) {
		free(claims);
		return false;
	}
	free(maglev->claims);
	maglev->claims = claims;
	return true;
}

static void free_table(struct fn_scheduler *scheduler)
{
	free(((struct maglev *)scheduler)->claims);
	fn_table_free(scheduler);
}

const struct fn_scheduler_class fn_scheduler_mh = {
	.name = "mh",
	.size = sizeof(struct maglev),
	.init = init,
	.attach = attach,
	.server_changed = fn_table_server_changed,
	.schedule = fn_table_schedule,
	.free = free_table,
};
