// SPDX-License-Identifier: Apache-2.0
/*
 * Persistence.  See persist.h for the contract and fullnat/core/persist.py for the rules.
 *
 * Templates lie in one array and name each other by their place in it.  Each is in a bucket, found
 * by hash, and in the list of use, where the next to go is the first.  One that no flow holds is also
 * in a heap, where the next to expire is on top; one that is held does not expire.
 *
 * The array has its full size from the start; the kernel backs what is used.
 */
#include "persist.h"

#include <stdlib.h>

#include "limit.h"

enum { KEY_SIZE = 40 };

#define REARM (60 * FN_SECOND)   /* the kernel's ip_vs_conn_expire() looks again after so long */
#define NEVER INT64_MAX

struct template {
	struct fn_server *server;   /* held; NULL: a free place */
	int64_t due;                /* the last new flow and the timeout */
	int64_t kept_until;         /* when it goes: due, or later for the sake of flows */
	uint32_t flows;             /* held for so many */
	uint32_t in_heap;           /* where, or 0 */
	uint32_t in_bucket;         /* the next of its bucket, or of the free places */
	uint32_t before;            /* the neighbours in the list of use */
	uint32_t behind;
	uint8_t key[KEY_SIZE];
};

struct fn_persistence_table {
	struct fn_hash_key key;
	uint32_t capacity;
	uint32_t count;
	uint32_t used;              /* places that ever had a template */
	uint32_t free;              /* one freed, or 0 */
	uint32_t mask;              /* of the buckets */
	uint32_t heap_size;
	int64_t now;                /* of the last call */
	struct template *templates; /* from 1; 0 is both ends of the list of use */
	uint32_t *buckets;
	uint32_t *heap;             /* from 1: those of n are 2n and 2n + 1 */
};

/* The table as a whole. */

struct fn_persistence_table *fn_persistence_table_create(uint32_t capacity, const struct fn_hash_key *key)
{
	struct fn_persistence_table *table = calloc(1, sizeof(*table));
	size_t buckets = 1;

	if (!table)
		return NULL;
	while (buckets < capacity)
		buckets *= 2;
	table->key = *key;
	table->capacity = capacity;
	table->mask = (uint32_t)(buckets - 1);
	table->templates = calloc((size_t)capacity + 1, sizeof(*table->templates));
	table->buckets = calloc(buckets, sizeof(*table->buckets));
	table->heap = calloc((size_t)capacity + 1, sizeof(*table->heap));
	if (!table->templates || !table->buckets || !table->heap) {
		fn_persistence_table_destroy(table);
		return NULL;
	}
	return table;
}

void fn_persistence_table_destroy(struct fn_persistence_table *table)
{
	if (!table)
		return;
	for (uint32_t at = 1; at <= table->used; at++)
		if (table->templates[at].server)
			fn_server_release(table->templates[at].server);
	free(table->templates);
	free(table->buckets);
	free(table->heap);
	free(table);
}

uint32_t fn_persistence_table_count(const struct fn_persistence_table *table)
{
	return table->count;
}

/* Keys: whom a template is for.  They name the service by what outlives a reload, unlike its address. */

static void build_key(uint8_t *key, const struct fn_service *service, const struct fn_address *client,
		      uint32_t length)
{
	struct fn_address prefix = fn_address_network(client->bytes, client->size, length);

	memset(key, 0, KEY_SIZE);
	key[0] = service->protocol;
	key[1] = client->size;
	key[2] = (uint8_t)length;
	fn_bytes_store16(key + 4, service->listen.port);
	memcpy(key + 8, service->listen.address.bytes, 16);
	memcpy(key + 24, prefix.bytes, 16);
}

static uint32_t *bucket_of(const struct fn_persistence_table *table, const uint8_t *key)
{
	return &table->buckets[fn_hash(&table->key, key, KEY_SIZE, 0) & table->mask];
}

/* Return where the template of *key* is, or 0. */
static uint32_t find_key(const struct fn_persistence_table *table, const uint8_t *key)
{
	uint32_t at = *bucket_of(table, key);

	while (at && memcmp(table->templates[at].key, key, KEY_SIZE))
		at = table->templates[at].in_bucket;
	return at;
}

