// SPDX-License-Identifier: Apache-2.0
/* The fast path's side of us.  See fastpath.h for the contract. */
#include "fastpath.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bpf.h>

struct fn_fastpath {
	struct fn_flow_memory memory;     /* first */
	struct fn_fastpath_options options;   /* its maps are our duplicates, or -1 */
	pthread_mutex_t lock;             /* of the chunks: they are made by two threads */
	void **chunks[2];
	int first[2];                     /* descriptor of the first chunk of a family, or -1 */
	bool *is_taken;                   /* counters; 0 stands for none and is never given */
	uint32_t last_taken;
};

/* The kernel's maps. */

static int bpf(enum bpf_cmd command, union bpf_attr *attributes)
{
	return (int)syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

static int map_access(enum bpf_cmd command, int map, const void *key, void *value)
{
	union bpf_attr attributes = { .map_fd = (uint32_t)map };

	attributes.key = (uint64_t)(uintptr_t)key;
	attributes.value = (uint64_t)(uintptr_t)value;
	return bpf(command, &attributes);
}

static int map_open(uint32_t id)
{
	union bpf_attr attributes = { .map_id = id };

	return bpf(BPF_MAP_GET_FD_BY_ID, &attributes);
}

static int make_chunk(bool is_v6)
{
	union bpf_attr attributes = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = sizeof(uint32_t),
		.value_size = fn_flow_memory_stride(is_v6),
		.max_entries = FN_FLOW_CHUNK,
		.map_flags = BPF_F_MMAPABLE,
		.map_name = "fullnat_flows",
	};

	return bpf(BPF_MAP_CREATE, &attributes);
}

/* Return the values of *map*, all of *size* bytes, or NULL. */
static void *map_values(int map, size_t size)
{
	void *values = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);

	return values == MAP_FAILED ? NULL : values;
}

/* Chunks. */

static size_t chunk_size(bool is_v6)
{
	return (size_t)FN_FLOW_CHUNK * fn_flow_memory_stride(is_v6);
}

/* Keep *map* as chunk *number*, or close it. */
static void keep_descriptor(struct fn_fastpath *fastpath, bool is_v6, uint32_t number, int map)
{
	if (number)
		close(map);
	else
		fastpath->first[is_v6] = map;
}

/* Make a chunk and have the program find it: the kernel returns when every CPU would. */
static void *add_chunk(struct fn_fastpath *fastpath, bool is_v6, uint32_t number)
{
	int map = make_chunk(is_v6);
	void *values = NULL;

	if (map < 0)
		return NULL;
	values = map_values(map, chunk_size(is_v6));
	if (values && map_access(BPF_MAP_UPDATE_ELEM, fastpath->options.maps[FN_MAP_CHUNKS4 + is_v6], &number, &map)) {
		munmap(values, chunk_size(is_v6));
		values = NULL;
	}
	if (values)
		keep_descriptor(fastpath, is_v6, number, map);
	else
		close(map);
	return values;
}

static void *get_chunk(struct fn_flow_memory *memory, bool is_v6, uint32_t number)
{
	struct fn_fastpath *fastpath = (struct fn_fastpath *)memory;
	void *chunk;

	pthread_mutex_lock(&fastpath->lock);
	if (!fastpath->chunks[is_v6][number])
		fastpath->chunks[is_v6][number] = add_chunk(fastpath, is_v6, number);
	chunk = fastpath->chunks[is_v6][number];
	pthread_mutex_unlock(&fastpath->lock);
	return chunk;
}

static void prepare_chunks(struct fn_flow_memory *memory, bool is_v6, uint32_t number)
{
	if (number > memory->chunk_limit[is_v6])
		number = memory->chunk_limit[is_v6];
	for (uint32_t at = 0; at < number && get_chunk(memory, is_v6, at); at++)
		;
}

