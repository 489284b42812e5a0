// SPDX-License-Identifier: Apache-2.0
/*
 * The flow table.  See flow.h for the contract and fullnat/core/flow.py for the rules.
 *
 *     entries     ... [tag, reference] [tag, reference] ...        two a flow, where the tag says
 *                           |
 *     chunks      IPv4 [flow flow flow ...] [flow ...]    IPv6 [flow ...]
 *                           |
 *     calendar    [first] -> flow <-> flow                         one list a second
 *
 * A reference says in 32 bits which flow is meant, and in an entry also which of its keys:
 *
 *     31 30  29   28 ... 0
 *     kind   IPv6   index in the chunks of the family
 */
#include "flow.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "limit.h"

enum {
	CACHE_LINE = 64,
	CHUNK_BITS = 12,
	CHUNK_FLOWS = 1 << CHUNK_BITS,
	LIMIT_MAX = 1 << 28,
	/*
	 * Twelve days, of which the kernel backs what is used: the order of flows due in one second is
	 * the twin's for every timeout that fits.  What lies further waits in the last list.
	 */
	CALENDAR_SLOTS = 1 << 20,
	HUGE_FROM = 32 << 20,   /* bytes from which huge pages save more misses than they waste memory */
};

#define SLOT FN_SECOND             /* nanoseconds of one list of the calendar */
#define NO_SLOT UINT32_MAX         /* of a flow that is not in the table */

/* What an entry stands for; 0 is an empty one. */
enum kind { INBOUND = 1, OUTBOUND, ONE_PACKET };

#define KIND_SHIFT 30
#define IS_V6 (1U << 29)
#define INDEX_MASK (IS_V6 - 1)

struct entry {
	uint32_t tag;         /* half of the hash; its low bits say where the entry would like to be */
	uint32_t reference;
};

/* The flows of one family. */
struct store {
	void **chunks;
	uint32_t chunk_limit;
	uint32_t stride;      /* bytes from one flow to the next */
	uint32_t used;        /* places that ever had a flow */
	uint32_t free;        /* reference of the flow freed last */
};

struct fn_flow_table {
	struct entry *entries;
	uint32_t mask;
	uint32_t limit;
	uint32_t count;
	uint32_t next_slot;
	uint32_t *calendar;
	struct store stores[2];   /* IPv4, IPv6 */
	struct fn_hash_key key;
};

struct fn_rewrite fn_flow_rewrite(const struct fn_flow *flow, enum fn_direction direction)
{
	enum fn_direction back = direction == FN_INBOUND ? FN_OUTBOUND : FN_INBOUND;
	struct fn_rewrite rewrite = {
		.key_size = flow->key_size,
		.ip_delta = flow->ip_delta[direction],
		.transport_delta = flow->transport_delta[direction],
	};

	fn_packet_reverse_key(rewrite.new_key, fn_flow_key(flow, back), flow->key_size);
	return rewrite;
}

static void prepare_rewrite(struct fn_flow *flow, enum fn_direction direction)
{
	struct fn_rewrite plain = fn_flow_rewrite(flow, direction), rewrite;

	fn_rewrite_init(&rewrite, fn_flow_key(flow, direction), plain.new_key, flow->key_size);
	flow->ip_delta[direction] = rewrite.ip_delta;
	flow->transport_delta[direction] = rewrite.transport_delta;
}

/* Places of flows. */

static struct fn_flow *place_of(const struct store *store, uint32_t index)
{
	uint8_t *chunk = store->chunks[index >> CHUNK_BITS];

	return (struct fn_flow *)(chunk + (size_t)(index % CHUNK_FLOWS) * store->stride);
}

static struct fn_flow *flow_of(const struct fn_flow_table *table, uint32_t reference)
{
	return place_of(&table->stores[!!(reference & IS_V6)], reference & INDEX_MASK);
}

