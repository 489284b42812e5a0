// SPDX-License-Identifier: Apache-2.0
/*
 * What tests of the native tables need beside them: services and servers that only count who holds
 * them, memory that is counted and runs out when told to, flow memory that outlives its tables, and a
 * call at every step of the flow table.
 *
 * Linked with --wrap for each function of memory, so that the tables call those here.  flow.c is
 * compiled with -fsanitize-coverage=trace-pc, which calls __sanitizer_cov_trace_pc() from every basic
 * block: no two stores to the entries are in one.
 */
#include "flow.h"

#include <stdlib.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);
void __sanitizer_cov_trace_pc(void);
void *__real_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __real_munmap(void *memory, size_t size);

static int live;
static int left = -1;   /* allocations that still succeed; -1: all */

int tables_live(void)
{
	return live;
}

void tables_fail_after(int allocations)
{
	left = allocations;
}

static bool runs_out(void)
{
	if (left <= 0)
		return left == 0;
	left--;
	return false;
}

static void *count(void *memory)
{
	live += memory != NULL;
	return memory;
}

void *__wrap_malloc(size_t size)
{
	return runs_out() ? NULL : count(__real_malloc(size));
}

void *__wrap_calloc(size_t number, size_t size)
{
	return runs_out() ? NULL : count(__real_calloc(number, size));
}

void *__wrap_realloc(void *old, size_t size)
{
	void *memory = runs_out() ? NULL : __real_realloc(old, size);

	return old ? memory : count(memory);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return runs_out() ? NULL : count(__real_aligned_alloc(alignment, size));
}

void __wrap_free(void *memory)
{
	live -= memory != NULL;
	__real_free(memory);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
	void *memory = runs_out() ? MAP_FAILED : __real_mmap(at, size, protection, flags, file, offset);

	live += memory != MAP_FAILED;
	return memory;
}

int __wrap_munmap(void *memory, size_t size)
{
	live--;
	return __real_munmap(memory, size);
}

static void (*step)(void);

/* Have *call* called at every step of the flow table; NULL: no more. */
void tables_at_each_step(void (*call)(void))
{
	step = call;
}

void __sanitizer_cov_trace_pc(void)
{
	if (step)
		step();
}

/* Flow memory that others read and that outlives the tables on it, as maps of the kernel do. */

struct tables_memory {
	struct fn_flow_entry *entries;
	uint32_t places;
	uint32_t chunk_limit;
	void **chunks[2];
	uint64_t *changed[2];
	uint32_t waits;                 /* how often somebody waited for readers */
};

/* What a table has of it. */
struct lent_memory {
	struct fn_flow_memory memory;   /* first */
	struct tables_memory *lender;
};

static void *get_chunk(struct fn_flow_memory *memory, bool is_v6, uint32_t number)
{
	void **chunk = &((struct lent_memory *)memory)->lender->chunks[is_v6][number];
	size_t size = (size_t)FN_FLOW_CHUNK * fn_flow_memory_stride(is_v6);

	if (!*chunk) {
		*chunk = aligned_alloc(64, size);
		if (*chunk)
			memset(*chunk, 0, size);
	}
	return *chunk;
}

static void prepare_chunks(struct fn_flow_memory *memory, bool is_v6, uint32_t number)
{
	for (uint32_t at = 0; at < number && at < memory->chunk_limit[is_v6]; at++)
		get_chunk(memory, is_v6, at);
}

static void wait_for_readers(struct fn_flow_memory *memory)
{
	((struct lent_memory *)memory)->lender->waits++;
}

static void give_back(struct fn_flow_memory *memory)
{
	free(memory);
}

struct tables_memory *tables_memory_create(uint32_t limit)
{
	struct tables_memory *memory = calloc(1, sizeof(*memory));

	memory->places = fn_flow_memory_places(limit);
	memory->chunk_limit = fn_flow_memory_chunks(limit);
	memory->entries = calloc(memory->places, sizeof(*memory->entries));
	for (int family = 0; family < 2; family++) {
		memory->chunks[family] = calloc(memory->chunk_limit, sizeof(void *));
		memory->changed[family] = calloc(memory->chunk_limit, FN_FLOW_CHUNK / 8);
	}
	return memory;
}