/* Map the chunks that another process made; false, with errno set, when that cannot be. */
static bool find_chunks(struct fn_fastpath *fastpath, bool is_v6)
{
	struct fn_flow_memory *memory = &fastpath->memory;
	uint32_t *number = &memory->chunks[is_v6], id;

	for (; *number < memory->chunk_limit[is_v6]; ++*number) {
		void *values;
		int map;

		if (map_access(BPF_MAP_LOOKUP_ELEM, fastpath->options.maps[FN_MAP_CHUNKS4 + is_v6], number, &id))
			return errno == ENOENT;
		map = map_open(id);
		if (map < 0)
			return false;
		values = map_values(map, chunk_size(is_v6));
		keep_descriptor(fastpath, is_v6, *number, map);
		if (!values)
			return false;
		fastpath->chunks[is_v6][*number] = values;
	}
	return true;
}

/*
 * Putting a map into an array of maps makes the kernel wait until no program runs that could have
 * seen the one before; the same one will do.
 */
static void wait_for_readers(struct fn_flow_memory *memory)
{
	struct fn_fastpath *fastpath = (struct fn_fastpath *)memory;
	uint32_t number = 0;

	for (int family = 0; family < 2; family++) {
		if (fastpath->first[family] < 0)
			continue;
		map_access(BPF_MAP_UPDATE_ELEM, fastpath->options.maps[FN_MAP_CHUNKS4 + family], &number,
			   &fastpath->first[family]);
		return;
	}
}

static void unmap_chunks(struct fn_fastpath *fastpath, bool is_v6)
{
	void **chunks = fastpath->chunks[is_v6];

	for (uint32_t at = 0; chunks && at < fastpath->memory.chunk_limit[is_v6]; at++)
		if (chunks[at])
			munmap(chunks[at], chunk_size(is_v6));
	free(chunks);
	if (fastpath->first[is_v6] >= 0)
		close(fastpath->first[is_v6]);
}

/* The fast path as a whole. */

static size_t entries_size(const struct fn_flow_memory *memory)
{
	return (size_t)memory->places * sizeof(struct fn_flow_entry);
}

static size_t changed_size(const struct fn_flow_memory *memory, bool is_v6)
{
	return (size_t)memory->chunk_limit[is_v6] * FN_FLOW_CHUNK / 8;
}

static void leave(struct fn_flow_memory *memory)
{
	(void)memory;   /* the maps outlive the table; fn_fastpath_destroy() lets go of them */
}

void fn_fastpath_destroy(struct fn_fastpath *fastpath)
{
	struct fn_flow_memory *memory;

	if (!fastpath)
		return;
	memory = &fastpath->memory;
	for (int family = 0; family < 2; family++) {
		unmap_chunks(fastpath, family);
		if (memory->changed[family])
			munmap(memory->changed[family], changed_size(memory, family));
	}
	if (memory->entries)
		munmap(memory->entries, entries_size(memory));
	pthread_mutex_destroy(&fastpath->lock);
	for (int map = 0; map < FN_MAPS; map++)
		if (fastpath->options.maps[map] >= 0)
			close(fastpath->options.maps[map]);
	free(fastpath->is_taken);
	free(fastpath);
}

/* Have descriptors of our own in place of the caller's; false, with errno set, when there are no more. */
static bool duplicate_maps(struct fn_fastpath *fastpath)
{
	bool is_done = true;

	for (int map = 0; map < FN_MAPS; map++) {
		int *descriptor = &fastpath->options.maps[map];

		*descriptor = is_done ? fcntl(*descriptor, F_DUPFD_CLOEXEC, 0) : -1;
		is_done = *descriptor >= 0;
	}
	return is_done;
}

static bool map_all(struct fn_fastpath *fastpath)
{
	const int *maps = fastpath->options.maps;
	struct fn_flow_memory *memory = &fastpath->memory;

	memory->entries = map_values(maps[FN_MAP_ENTRIES], entries_size(memory));
	if (!memory->entries)
		return false;
	for (int family = 0; family < 2; family++) {
		memory->changed[family] = map_values(maps[FN_MAP_CHANGED4 + family], changed_size(memory, family));
		fastpath->chunks[family] = calloc(memory->chunk_limit[family], sizeof(void *));
		if (!memory->changed[family] || !fastpath->chunks[family] || !find_chunks(fastpath, family))
			return false;
	}
	return true;
}

