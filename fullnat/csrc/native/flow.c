// SPDX-License-Identifier: Apache-2.0
/*
 * The flow table.  See flow.h for the contract and fullnat/core/flow.py for the rules.
 *
 *     calendar    [first] -> flow <-> flow                         one list a second
 */
#include "flow.h"

#include <stddef.h>
#include <stdlib.h>

#include "limit.h"

/*
 * Twelve days, of which the kernel backs what is used: the order of flows due in one second is the
 * twin's for every timeout that fits.  What lies further waits in the last list.
 */
enum { CALENDAR_SLOTS = 1 << 20 };

enum { CHUNKS_AHEAD = 4 };   /* at least: what a busy second may fill */

#define SLOT FN_SECOND             /* nanoseconds of one list of the calendar */

/* The flows of one family. */
struct store {
	void **chunks;
	uint32_t chunk_limit;
	bool is_v6;
	uint32_t used;        /* places that ever had a flow */
	uint32_t free;        /* references of flows whose places can be used, */
	uint32_t freed;       /* of those somebody may still be reading, */
	uint32_t leaving;     /* and of those being waited for; each leads to the next */
};

struct fn_flow_table {
	struct fn_flow_memory *memory;
	struct fn_flow_entry *entries;   /* of the memory */
	uint32_t mask;
	uint32_t limit;
	uint32_t count;
	uint32_t next_slot;
	uint32_t *calendar;
	struct store stores[2];          /* IPv4, IPv6 */
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
	uint8_t *chunk = store->chunks[index >> FN_FLOW_CHUNK_BITS];

	return (struct fn_flow *)(chunk + (size_t)(index % FN_FLOW_CHUNK) * fn_flow_memory_stride(store->is_v6));
}

static struct fn_flow *flow_of(const struct fn_flow_table *table, uint32_t reference)
{
	return place_of(&table->stores[!!(reference & FN_FLOW_IS_V6)], reference & FN_FLOW_INDEX_MASK);
}

static bool store_init(struct store *store, const struct fn_flow_memory *memory, bool is_v6)
{
	store->is_v6 = is_v6;
	store->chunk_limit = memory->chunk_limit[is_v6];
	store->chunks = calloc(store->chunk_limit, sizeof(*store->chunks));
	return store->chunks;
}

/* Return a place whose reference is set, the one freed last first, or NULL when memory ran out. */
static struct fn_flow *allocate(struct fn_flow_table *table, bool is_v6)
{
	struct store *store = &table->stores[is_v6];
	uint32_t index = store->used, chunk = index >> FN_FLOW_CHUNK_BITS;
	struct fn_flow *flow;

	if (store->free) {
		flow = flow_of(table, store->free);
		store->free = flow->next;
		return flow;
	}
	if (chunk >= store->chunk_limit)
		return NULL;
	if (!store->chunks[chunk])
		store->chunks[chunk] = table->memory->get_chunk(table->memory, is_v6, chunk);
	if (!store->chunks[chunk])
		return NULL;
	store->used++;
	flow = place_of(store, index);
	flow->slot = FN_FLOW_NO_SLOT;
	flow->reference = (uint32_t)FN_FLOW_OUTBOUND << FN_FLOW_KIND_SHIFT | (is_v6 ? FN_FLOW_IS_V6 : 0) | index;
	return flow;
}

/* Release the servers of the flows; their memory goes with the table's. */
static void store_free(struct store *store)
{
	for (uint32_t index = 0; index < store->used; index++) {
		struct fn_flow *flow = place_of(store, index);

		if (flow->server)
			fn_server_release(flow->server);
	}
	free(store->chunks);
}

/* The table as a whole. */

struct fn_flow_table *fn_flow_table_create(uint32_t limit, const struct fn_hash_key *key, int64_t now,
					   struct fn_flow_memory *memory)
{
	struct fn_flow_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->limit = limit;
	table->key = *key;
	table->next_slot = (uint32_t)(now / SLOT);
	table->calendar = calloc(CALENDAR_SLOTS, sizeof(*table->calendar));
	if (!store_init(&table->stores[0], memory, false) || !store_init(&table->stores[1], memory, true) ||
	    !table->calendar) {
		fn_flow_table_destroy(table);
		return NULL;
	}
	table->memory = memory;
	table->entries = memory->entries;
	table->mask = memory->places - 1;
	return table;
}

