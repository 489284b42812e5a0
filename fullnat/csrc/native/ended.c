// SPDX-License-Identifier: Apache-2.0
/*
 * Ended flows.  See ended.h for the contract and fullnat/core/ended.py for the rules.
 *
 * Keys lie in one array and name each other by their place in it: in the list of their bucket, and
 * in that of all, where the oldest is the first.  The array has its full size from the start.
 */
#include "ended.h"

#include <stdlib.h>
#include <string.h>

#include "limit.h"

#define LIFETIME (10 * FN_SECOND)   /* a probe there, an acknowledgment back, and a client that retries */

struct ended {
	int64_t deadline;
	uint32_t in_bucket;         /* the next of its bucket, or of the free places */
	uint32_t before;            /* the neighbours in the list of all */
	uint32_t behind;
	uint8_t key_size;
	bool is_told;
	uint8_t key[FN_KEY_MAX];
};

struct fn_ended_table {
	struct fn_hash_key key;
	uint32_t limit;
	uint32_t count;
	uint32_t used;              /* places that ever had a key */
	uint32_t free;              /* one freed, or 0 */
	uint32_t mask;              /* of the buckets */
	struct ended *places;       /* from 1; 0 is both ends of the list of all */
	uint32_t *buckets;
};

struct fn_ended_table *fn_ended_table_create(uint32_t limit, const struct fn_hash_key *key)
{
	struct fn_ended_table *table = calloc(1, sizeof(*table));
	size_t buckets = 1;

	if (!table)
		return NULL;
	while (buckets < limit)
		buckets *= 2;
	table->key = *key;
	table->limit = limit;
	table->mask = (uint32_t)(buckets - 1);
	table->places = calloc((size_t)limit + 1, sizeof(*table->places));
	table->buckets = calloc(buckets, sizeof(*table->buckets));
	if (!table->places || !table->buckets) {
		fn_ended_table_destroy(table);
		return NULL;
	}
	return table;
}

void fn_ended_table_destroy(struct fn_ended_table *table)
{
	if (!table)
		return;
	free(table->places);
	free(table->buckets);
	free(table);
}

uint32_t fn_ended_table_count(const struct fn_ended_table *table)
{
	return table->count;
}

static uint32_t *bucket_of(const struct fn_ended_table *table, const uint8_t *key, uint32_t key_size)
{
	return &table->buckets[fn_hash(&table->key, key, key_size, 0) & table->mask];
}

/* Return where *key* is, or 0. */
static uint32_t find(const struct fn_ended_table *table, const uint8_t *key, uint32_t key_size)
{
	uint32_t at = *bucket_of(table, key, key_size);

	while (at && (table->places[at].key_size != key_size || memcmp(table->places[at].key, key, key_size)))
		at = table->places[at].in_bucket;
	return at;
}

/* Forget the key at *at*, unless that is 0. */
static void forget(struct fn_ended_table *table, uint32_t at)
{
	struct ended *ended = &table->places[at];
	uint32_t *link;

	if (!at)
		return;
	link = bucket_of(table, ended->key, ended->key_size);
	while (*link != at)
		link = &table->places[*link].in_bucket;
	*link = ended->in_bucket;
	table->places[ended->before].behind = ended->behind;
	table->places[ended->behind].before = ended->before;
	ended->in_bucket = table->free;
	table->free = at;
	table->count--;
}

/* Return a place; there is one. */
static uint32_t take_place(struct fn_ended_table *table)
{
	uint32_t at = table->free;

	if (!at)
		return ++table->used;
	table->free = table->places[at].in_bucket;
	return at;
}

static void add(struct fn_ended_table *table, const uint8_t *key, uint8_t key_size, int64_t now)
{
	uint32_t *bucket = bucket_of(table, key, key_size), at;
	struct ended *list = &table->places[0];

	forget(table, find(table, key, key_size));
	if (table->count == table->limit)
		forget(table, list->behind);
	at = take_place(table);
	table->places[at] = (struct ended){
		.deadline = now + LIFETIME,
		.in_bucket = *bucket,
		.before = list->before,
		.key_size = key_size,
	};
	memcpy(table->places[at].key, key, key_size);
	*bucket = at;
	table->places[list->before].behind = at;
	list->before = at;
	table->count++;
}

void fn_ended_table_add(struct fn_ended_table *table, const struct fn_flow *flow, int64_t now)
{
	add(table, fn_flow_key(flow, FN_INBOUND), flow->key_size, now);
	add(table, fn_flow_key(flow, FN_OUTBOUND), flow->key_size, now);
}

bool fn_ended_table_tell(struct fn_ended_table *table, const uint8_t *key, uint32_t key_size, int64_t now,
			 bool *is_first)
{
	struct ended *ended = &table->places[find(table, key, key_size)];

	if (ended == table->places || ended->deadline <= now)
		return false;
	*is_first = !ended->is_told;
	ended->is_told = true;
	return true;
}

void fn_ended_table_expire(struct fn_ended_table *table, int64_t now)
{
	while (table->count && table->places[table->places[0].behind].deadline <= now)
		forget(table, table->places[0].behind);
}
