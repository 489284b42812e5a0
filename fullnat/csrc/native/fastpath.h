// SPDX-License-Identifier: Apache-2.0
/*
 * The fast path's side of us: flow memory and counters that lie in maps of the kernel.
 *
 *     engine --decides, writes flows--> [ maps ] <--finds, counts, follows states-- program on the devices
 *
 * The maps are made and pinned by who loads the program (fullnat/host/fastpath.py), and outlive this
 * process with the program; csrc/core/flow_record.h has the rules of what both sides write.
 *
 * Flows lie in arrays that are mapped into this process, one a chunk, which the program finds in an
 * array of maps.  So a flow that opens costs no system call.
 */
#ifndef FULLNAT_NATIVE_FASTPATH_H
#define FULLNAT_NATIVE_FASTPATH_H

#include "../core/fastpath_maps.h"
#include "flow_memory.h"

struct fn_fastpath;

/* Maps, in the order that Python passes their descriptors in. */
enum fn_fastpath_map {
	FN_MAP_ENTRIES,
	FN_MAP_CHANGED4,        /* and the other family's behind it */
	FN_MAP_CHANGED6,
	FN_MAP_CHUNKS4,
	FN_MAP_CHUNKS6,
	FN_MAP_SERVERS,
	FN_MAP_COUNTS,
	FN_MAPS,
};

struct fn_fastpath_options {
	int maps[FN_MAPS];      /* descriptors, which stay the caller's: they are duplicated */
	uint32_t limit;         /* flows the maps were made for */
	uint32_t servers;       /* counters there are */
	uint32_t cpus;          /* possible ones: values a counter has */
};

/* Map what is there; NULL, with errno set, when the kernel or memory will not. */
struct fn_fastpath *fn_fastpath_create(const struct fn_fastpath_options *options);
/* Let go of it: after the flow table that uses its memory. */
void fn_fastpath_destroy(struct fn_fastpath *fastpath);

/* Return how many flows the maps were made for. */
uint32_t fn_fastpath_limit(const struct fn_fastpath *fastpath);

/* Return the memory for a flow table, whose destroy() leaves all there is in it. */
struct fn_flow_memory *fn_fastpath_memory(struct fn_fastpath *fastpath);

/* Return a counter for a server, reset, or 0 when all are taken. */
uint16_t fn_fastpath_take_counter(struct fn_fastpath *fastpath);
void fn_fastpath_give_counter(struct fn_fastpath *fastpath, uint16_t counter);

/* Set *traffic* to what the kernel counted for a server; all 0 for counter 0.  Needs no lock. */
void fn_fastpath_read_server(const struct fn_fastpath *fastpath, uint16_t counter, struct fn_traffic *traffic);
/* Set *counts* to what the program did with packets.  Needs no lock. */
void fn_fastpath_read_counts(const struct fn_fastpath *fastpath, struct fn_fastpath_counts *counts);

#endif