/* The list of use. */

static void leave_list(struct fn_persistence_table *table, uint32_t at)
{
	struct template *template = &table->templates[at];

	table->templates[template->before].behind = template->behind;
	table->templates[template->behind].before = template->before;
}

/* Put the template at *at* where the one used last is. */
static void enter_list(struct fn_persistence_table *table, uint32_t at)
{
	struct template *template = &table->templates[at], *end = &table->templates[0];

	template->before = end->before;
	template->behind = 0;
	table->templates[end->before].behind = at;
	end->before = at;
}

static void touch(struct fn_persistence_table *table, uint32_t at)
{
	leave_list(table, at);
	enter_list(table, at);
}

/* The heap. */

static int64_t time_at(const struct fn_persistence_table *table, uint32_t place)
{
	return table->templates[table->heap[place]].kept_until;
}

static void put_in_heap(struct fn_persistence_table *table, uint32_t place, uint32_t at)
{
	table->heap[place] = at;
	table->templates[at].in_heap = place;
}

/* Put the template at *at* into the gap at *place*, or above, where it belongs. */
static void rise(struct fn_persistence_table *table, uint32_t place, uint32_t at)
{
	int64_t time = table->templates[at].kept_until;

	for (; place > 1 && time_at(table, place / 2) > time; place /= 2)
		put_in_heap(table, place, table->heap[place / 2]);
	put_in_heap(table, place, at);
}

/* Put the template at *at* into the gap at *place*, or below, where it belongs. */
static void sink(struct fn_persistence_table *table, uint32_t place, uint32_t at)
{
	int64_t time = table->templates[at].kept_until;

	for (uint64_t below; (below = 2 * (uint64_t)place) <= table->heap_size; place = (uint32_t)below) {
		if (below < table->heap_size && time_at(table, (uint32_t)below + 1) < time_at(table, (uint32_t)below))
			below++;
		if (time_at(table, (uint32_t)below) >= time)
			break;
		put_in_heap(table, place, table->heap[below]);
	}
	put_in_heap(table, place, at);
}

static void enter_heap(struct fn_persistence_table *table, uint32_t at)
{
	rise(table, ++table->heap_size, at);
}

static void leave_heap(struct fn_persistence_table *table, uint32_t at)
{
	uint32_t gap = table->templates[at].in_heap, last;

	if (!gap)
		return;
	table->templates[at].in_heap = 0;
	last = table->heap[table->heap_size--];
	if (last == at)
		return;
	if (gap > 1 && time_at(table, gap / 2) > table->templates[last].kept_until)
		rise(table, gap, last);
	else
		sink(table, gap, last);
}

/* Templates come and go. */

static void remove_template(struct fn_persistence_table *table, uint32_t at)
{
	struct template *template = &table->templates[at];
	uint32_t *link = bucket_of(table, template->key);

	while (*link != at)
		link = &table->templates[*link].in_bucket;
	*link = template->in_bucket;
	leave_list(table, at);
	leave_heap(table, at);
	fn_server_release(template->server);
	template->server = NULL;
	template->in_bucket = table->free;
	table->free = at;
	table->count--;
}

/* Add a template of *key* to *server*; the least recently used makes room.  There is room for one. */
static uint32_t add_template(struct fn_persistence_table *table, const uint8_t *key, struct fn_server *server)
{
	uint32_t at, *bucket = bucket_of(table, key);
	struct template *template;

	if (table->count == table->capacity)
		remove_template(table, table->templates[0].behind);
	at = table->free;
	if (at)
		table->free = table->templates[at].in_bucket;
	else
		at = ++table->used;
	template = &table->templates[at];
	*template = (struct template){ .server = server, .in_bucket = *bucket };
	memcpy(template->key, key, KEY_SIZE);
	*bucket = at;
	enter_list(table, at);
	fn_server_hold(server);
	table->count++;
	return at;
}

/* Make *server* the one that the template at *at* leads to; no flow to another is its concern any more. */
static void replace_server(struct fn_persistence_table *table, uint32_t at, struct fn_server *server)
{
	struct template *template = &table->templates[at];

	fn_server_hold(server);
	fn_server_release(template->server);
	template->server = server;
	template->flows = 0;
}