void fn_flow_table_destroy(struct fn_flow_table *table)
{
	if (!table)
		return;
	store_free(&table->stores[0]);
	store_free(&table->stores[1]);
	if (table->memory)
		table->memory->destroy(table->memory);
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
	return fn_flow_hash(&table->key, protocol, key, key_size);
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

static uint32_t reference_to(const struct fn_flow *flow, enum fn_flow_kind kind)
{
	return (uint32_t)kind << FN_FLOW_KIND_SHIFT | (flow->reference & (FN_FLOW_IS_V6 | FN_FLOW_INDEX_MASK));
}

static enum fn_flow_kind inbound_kind(const struct fn_flow *flow)
{
	return flow->one_packet ? FN_FLOW_ONE_PACKET : FN_FLOW_INBOUND;
}

/* Write an entry in one step, and after all that was written of the flow it leads to. */
static void set_entry(struct fn_flow_table *table, uint32_t at, struct fn_flow_entry entry)
{
	uint64_t word;

	memcpy(&word, &entry, sizeof(word));
	__atomic_store_n((uint64_t *)&table->entries[at], word, __ATOMIC_RELEASE);
}

/* Return where the entry with *reference* is, or the empty one that a search for it ends at. */
static uint32_t find_entry(const struct fn_flow_table *table, uint64_t hash, uint32_t reference)
{
	uint32_t at = fn_flow_tag(hash) & table->mask;

	while (table->entries[at].reference && table->entries[at].reference != reference)
		at = (at + 1) & table->mask;
	return at;
}

static void insert(struct fn_flow_table *table, uint64_t hash, uint32_t reference)
{
	uint32_t tag = fn_flow_tag(hash), at = tag & table->mask;

	while (table->entries[at].reference)
		at = (at + 1) & table->mask;
	set_entry(table, at, (struct fn_flow_entry){ tag, reference });
}

/* Take the entry at *gap* out and close the gap, so that no search stops short of what lies behind. */
static void erase_at(struct fn_flow_table *table, uint32_t gap)
{
	const struct fn_flow_entry *entries = table->entries;
	uint32_t mask = table->mask;

	for (uint32_t at = (gap + 1) & mask; entries[at].reference; at = (at + 1) & mask) {
		uint32_t home = entries[at].tag & mask;

		if (((at - home) & mask) >= ((at - gap) & mask)) {
			set_entry(table, gap, entries[at]);
			gap = at;
		}
	}
	set_entry(table, gap, (struct fn_flow_entry){ 0, 0 });
}

static void erase(struct fn_flow_table *table, uint64_t hash, uint32_t reference)
{
	erase_at(table, find_entry(table, hash, reference));
}

void fn_flow_table_prefetch(const struct fn_flow_table *table, uint64_t hash)
{
	__builtin_prefetch(&table->entries[fn_flow_tag(hash) & table->mask]);
}

void fn_flow_table_prefetch_flow(const struct fn_flow_table *table, uint64_t hash)
{
	uint32_t tag = fn_flow_tag(hash);
	const struct fn_flow_entry *entry;

	for (uint32_t at = tag & table->mask; (entry = &table->entries[at])->reference; at = (at + 1) & table->mask) {
		if (entry->tag == tag) {
			const uint8_t *flow = (const uint8_t *)flow_of(table, entry->reference);

			/* Counters and times are in the first line, state and keys in the second. */
			__builtin_prefetch(flow, 1);
			__builtin_prefetch(flow + offsetof(struct fn_flow, state), 1);
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
	uint32_t tag = fn_flow_tag(hash);
	const struct fn_flow_entry *entry;

	for (uint32_t at = tag & table->mask; (entry = &table->entries[at])->reference; at = (at + 1) & table->mask) {
		enum fn_flow_kind kind = entry->reference >> FN_FLOW_KIND_SHIFT;
		struct fn_flow *flow;

		if (entry->tag != tag || kind == FN_FLOW_ONE_PACKET)
			continue;
		flow = flow_of(table, entry->reference);
		*direction = kind == FN_FLOW_INBOUND ? FN_INBOUND : FN_OUTBOUND;
		if (flow->protocol == protocol && has_key(flow, *direction, key, key_size))
			return flow;
	}
	return NULL;
}

struct fn_flow *fn_flow_table_find_one_packet(struct fn_flow_table *table, const uint8_t *key, uint32_t key_size,
					      const struct fn_server *server)
{
	uint32_t tag = fn_flow_tag(hash_one_packet(table, key, key_size, server));
	const struct fn_flow_entry *entry;

	for (uint32_t at = tag & table->mask; (entry = &table->entries[at])->reference; at = (at + 1) & table->mask) {
		struct fn_flow *flow;

		if (entry->tag != tag || entry->reference >> FN_FLOW_KIND_SHIFT != FN_FLOW_ONE_PACKET)
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

struct fn_flow *fn_flow_table_add(struct fn_flow_table *table, const struct fn_flow_opening *opening, int64_t now)
{
	struct fn_server *server = opening->server;
	bool is_tcp = server->service->protocol == FN_TCP;
	struct fn_flow *flow = allocate(table, opening->key_size == FN_KEY_MAX);
	struct fn_flow record;

	if (!flow)
		return NULL;
	record = (struct fn_flow){
		.last_seen = now,
		.created = now,
		.timeout = opening->timeout,
		.server = server,
		.state = is_tcp ? (uint32_t)FN_SYN_SENT : (uint32_t)FN_UNREPLIED,
		.slot = FN_FLOW_NO_SLOT,
		.reference = flow->reference,
		.counter = server->counter,
		.lip = opening->lip,
		.mss = opening->mss,
		.noted = is_tcp ? (uint8_t)FN_SYN_SENT : (uint8_t)FN_UNREPLIED,
		.protocol = server->service->protocol,
		.key_size = (uint8_t)opening->key_size,
		.one_packet = server->service->one_packet,
		.held_mask = FN_FLOW_NO_TEMPLATE,
	};
	memcpy(flow, &record, sizeof(record));   /* whoever is killed here leaves a flow that is not in the table */
	memcpy(flow->keys, opening->inbound_key, opening->key_size);
	memcpy(flow->keys + opening->key_size, opening->outbound_key, opening->key_size);
	prepare_rewrite(flow, FN_INBOUND);
	prepare_rewrite(flow, FN_OUTBOUND);
	fn_server_hold(server);
	insert(table, hash_outbound(table, flow), reference_to(flow, FN_FLOW_OUTBOUND));
	insert(table, hash_inbound(table, flow), reference_to(flow, inbound_kind(flow)));
	table->count++;
	enter(table, flow, table->next_slot);
	return flow;
}

void fn_flow_table_remove(struct fn_flow_table *table, struct fn_flow *flow)
{
	leave(table, flow);
	flow->slot = FN_FLOW_NO_SLOT;
	erase(table, hash_outbound(table, flow), reference_to(flow, FN_FLOW_OUTBOUND));
	erase(table, hash_inbound(table, flow), reference_to(flow, inbound_kind(flow)));
	table->count--;
}

void fn_flow_table_free(struct fn_flow_table *table, struct fn_flow *flow)
{
	struct store *store = &table->stores[!!(flow->reference & FN_FLOW_IS_V6)];
	uint32_t *list = table->memory->wait_for_readers ? &store->freed : &store->free;

	fn_server_release(flow->server);
	flow->server = NULL;
	flow->next = *list;
	*list = flow->reference;
}

void fn_flow_table_prepare(const struct fn_flow_table *table)
{
	struct fn_flow_memory *memory = table->memory;

	for (int family = 0; memory->prepare_chunks && family < 2; family++) {
		uint32_t used = __atomic_load_n(&table->stores[family].used, __ATOMIC_RELAXED);

		memory->prepare_chunks(memory, family, 2 * (used >> FN_FLOW_CHUNK_BITS) + CHUNKS_AHEAD);
	}
}

bool fn_flow_table_begin_reclaim(struct fn_flow_table *table)
{
	bool is_needed = false;

	for (int family = 0; family < 2; family++) {
		struct store *store = &table->stores[family];

		if (store->leaving)
			return false;   /* another call is waiting for them */
		is_needed |= store->freed != 0;
	}
	for (int family = 0; is_needed && family < 2; family++) {
		struct store *store = &table->stores[family];

		store->leaving = store->freed;
		store->freed = 0;
	}
	return is_needed;
}

void fn_flow_table_wait_for_readers(const struct fn_flow_table *table)
{
	if (table->memory->wait_for_readers)
		table->memory->wait_for_readers(table->memory);
}

void fn_flow_table_end_reclaim(struct fn_flow_table *table)
{
	for (int family = 0; family < 2; family++) {
		struct store *store = &table->stores[family];

		while (store->leaving) {
			struct fn_flow *flow = flow_of(table, store->leaving);

			store->leaving = flow->next;
			flow->next = store->free;
			store->free = flow->reference;
		}
	}
}

/* Return the flow of a bit in *word* of a family, which is taken off, or NULL. */
static struct fn_flow *take_changed(struct store *store, uint64_t *words, uint32_t word)
{
	uint64_t bits;

	while ((bits = __atomic_load_n(&words[word], __ATOMIC_RELAXED))) {
		uint32_t bit = (uint32_t)__builtin_ctzll(bits);
		struct fn_flow *flow;

		__atomic_fetch_and(&words[word], ~(UINT64_C(1) << bit), __ATOMIC_ACQ_REL);
		if (word * 64 + bit >= store->used)
			continue;
		flow = place_of(store, word * 64 + bit);
		if (flow->slot != FN_FLOW_NO_SLOT)
			return flow;
	}
	return NULL;
}

struct fn_flow *fn_flow_table_next_changed(struct fn_flow_table *table, uint64_t *cursor)
{
	/* The family is in the upper half of the cursor, the word in the lower. */
	for (uint64_t family; (family = *cursor >> 32) < 2; *cursor = (family + 1) << 32) {
		struct store *store = &table->stores[family];
		uint64_t *words = table->memory->changed[family];

		for (; words && (uint64_t)(uint32_t)*cursor * 64 < store->used; ++*cursor) {
			struct fn_flow *flow = take_changed(store, words, (uint32_t)*cursor);

			if (flow)
				return flow;
		}
	}
	return NULL;
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

/* Taking over. */

static bool is_live(const struct fn_flow_table *table, uint32_t reference)
{
	const struct store *store = &table->stores[!!(reference & FN_FLOW_IS_V6)];
	uint32_t index = reference & FN_FLOW_INDEX_MASK;

	return index < store->used && place_of(store, index)->slot != FN_FLOW_NO_SLOT;
}

/* Whether the entry *at* is the first that leads where it leads, and says so rightly. */
static bool is_right(const struct fn_flow_table *table, uint32_t at)
{
	const struct fn_flow_entry *entry = &table->entries[at];
	enum fn_flow_kind kind = entry->reference >> FN_FLOW_KIND_SHIFT;
	const struct fn_flow *flow;
	uint64_t hash;

	if (!is_live(table, entry->reference))
		return false;
	flow = flow_of(table, entry->reference);
	if (kind != FN_FLOW_OUTBOUND && kind != inbound_kind(flow))
		return false;
	hash = kind == FN_FLOW_OUTBOUND ? hash_outbound(table, flow) : hash_inbound(table, flow);
	return fn_flow_tag(hash) == entry->tag && find_entry(table, hash, entry->reference) == at;
}

static void mend_entries(struct fn_flow_table *table)
{
	for (uint32_t at = 0; at <= table->mask; at++)
		while (table->entries[at].reference && !is_right(table, at))
			erase_at(table, at);
}

static void mend_entry(struct fn_flow_table *table, uint64_t hash, uint32_t reference)
{
	uint32_t at = find_entry(table, hash, reference);

	if (!table->entries[at].reference)
		set_entry(table, at, (struct fn_flow_entry){ fn_flow_tag(hash), reference });
}

/* Forget the flow of a place, which somebody may still be reading. */
static void clear(struct store *store, struct fn_flow *flow)
{
	flow->slot = FN_FLOW_NO_SLOT;
	flow->server = NULL;
	flow->next = store->freed;
	store->freed = flow->reference;
}

static bool adopt_flow(struct fn_flow_table *table, struct fn_flow *flow, fn_flow_adopter *adopt, void *context)
{
	struct fn_server *server = adopt(context, flow);

	if (!server)
		return false;
	flow->server = server;
	flow->counter = server->counter;
	fn_server_hold(server);
	table->count++;
	enter(table, flow, table->next_slot);
	return true;
}

static void adopt_store(struct fn_flow_table *table, struct store *store, fn_flow_adopter *adopt, void *context)
{
	uint32_t places = table->memory->chunks[store->is_v6] << FN_FLOW_CHUNK_BITS;

	for (uint32_t index = 0; index < places; index++) {
		struct fn_flow *flow;

		if (index % FN_FLOW_CHUNK == 0)
			store->chunks[index >> FN_FLOW_CHUNK_BITS] =
				table->memory->get_chunk(table->memory, store->is_v6, index >> FN_FLOW_CHUNK_BITS);
		flow = place_of(store, index);
		if (!flow->reference)
			return;   /* places are used in order */
		store->used = index + 1;
		if (flow->slot == FN_FLOW_NO_SLOT || !adopt_flow(table, flow, adopt, context))
			clear(store, flow);
	}
}

uint32_t fn_flow_table_adopt(struct fn_flow_table *table, fn_flow_adopter *adopt, void *context)
{
	adopt_store(table, &table->stores[0], adopt, context);
	adopt_store(table, &table->stores[1], adopt, context);
	mend_entries(table);
	for (int family = 0; family < 2; family++)
		for (uint32_t index = 0; index < table->stores[family].used; index++) {
			struct fn_flow *flow = place_of(&table->stores[family], index);

			if (flow->slot == FN_FLOW_NO_SLOT)
				continue;
			mend_entry(table, hash_outbound(table, flow), reference_to(flow, FN_FLOW_OUTBOUND));
			mend_entry(table, hash_inbound(table, flow), reference_to(flow, inbound_kind(flow)));
		}
	return table->count;
}

const struct fn_flow *fn_flow_table_walk(const struct fn_flow_table *table, uint64_t *cursor)
{
	/* The family is in the upper half of the cursor, the index in the lower. */
	for (uint64_t family; (family = *cursor >> 32) < 2; *cursor = (family + 1) << 32) {
		const struct store *store = &table->stores[family];

		while ((uint32_t)*cursor < store->used) {
			const struct fn_flow *flow = place_of(store, (uint32_t)(*cursor)++);

			if (flow->slot != FN_FLOW_NO_SLOT)
				return flow;
		}
	}
	return NULL;
}

struct fn_flow *fn_flow_table_next_of(struct fn_flow_table *table, const struct fn_server *server, uint64_t *cursor,
				      uint64_t *budget)
{
	for (uint64_t family; (family = *cursor >> 32) < 2; *cursor = (family + 1) << 32) {
		const struct store *store = &table->stores[family];

		while ((uint32_t)*cursor < store->used) {
			struct fn_flow *flow;

			if (!*budget)
				return NULL;
			--*budget;
			flow = place_of(store, (uint32_t)(*cursor)++);
			if (flow->slot != FN_FLOW_NO_SLOT && flow->server == server)
				return flow;
		}
	}
	return NULL;
}