struct fn_fastpath *fn_fastpath_create(const struct fn_fastpath_options *options)
{
	struct fn_fastpath *fastpath = calloc(1, sizeof(*fastpath));
	uint32_t chunks = fn_flow_memory_chunks(options->limit);
	int error;

	if (!fastpath)
		return NULL;
	fastpath->options = *options;
	fastpath->first[0] = fastpath->first[1] = -1;
	pthread_mutex_init(&fastpath->lock, NULL);
	fastpath->memory = (struct fn_flow_memory){
		.places = fn_flow_memory_places(options->limit),
		.chunk_limit = { chunks, chunks },
		.get_chunk = get_chunk,
		.prepare_chunks = prepare_chunks,
		.wait_for_readers = wait_for_readers,
		.destroy = leave,
	};
	fastpath->is_taken = calloc(options->servers, sizeof(*fastpath->is_taken));
	if (!duplicate_maps(fastpath) || !fastpath->is_taken || !map_all(fastpath)) {
		error = errno;
		fn_fastpath_destroy(fastpath);
		errno = error;
		return NULL;
	}
	return fastpath;
}

uint32_t fn_fastpath_limit(const struct fn_fastpath *fastpath)
{
	return fastpath->options.limit;
}

struct fn_flow_memory *fn_fastpath_memory(struct fn_fastpath *fastpath)
{
	return &fastpath->memory;
}

/* Counters. */

static bool reset_counter(const struct fn_fastpath *fastpath, uint32_t counter)
{
	struct fn_traffic *values = calloc(fastpath->options.cpus, sizeof(*values));
	bool is_done = values && !map_access(BPF_MAP_UPDATE_ELEM, fastpath->options.maps[FN_MAP_SERVERS], &counter, values);

	free(values);
	return is_done;
}

uint16_t fn_fastpath_take_counter(struct fn_fastpath *fastpath)
{
	uint32_t servers = fastpath->options.servers;

	/* The one given back longest ago, nearly: a packet on its way may still be counted for the old server. */
	for (uint32_t step = 1; step < servers; step++) {
		uint32_t counter = (fastpath->last_taken + step - 1) % (servers - 1) + 1;

		if (fastpath->is_taken[counter] || !reset_counter(fastpath, counter))
			continue;
		fastpath->is_taken[counter] = true;
		fastpath->last_taken = counter;
		return (uint16_t)counter;
	}
	return 0;
}

void fn_fastpath_give_counter(struct fn_fastpath *fastpath, uint16_t counter)
{
	if (counter)
		fastpath->is_taken[counter] = false;
}

/* Set *sum* to the sums of a value of *words* numbers over all CPUs; zeros when it cannot be read. */
static void read_sums(const struct fn_fastpath *fastpath, int map, uint32_t key, uint64_t *sums, uint32_t words)
{
	uint64_t *values = calloc((size_t)fastpath->options.cpus * words, sizeof(*values));

	memset(sums, 0, words * sizeof(*sums));
	if (values && !map_access(BPF_MAP_LOOKUP_ELEM, map, &key, values))
		for (uint32_t at = 0; at < fastpath->options.cpus * words; at++)
			sums[at % words] += values[at];
	free(values);
}

void fn_fastpath_read_server(const struct fn_fastpath *fastpath, uint16_t counter, struct fn_traffic *traffic)
{
	if (counter)
		read_sums(fastpath, fastpath->options.maps[FN_MAP_SERVERS], counter, (uint64_t *)traffic,
			  sizeof(*traffic) / sizeof(uint64_t));
	else
		memset(traffic, 0, sizeof(*traffic));
}

void fn_fastpath_read_counts(const struct fn_fastpath *fastpath, struct fn_fastpath_counts *counts)
{
	read_sums(fastpath, fastpath->options.maps[FN_MAP_COUNTS], 0, (uint64_t *)counts, sizeof(*counts) / sizeof(uint64_t));
}