void tables_memory_destroy(struct tables_memory *memory)
{
	for (int family = 0; family < 2; family++) {
		for (uint32_t at = 0; at < memory->chunk_limit; at++)
			free(memory->chunks[family][at]);
		free(memory->chunks[family]);
		free(memory->changed[family]);
	}
	free(memory->entries);
	free(memory);
}

/* Return *memory* for a table, with what other tables left in it. */
struct fn_flow_memory *tables_memory_lend(struct tables_memory *memory)
{
	struct lent_memory *lent = calloc(1, sizeof(*lent));

	lent->lender = memory;
	lent->memory = (struct fn_flow_memory){
		.entries = memory->entries,
		.places = memory->places,
		.chunk_limit = { memory->chunk_limit, memory->chunk_limit },
		.changed = { memory->changed[0], memory->changed[1] },
		.get_chunk = get_chunk,
		.prepare_chunks = prepare_chunks,
		.wait_for_readers = wait_for_readers,
		.destroy = give_back,
	};
	for (int family = 0; family < 2; family++)
		while (lent->memory.chunks[family] < memory->chunk_limit &&
		       memory->chunks[family][lent->memory.chunks[family]])
			lent->memory.chunks[family]++;
	return &lent->memory;
}

void *tables_memory_get_chunk(struct fn_flow_memory *memory, bool is_v6, uint32_t number)
{
	return memory->get_chunk(memory, is_v6, number);
}

void tables_memory_give_back(struct fn_flow_memory *memory)
{
	memory->destroy(memory);
}

struct fn_service *tables_service(uint8_t protocol, const struct fn_endpoint *listen, bool one_packet,
				  bool is_persistent, uint8_t mask, int64_t timeout)
{
	struct fn_service *service = calloc(1, sizeof(*service));

	service->protocol = protocol;
	service->listen = *listen;
	service->one_packet = one_packet;
	service->is_persistent = is_persistent;
	service->persistence_mask = mask;
	service->persistence_timeout = timeout;
	return service;
}

void tables_set_persistence(struct fn_service *service, bool is_persistent, uint8_t mask)
{
	service->is_persistent = is_persistent;
	service->persistence_mask = mask;
}

struct fn_server *tables_server(struct fn_service *service, uint32_t id)
{
	struct fn_server *server = calloc(1, sizeof(*server));

	server->service = service;
	server->id = id;
	server->counter = (uint16_t)id;
	server->is_listed = true;
	server->may_keep = true;
	return server;
}

void tables_set_timeout(struct fn_service *service, int64_t timeout)
{
	service->persistence_timeout = timeout;
}

void tables_set_server(struct fn_server *server, bool is_listed, bool may_keep)
{
	server->is_listed = is_listed;
	server->may_keep = may_keep;
}

uint32_t tables_holders(const struct fn_server *server)
{
	return server->holders;
}

void tables_free(void *memory)
{
	free(memory);
}

/* The tables release; when the last has, the real one frees, and here the test looks. */
void fn_server_release(struct fn_server *server)
{
	if (!server->holders--)
		abort();
}

uint32_t tables_flow_size(void)
{
	return sizeof(struct fn_flow);
}

const uint8_t *tables_flow_key(const struct fn_flow *flow, enum fn_direction direction)
{
	return fn_flow_key(flow, direction);
}

bool tables_flow_follow_tcp(struct fn_flow *flow, enum fn_direction direction, uint8_t flags)
{
	return fn_flow_follow_tcp(flow, direction, flags);
}

bool tables_flow_follow_udp(struct fn_flow *flow, enum fn_direction direction)
{
	return fn_flow_follow_udp(flow, direction);
}

void tables_flow_count(struct fn_flow *flow, enum fn_direction direction, uint64_t packets, uint64_t bytes)
{
	fn_flow_count(flow, direction, packets, bytes);
}

bool tables_flow_is_reopened(const struct fn_flow *flow, enum fn_direction direction, uint8_t flags)
{
	return fn_flow_is_reopened(flow, direction, flags);
}