/* Give the template at *at* the time it has now; it counts as used. */
static void store(struct fn_persistence_table *table, uint32_t at, int64_t not_before)
{
	struct template *template = &table->templates[at];

	touch(table, at);
	leave_heap(table, at);
	template->kept_until = NEVER;
	if (template->flows)
		return;
	template->kept_until = not_before > template->due ? not_before : template->due;
	if (template->kept_until > table->now)
		enter_heap(table, at);
	else
		remove_template(table, at);
}

uint32_t fn_persistence_table_expire(struct fn_persistence_table *table, int64_t now)
{
	uint32_t expired = 0;

	table->now = now;
	for (; table->heap_size && time_at(table, 1) <= now; expired++)
		remove_template(table, table->heap[1]);
	return expired;
}

/* Return the prefix length of *service*; one that never had persistence has no templates: any will do. */
static uint32_t mask_of(const struct fn_service *service)
{
	return service->is_persistent ? service->persistence_mask : service->listen.address.size * 8U;
}

/* Return where the template for *client* is if it has not expired, and note that it was used; else 0. */
static uint32_t look_up(struct fn_persistence_table *table, const struct fn_service *service,
			const struct fn_address *client, uint32_t mask, int64_t now)
{
	uint8_t key[KEY_SIZE];
	uint32_t at;

	table->now = now;
	build_key(key, service, client, mask);
	at = find_key(table, key);
	if (!at || table->templates[at].kept_until <= now)
		return 0;
	touch(table, at);
	return at;
}

struct fn_server *fn_persistence_table_find(struct fn_persistence_table *table, const struct fn_service *service,
					    const struct fn_address *client, int64_t now)
{
	uint32_t at = look_up(table, service, client, mask_of(service), now);
	struct fn_server *server = table->templates[at].server;

	/* After a reload another service may have its address, and the template one of the old servers. */
	return server && server->service == service && server->is_listed && server->may_keep ? server : NULL;
}

void fn_persistence_table_hold(struct fn_persistence_table *table, struct fn_server *server,
			       const struct fn_address *client, int64_t now)
{
	const struct fn_service *service = server->service;
	uint8_t key[KEY_SIZE];
	uint32_t at;

	if (!service->is_persistent || !table->capacity)
		return;
	build_key(key, service, client, service->persistence_mask);
	fn_persistence_table_expire(table, now);
	at = find_key(table, key);
	if (!at)
		at = add_template(table, key, server);
	else if (table->templates[at].server != server)
		replace_server(table, at, server);
	table->templates[at].flows++;
	table->templates[at].due = now + service->persistence_timeout;
	store(table, at, table->templates[at].due);
}

void fn_persistence_table_release(struct fn_persistence_table *table, struct fn_server *server,
				  const struct fn_address *client, uint8_t mask, int64_t now)
{
	uint32_t at = look_up(table, server->service, client, mask, now);
	struct template *template = &table->templates[at];

	if (!at || template->server != server || !template->flows)
		return;
	template->flows--;
	fn_persistence_table_expire(table, now);
	/* Re-armed only if its flows outlived its time, as in IPVS. */
	store(table, at, now > template->due ? now + REARM : template->due);
}

void fn_persistence_table_forget_server(struct fn_persistence_table *table, const struct fn_server *server)
{
	for (uint32_t at = 1; at <= table->used; at++)
		if (table->templates[at].server == server)
			remove_template(table, at);
}

bool fn_persistence_table_walk(const struct fn_persistence_table *table, uint64_t *cursor,
			       struct fn_template_use *use)
{
	while (*cursor < table->used) {
		const struct template *template = &table->templates[++*cursor];

		if (!template->server || template->kept_until <= table->now)
			continue;
		*use = (struct fn_template_use){
			.server = template->server,
			.prefix = fn_address_of(template->key + 24, template->key[1]),
			.prefix_length = template->key[2],
			.flows = template->flows,
			.deadline = template->flows ? template->due : template->kept_until,
		};
		return true;
	}
	return false;
}
