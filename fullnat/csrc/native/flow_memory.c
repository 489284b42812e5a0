// SPDX-License-Identifier: Apache-2.0
/* Flow memory of this process alone.  See flow_memory.h for the contract. */
#include "flow_memory.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_FROM = 32 << 20 };   /* bytes from which huge pages save more misses than they waste memory */

struct private_memory {
	struct fn_flow_memory memory;   /* first */
	void **chunks[2];
};

static size_t entries_size(const struct fn_flow_memory *memory)
{
	return (size_t)memory->places * sizeof(struct fn_flow_entry);
}

static size_t chunk_size(bool is_v6)
{
	return (size_t)FN_FLOW_CHUNK * fn_flow_memory_stride(is_v6);
}

/* Return virtual memory, which the kernel backs with zeros page by page as it is used, or NULL. */
static void *map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void *get_chunk(struct fn_flow_memory *memory, bool is_v6, uint32_t number)
{
	void **chunk = &((struct private_memory *)memory)->chunks[is_v6][number];

	if (!*chunk)
		*chunk = map(chunk_size(is_v6));
	return *chunk;
}

static void free_chunks(struct private_memory *self, bool is_v6)
{
	void **chunks = self->chunks[is_v6];

	for (uint32_t at = 0; chunks && at < self->memory.chunk_limit[is_v6]; at++)
		if (chunks[at])
			munmap(chunks[at], chunk_size(is_v6));
	free(chunks);
}

static void destroy(struct fn_flow_memory *memory)
{
	struct private_memory *self = (struct private_memory *)memory;

	free_chunks(self, false);
	free_chunks(self, true);
	if (memory->entries)
		munmap(memory->entries, entries_size(memory));
	free(self);
}

struct fn_flow_memory *fn_flow_memory_create(uint32_t limit)
{
	struct private_memory *self = limit <= FN_FLOW_LIMIT_MAX ? calloc(1, sizeof(*self)) : NULL;
	uint32_t chunks = fn_flow_memory_chunks(limit);

	if (!self)
		return NULL;
	self->memory = (struct fn_flow_memory){
		.places = fn_flow_memory_places(limit),
		.chunk_limit = { chunks, chunks },
		.get_chunk = get_chunk,
		.destroy = destroy,
	};
	self->chunks[0] = calloc(chunks, sizeof(void *));
	self->chunks[1] = calloc(chunks, sizeof(void *));
	self->memory.entries = map(entries_size(&self->memory));
	if (!self->chunks[0] || !self->chunks[1] || !self->memory.entries) {
		destroy(&self->memory);
		return NULL;
	}
	if (entries_size(&self->memory) >= HUGE_FROM)
		madvise(self->memory.entries, entries_size(&self->memory), MADV_HUGEPAGE);   /* a wish */
	return &self->memory;
}
