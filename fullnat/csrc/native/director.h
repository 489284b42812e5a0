// SPDX-License-Identifier: Apache-2.0
/*
 * The director: decides every packet.  Twin of fullnat/core/director.py, which has the drawing.
 *
 *     director.c    whose packet it is: a known flow's, a new one's, an ICMP error, a fragment
 *     known.h       what becomes of a packet of a known flow
 *     opening.c     which server and local port a new flow gets, or why none
 *
 * Does no I/O and has no lock: who shares it among threads brings one.  Time is the caller's,
 * monotonic nanoseconds.  Each decision is counted here, once.
 */
#ifndef FULLNAT_NATIVE_DIRECTOR_H
#define FULLNAT_NATIVE_DIRECTOR_H

#include "answer.h"
#include "ended.h"
#include "fastpath.h"
#include "flow.h"
#include "fragment.h"
#include "ident.h"
#include "lport.h"
#include "mtu.h"
#include "persist.h"
#include "sched.h"
#include "service_table.h"
#include "translation.h"

/* What must happen to a packet, and why. */
struct fn_decision {
	enum fn_reason reason;                /* FN_REASON_NONE: ask the scheduler in Python, then answer() */
	struct fn_translation translation;    /* FORWARD */
	const struct fn_service *service;     /* whose scheduler is to be asked */
	const uint8_t *reply;                 /* REPLY: to be sent, until the next call; NULL: only drop */
	uint32_t reply_size;
	struct fn_held *held;                 /* HOLD: to be filled with the engine's copy, at once */
	const struct fn_held *released;       /* packets held earlier that share *later*, until the next call */
	uint32_t released_count;
	enum fn_reason released_reason;
	struct fn_translation released_translation;
};

/* What Python's scheduler said. */
struct fn_choice {
	bool failed;
	bool has_server;      /* else there is none to be had */
	uint32_t server;      /* its id */
};

struct fn_director_options {
	uint32_t flow_limit;
	uint32_t persistence_limit;
	uint32_t fragment_limit;
	const struct fn_address *addresses;       /* LIPs */
	uint32_t address_count;
	uint16_t low, high;                       /* local ports */
	int64_t rest;                             /* nanoseconds */
	bool has_fallback;                        /* the kernel may have connections of our services */
	uint64_t seed;
	struct fn_hash_key hash_key;
	int64_t now;
	struct fn_fastpath *fastpath;             /* becomes the director's; NULL: the kernel carries nothing */
};

struct fn_director {
	struct fn_fastpath *fastpath;                /* where the flows are, or NULL */
	struct fn_flow_table *flows;
	struct fn_lport_pool *pool;
	struct fn_persistence_table *persistence;
	struct fn_fragment_table *fragments;
	struct fn_ended_table *ended;
	struct fn_path_mtu *path_mtu;                /* may be NULL */
	struct fn_service_table services;            /* those served now */
	bool has_fallback;
	uint32_t openings;                           /* new flows it may still open: see fn_director_admit() */
	uint64_t counters[FN_REASONS];
	struct fn_ident ident;
	struct fn_answers answers;
};

/* Return a director without services, or NULL when memory ran out; options->fastpath is then gone. */
struct fn_director *fn_director_create(const struct fn_director_options *options);
/* *drop* is called with every packet that is still held. */
void fn_director_destroy(struct fn_director *director, void (*drop)(void *packet));

/* Serve *service*, which the director then holds; false when its listen is served, or memory ran out. */
bool fn_director_add_service(struct fn_director *director, struct fn_service *service);
/* Open no more flows for *service*; those it has live on. */
void fn_director_remove_service(struct fn_director *director, struct fn_service *service);
/* Use these path MTUs from now on; takes ownership. */
void fn_director_set_path_mtu(struct fn_director *director, struct fn_path_mtu *path_mtu);

/* Allow *openings* new flows until the next call; more are dropped as FN_REASON_OVERLOADED. */
static inline void fn_director_admit(struct fn_director *director, uint32_t openings)
{
	director->openings = openings;
}

/* Return the hash of the flow *view* may belong to: for decide(), and to prefetch it. */
static inline uint64_t fn_director_hash(const struct fn_director *director, const struct fn_view *view)
{
	return fn_flow_table_hash(director->flows, view->protocol, view->key, view->key_size);
}

/* Decide the packet *data* that *view* was parsed from, and count it.  *hash* is fn_director_hash(). */
void fn_director_decide(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
			uint64_t hash, int64_t now, struct fn_decision *decision);

/*
 * Decide a packet for which Python's scheduler was asked.  A flow that opened meanwhile, for an
 * earlier packet of the same client, takes it.
 */
void fn_director_answer(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
			const struct fn_choice *choice, int64_t now, struct fn_decision *decision);

/* Bring counts and timeouts up to the states that the kernel gave flows since the last call. */
void fn_director_catch_up(struct fn_director *director);

/*
 * End and return the next flow of *server*, as fn_flow_table_next_of() meets them; it is out of the
 * table and its server's counts, and the caller frees it.
 */
struct fn_flow *fn_director_end_flow(struct fn_director *director, const struct fn_server *server, uint64_t *cursor,
				     uint64_t *budget, int64_t now);

/* End idle flows, about *budget* looked at; true when there may be more. */
bool fn_director_expire_flows(struct fn_director *director, int64_t now, uint64_t budget);
/* Expire templates and held fragments; return how many held packets are dropped, as settle() does. */
int fn_director_expire_rest(struct fn_director *director, int64_t now, const struct fn_held **dropped);

#endif