static bool store_init(struct store *store, uint32_t key_size, uint32_t limit)
{
	size_t size = offsetof(struct fn_flow, keys) + 2 * key_size;

	store->stride = (uint32_t)(size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	/* At least one more than the limit needs, for flows that were removed and are not freed yet. */
	store->chunk_limit = limit / CHUNK_FLOWS + 2;
	store->chunks = calloc(store->chunk_limit, sizeof(*store->chunks));
	return store->chunks;
}

/* Return a place whose reference is set, the one freed last first, or NULL when memory ran out. */
static struct fn_flow *allocate(struct fn_flow_table *table, bool is_v6)
{
	struct store *store = &table->stores[is_v6];
	uint32_t index = store->used, chunk = index >> CHUNK_BITS;
	struct fn_flow *flow;

	if (store->free) {
		flow = flow_of(table, store->free);
		store->free = flow->next;
		return flow;
	}
	if (chunk >= store->chunk_limit)
		return NULL;
	if (!store->chunks[chunk])
		store->chunks[chunk] = aligned_alloc(CACHE_LINE, (size_t)CHUNK_FLOWS * store->stride);
	if (!store->chunks[chunk])
		return NULL;
	store->used++;
	flow = place_of(store, index);
	flow->reference = (uint32_t)OUTBOUND << KIND_SHIFT | (is_v6 ? IS_V6 : 0) | index;
	return flow;
}

static void store_free(struct store *store)
{
	for (uint32_t index = 0; index < store->used; index++) {
		struct fn_flow *flow = place_of(store, index);

		if (flow->server)
			fn_server_release(flow->server);
	}
	for (uint32_t chunk = 0; store->chunks && chunk < store->chunk_limit; chunk++)
		free(store->chunks[chunk]);
	free(store->chunks);
}

/* The table as a whole. */

static size_t entries_size(const struct fn_flow_table *table)
{
	return ((size_t)table->mask + 1) * sizeof(struct entry);
}

/* Make room for two entries a flow, half of them empty even when the table is full. */
static bool map_entries(struct fn_flow_table *table)
{
	uint32_t places = 4;
	void *entries;

	while (places < 4 * table->limit)
		places *= 2;
	table->mask = places - 1;
	entries = mmap(NULL, entries_size(table), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (entries == MAP_FAILED)
		return false;
	table->entries = entries;
	if (entries_size(table) >= HUGE_FROM)
		madvise(entries, entries_size(table), MADV_HUGEPAGE);   /* a wish: any answer will do */
	return true;
}

struct fn_flow_table *fn_flow_table_create(uint32_t limit, const struct fn_hash_key *key, int64_t now)
{
	struct fn_flow_table *table;

	if (limit > LIMIT_MAX)
		return NULL;
	table = calloc(1, sizeof(*table));
	if (!table)
		return NULL;
	table->limit = limit;
	table->key = *key;
	table->next_slot = (uint32_t)(now / SLOT);
	table->calendar = calloc(CALENDAR_SLOTS, sizeof(*table->calendar));
	if (!store_init(&table->stores[0], 12, limit) || !store_init(&table->stores[1], FN_KEY_MAX, limit) ||
	    !table->calendar || !map_entries(table)) {
		fn_flow_table_destroy(table);
		return NULL;
	}
	return table;
}

void fn_flow_table_destroy(struct fn_flow_table *table)
{
	if (!table)
		return;
	store_free(&table->stores[0]);
	store_free(&table->stores[1]);
	if (table->entries)
		munmap(table->entries, entries_size(table));
	free(table->calendar);
	free(table);
}

uint32_t fn_flow_table_count(const struct fn_flow_table *table)
{
	return table->count;
}

uint32_t fn_flow_table_limit(const struct fn_flow_table *table)
{
	return table->limit;
}

bool fn_flow_table_is_full(const struct fn_flow_table *table)
{
	return table->count >= table->limit;
}

/* Entries. */

uint64_t fn_flow_table_hash(const struct fn_flow_table *table, uint8_t protocol, const uint8_t *key,
			    uint32_t key_size)
{
	return fn_hash(&table->key, key, key_size, protocol);
}

/* One-packet scheduling: a client's datagrams go to many servers, one flow for each. */
static uint64_t hash_one_packet(const struct fn_flow_table *table, const uint8_t *key, uint32_t key_size,
				const struct fn_server *server)
{
	return fn_hash(&table->key, key, key_size, server->id);
}

static uint64_t hash_inbound(const struct fn_flow_table *table, const struct fn_flow *flow)
{
	const uint8_t *key = fn_flow_key(flow, FN_INBOUND);

	if (flow->one_packet)
		return hash_one_packet(table, key, flow->key_size, flow->server);
	return fn_flow_table_hash(table, flow->protocol, key, flow->key_size);
}

static uint64_t hash_outbound(const struct fn_flow_table *table, const struct fn_flow *flow)
{
	return fn_flow_table_hash(table, flow->protocol, fn_flow_key(flow, FN_OUTBOUND), flow->key_size);
}

static uint32_t tag_of(uint64_t hash)
{
	return (uint32_t)hash;
}

static uint32_t reference_to(const struct fn_flow *flow, enum kind kind)
{
	return (uint32_t)kind << KIND_SHIFT | (flow->reference & (IS_V6 | INDEX_MASK));
}

static enum kind inbound_kind(const struct fn_flow *flow)
{
	return flow->one_packet ? ONE_PACKET : INBOUND;
}

static void insert(struct fn_flow_table *table, uint64_t hash, uint32_t reference)
{
	uint32_t tag = tag_of(hash), at = tag & table->mask;

	while (table->entries[at].reference)
		at = (at + 1) & table->mask;
	table->entries[at] = (struct entry){ tag, reference };
}

/* Take the entry out and close the gap, so that no search stops short of what lies behind. */
static void erase(struct fn_flow_table *table, uint64_t hash, uint32_t reference)
{
	struct entry *entries = table->entries;
	uint32_t mask = table->mask, gap = tag_of(hash) & mask;

	while (entries[gap].reference != reference)
		gap = (gap + 1) & mask;
	for (uint32_t at = (gap + 1) & mask; entries[at].reference; at = (at + 1) & mask) {
		uint32_t home = entries[at].tag & mask;

		if (((at - home) & mask) >= ((at - gap) & mask)) {
			entries[gap] = entries[at];
			gap = at;
		}
	}
	entries[gap] = (struct entry){ 0, 0 };
}

void fn_flow_table_prefetch(const struct fn_flow_table *table, uint64_t hash)
{
	__builtin_prefetch(&table->entries[tag_of(hash) & table->mask]);
}

void fn_flow_table_prefetch_flow(const struct fn_flow_table *table, uint64_t hash)
{
	uint32_t tag = tag_of(hash);
	const struct entry *entry;

	for (uint32_t at = tag & table->mask; (entry = &table->entries[at])->reference; at = (at + 1) & table->mask) {
		if (entry->tag == tag) {
			const uint8_t *flow = (const uint8_t *)flow_of(table, entry->reference);

			/* Counters and times are in the first line, state and keys in the second. */
			__builtin_prefetch(flow, 1);
			__builtin_prefetch(flow + CACHE_LINE, 1);
			return;
		}
	}
}

static bool has_key(const struct fn_flow *flow, enum fn_direction direction, const uint8_t *key, uint32_t key_size)
{
	return flow->key_size == key_size && !memcmp(fn_flow_key(flow, direction), key, key_size);
}

struct fn_flow *fn_flow_table_find(struct fn_flow_table *table, uint64_t hash, uint8_t protocol,
				   const uint8_t *key, uint32_t key_size, enum fn_direction *direction)
{
	uint32_t tag = tag_of(hash);
	const struct entry *entry;

	for (uint32_t at = tag & table->mask; (entry = &table->entries[at])->reference; at = (at + 1) & table->mask) {
		enum kind kind = entry->reference >> KIND_SHIFT;
		struct fn_flow *flow;

		if (entry->tag != tag || kind == ONE_PACKET)
			continue;
		flow = flow_of(table, entry->reference);
		*direction = kind == INBOUND ? FN_INBOUND : FN_OUTBOUND;
		if (flow->protocol == protocol && has_key(flow, *direction, key, key_size))
			return flow;
	}
	return NULL;
}

struct fn_flow *fn_flow_table_find_one_packet(struct fn_flow_table *table, const uint8_t *key, uint32_t key_size,
					      const struct fn_server *server)
{
	uint32_t tag = tag_of(hash_one_packet(table, key, key_size, server));
	const struct entry *entry;

	for (uint32_t at = tag & table->mask; (entry = &table->entries[at])->reference; at = (at + 1) & table->mask) {
		struct fn_flow *flow;

		if (entry->tag != tag || entry->reference >> KIND_SHIFT != ONE_PACKET)
			continue;
		flow = flow_of(table, entry->reference);
		if (flow->server == server && has_key(flow, FN_INBOUND, key, key_size))
			return flow;
	}
	return NULL;
}

/* The calendar. */

/* Return the first slot that begins when the flow has been idle for its timeout. */
static uint64_t slot_of(const struct fn_flow *flow)
{
	return (uint64_t)(flow->last_seen + flow->timeout + SLOT - 1) / SLOT;
}

static uint32_t *list_of(struct fn_flow_table *table, uint32_t slot)
{
	return &table->calendar[slot % CALENDAR_SLOTS];
}

/* Put *flow* where its time is, but not before *earliest*; what is entered last is met first. */
static void enter(struct fn_flow_table *table, struct fn_flow *flow, uint32_t earliest)
{
	uint64_t slot = slot_of(flow), latest = (uint64_t)table->next_slot + CALENDAR_SLOTS - 1;
	uint32_t *list;

	if (slot < earliest)
		slot = earliest;
	flow->slot = (uint32_t)(slot < latest ? slot : latest);
	list = list_of(table, flow->slot);
	flow->previous = 0;
	flow->next = *list;
	if (flow->next)
		flow_of(table, flow->next)->previous = flow->reference;
	*list = flow->reference;
}

static void leave(struct fn_flow_table *table, struct fn_flow *flow)
{
	if (flow->previous)
		flow_of(table, flow->previous)->next = flow->next;
	else
		*list_of(table, flow->slot) = flow->next;
	if (flow->next)
		flow_of(table, flow->next)->previous = flow->previous;
}

/* Flows come and go. */

struct fn_flow *fn_flow_table_add(struct fn_flow_table *table, struct fn_server *server, const uint8_t *inbound_key,
				  const uint8_t *outbound_key, uint32_t key_size, uint16_t lip, int64_t timeout,
				  int64_t now)
{
	struct fn_flow *flow = allocate(table, key_size == FN_KEY_MAX);

	if (!flow)
		return NULL;
	*flow = (struct fn_flow){
		.server = server,
		.created = now,
		.last_seen = now,
		.timeout = timeout,
		.reference = flow->reference,
		.lip = lip,
		.protocol = server->service->protocol,
		.state = server->service->protocol == FN_TCP ? (uint8_t)FN_SYN_SENT : (uint8_t)FN_UNREPLIED,
		.key_size = (uint8_t)key_size,
		.one_packet = server->service->one_packet,
	};
	memcpy(flow->keys, inbound_key, key_size);
	memcpy(flow->keys + key_size, outbound_key, key_size);
	prepare_rewrite(flow, FN_INBOUND);
	prepare_rewrite(flow, FN_OUTBOUND);
	fn_server_hold(server);
	insert(table, hash_outbound(table, flow), reference_to(flow, OUTBOUND));
	insert(table, hash_inbound(table, flow), reference_to(flow, inbound_kind(flow)));
	table->count++;
	enter(table, flow, table->next_slot);
	return flow;
}

void fn_flow_table_remove(struct fn_flow_table *table, struct fn_flow *flow)
{
	erase(table, hash_outbound(table, flow), reference_to(flow, OUTBOUND));
	erase(table, hash_inbound(table, flow), reference_to(flow, inbound_kind(flow)));
	leave(table, flow);
	flow->slot = NO_SLOT;
	table->count--;
}

void fn_flow_table_free(struct fn_flow_table *table, struct fn_flow *flow)
{
	struct store *store = &table->stores[!!(flow->reference & IS_V6)];

	fn_server_release(flow->server);
	flow->server = NULL;
	flow->next = store->free;
	store->free = flow->reference;
}

void fn_flow_table_set_timeout(struct fn_flow_table *table, struct fn_flow *flow, int64_t timeout)
{
	flow->timeout = timeout;
	if (slot_of(flow) < flow->slot) {
		leave(table, flow);
		enter(table, flow, table->next_slot);
	}
}

struct fn_flow *fn_flow_table_expire(struct fn_flow_table *table, int64_t now, uint64_t *budget)
{
	uint32_t current = (uint32_t)(now / SLOT);

	while (table->next_slot <= current && *budget) {
		uint32_t *list = list_of(table, table->next_slot);
		struct fn_flow *ended = NULL;

		while (*list && *budget && !ended) {
			struct fn_flow *flow = flow_of(table, *list);

			--*budget;
			if (flow->last_seen + flow->timeout <= now) {
				fn_flow_table_remove(table, flow);
				ended = flow;
			} else {
				leave(table, flow);
				enter(table, flow, table->next_slot + 1);
			}
		}
		if (!*list)
			table->next_slot++;
		if (ended)
			return ended;
	}
	return NULL;
}

const struct fn_flow *fn_flow_table_walk(const struct fn_flow_table *table, uint64_t *cursor)
{
	/* The family is in the upper half of the cursor, the index in the lower. */
	for (uint64_t family; (family = *cursor >> 32) < 2; *cursor = (family + 1) << 32) {
		const struct store *store = &table->stores[family];

		while ((uint32_t)*cursor < store->used) {
			const struct fn_flow *flow = place_of(store, (uint32_t)(*cursor)++);

			if (flow->slot != NO_SLOT)
				return flow;
		}
	}
	return NULL;
}
