// SPDX-License-Identifier: Apache-2.0
/* Fragments.  See fragment.h for the contract and fullnat/core/fragment.py for the theory. */
#include "fragment.h"

#include <stdlib.h>

#include "limit.h"

#define LIFETIME (5 * FN_SECOND)

struct datagram {
	struct datagram *next_in_bucket;
	struct datagram *next;           /* younger: all live equally long, so this is the order they end in */
	uint64_t hash;
	int64_t deadline;
	uint8_t key[FN_DATAGRAM_MAX];
	uint8_t key_size;
	bool is_decided;
	struct fn_later later;           /* once the first has come */
	struct fn_held *held;
	uint32_t held_count;
};

struct fn_fragment_table {
	struct fn_hash_key key;
	struct datagram **buckets;
	uint32_t mask;
	uint32_t limit;
	uint32_t count;
	uint32_t held;
	uint64_t next_token;
	struct datagram *oldest;
	struct datagram *youngest;
	struct fn_held given[FN_HELD_LIMIT];   /* what the last call released or dropped */
};

struct fn_fragment_table *fn_fragment_table_create(uint32_t limit, const struct fn_hash_key *key)
{
	struct fn_fragment_table *table = calloc(1, sizeof(*table));
	uint32_t buckets = 16;

	if (!table)
		return NULL;
	while (buckets < limit && buckets < 1U << 20)
		buckets *= 2;
	table->buckets = calloc(buckets, sizeof(*table->buckets));
	if (!table->buckets) {
		free(table);
		return NULL;
	}
	table->key = *key;
	table->mask = buckets - 1;
	table->limit = limit;
	return table;
}

static void forget_decision(struct datagram *datagram)
{
	if (datagram->is_decided && datagram->later.server)
		fn_server_release(datagram->later.server);
	datagram->is_decided = false;
}

static void free_datagram(struct datagram *datagram)
{
	forget_decision(datagram);
	free(datagram->held);
	free(datagram);
}

void fn_fragment_table_destroy(struct fn_fragment_table *table, void (*drop)(void *packet))
{
	struct datagram *next;

	if (!table)
		return;
	for (struct datagram *datagram = table->oldest; datagram; datagram = next) {
		next = datagram->next;
		for (uint32_t at = 0; at < datagram->held_count; at++)
			drop(datagram->held[at].packet);
		free_datagram(datagram);
	}
	free(table->buckets);
	free(table);
}

uint32_t fn_fragment_table_count(const struct fn_fragment_table *table)
{
	return table->count;
}

uint32_t fn_fragment_table_held(const struct fn_fragment_table *table)
{
	return table->held;
}

static uint64_t hash_of(const struct fn_fragment_table *table, const struct fn_fragment *fragment)
{
	uint8_t padded[FN_DATAGRAM_MAX + 3] = { 0 };

	memcpy(padded, fragment->datagram, fragment->datagram_size);
	return fn_hash(&table->key, padded, sizeof(padded), fragment->datagram_size);
}

static struct datagram *add(struct fn_fragment_table *table, const struct fn_fragment *fragment, uint64_t hash,
			    int64_t now)
{
	struct datagram *datagram, **bucket = &table->buckets[hash & table->mask];

	if (table->count >= table->limit)
		return NULL;
	datagram = calloc(1, sizeof(*datagram));
	if (!datagram)
		return NULL;
	datagram->hash = hash;
	datagram->deadline = now + LIFETIME;
	datagram->key_size = fragment->datagram_size;
	memcpy(datagram->key, fragment->datagram, fragment->datagram_size);
	datagram->next_in_bucket = *bucket;
	*bucket = datagram;
	if (table->youngest)
		table->youngest->next = datagram;
	else
		table->oldest = datagram;
	table->youngest = datagram;
	table->count++;
	return datagram;
}

/* Return the record of the datagram of *fragment*, made now if there is room. */
static struct datagram *find(struct fn_fragment_table *table, const struct fn_fragment *fragment, int64_t now)
{
	uint64_t hash = hash_of(table, fragment);
	struct datagram *datagram = table->buckets[hash & table->mask];

	for (; datagram; datagram = datagram->next_in_bucket)
		if (datagram->hash == hash && datagram->key_size == fragment->datagram_size &&
		    !memcmp(datagram->key, fragment->datagram, datagram->key_size))
			return datagram;
	return add(table, fragment, hash, now);
}

static struct fn_held *hold(struct fn_fragment_table *table, struct datagram *datagram, uint32_t size)
{
	struct fn_held *held;

	if (table->held >= FN_HELD_LIMIT || datagram->held_count >= FN_HELD_PER_DATAGRAM)
		return NULL;
	if (!datagram->held)
		datagram->held = calloc(FN_HELD_PER_DATAGRAM, sizeof(*datagram->held));
	if (!datagram->held)
		return NULL;
	held = &datagram->held[datagram->held_count++];
	held->token = table->next_token++;
	held->size = size;
	table->held++;
	return held;
}

enum fn_reason fn_fragment_table_decide_later(struct fn_fragment_table *table, const struct fn_view *view,
					      int64_t now, const struct fn_later **later, struct fn_held **held)
{
	struct datagram *datagram = find(table, &view->fragment, now);

	*later = NULL;
	*held = NULL;
	if (!datagram)
		return FN_REASON_FRAGMENT_LIMIT;
	if (datagram->is_decided) {
		*later = &datagram->later;
		return datagram->later.reason;
	}
	*held = hold(table, datagram, view->length);
	return *held ? FN_REASON_FRAGMENT_HELD : FN_REASON_FRAGMENT_LIMIT;
}

/* Move what *datagram* holds behind the *count* packets already given. */
static int give(struct fn_fragment_table *table, struct datagram *datagram, int count)
{
	memcpy(table->given + count, datagram->held, datagram->held_count * sizeof(*datagram->held));
	count += (int)datagram->held_count;
	table->held -= datagram->held_count;
	datagram->held_count = 0;
	return count;
}

int fn_fragment_table_settle(struct fn_fragment_table *table, const struct fn_view *view,
			     const struct fn_later *later, int64_t now, const struct fn_held **released)
{
	struct datagram *datagram = find(table, &view->fragment, now);

	if (!datagram)
		return -1;
	if (later->server)
		fn_server_hold(later->server);
	forget_decision(datagram);
	datagram->later = *later;
	datagram->is_decided = true;
	*released = table->given;
	return datagram->held ? give(table, datagram, 0) : 0;
}

void fn_fragment_table_forget_server(struct fn_fragment_table *table, const struct fn_server *server)
{
	for (struct datagram *datagram = table->oldest; datagram; datagram = datagram->next) {
		if (!datagram->is_decided || datagram->later.server != server)
			continue;
		forget_decision(datagram);
		datagram->later = (struct fn_later){ .reason = FN_REASON_FRAGMENT_DROPPED };
		datagram->is_decided = true;
	}
}

static void remove_oldest(struct fn_fragment_table *table)
{
	struct datagram *datagram = table->oldest, **link = &table->buckets[datagram->hash & table->mask];

	while (*link != datagram)
		link = &(*link)->next_in_bucket;
	*link = datagram->next_in_bucket;
	table->oldest = datagram->next;
	if (!table->oldest)
		table->youngest = NULL;
	table->count--;
	free_datagram(datagram);
}

int fn_fragment_table_expire(struct fn_fragment_table *table, int64_t now, const struct fn_held **dropped)
{
	int count = 0;

	*dropped = table->given;
	while (table->oldest && table->oldest->deadline <= now) {
		if (table->oldest->held)
			count = give(table, table->oldest, count);
		remove_oldest(table);
	}
	return count;
}
