// SPDX-License-Identifier: Apache-2.0
/*
 * Fragments: only the first of a datagram has ports, the others follow its decision.
 *
 * Twin of fullnat/core/fragment.py, which has the rules.  Of a flow it remembers key and server, not
 * the flow, which may end first.
 */
#ifndef FULLNAT_NATIVE_FRAGMENT_H
#define FULLNAT_NATIVE_FRAGMENT_H

#include "../core/hash.h"
#include "service.h"
#include "translation.h"

enum {
	FN_HELD_LIMIT = 512,           /* fragments held in all */
	FN_HELD_PER_DATAGRAM = 64,     /* a datagram of 64 KiB in fragments of 1 KiB */
};

/* What later fragments of a datagram share. */
struct fn_later {
	enum fn_reason reason;
	struct fn_translation translation;   /* when forwarded: and also what follows */
	struct fn_server *server;            /* counted for it; held while the datagram is remembered */
	int64_t opened;                      /* when its flow was: a later one may have the same key */
	uint8_t old_key[FN_KEY_MAX];         /* of its flow */
	uint8_t direction;                   /* enum fn_direction */
	bool one_packet;                     /* of its flow */
};

/* A packet that waits for the first fragment of its datagram. */
struct fn_held {
	uint64_t token;
	uint32_t size;    /* bytes of the packet */
	void *packet;     /* the engine's copy: set after HOLD, freed by the engine after release */
};

struct fn_fragment_table;

struct fn_fragment_table *fn_fragment_table_create(uint32_t limit, const struct fn_hash_key *key);
/* *drop* is called with the engine's copy of every packet still held. */
void fn_fragment_table_destroy(struct fn_fragment_table *table, void (*drop)(void *packet));
uint32_t fn_fragment_table_count(const struct fn_fragment_table *table);
uint32_t fn_fragment_table_held(const struct fn_fragment_table *table);

/*
 * Decide a fragment that is not the first: FN_REASON_FRAGMENT_HELD and *held* to be filled,
 * FN_REASON_FRAGMENT_LIMIT, or what came of the first and then *later* is set.
 */
enum fn_reason fn_fragment_table_decide_later(struct fn_fragment_table *table, const struct fn_view *view,
					      int64_t now, const struct fn_later **later, struct fn_held **held);

/*
 * Have the rest of the datagram of *view* share *later*: return how many packets this releases, which
 * are then in *released* until the next call, or -1 when the table is full.
 */
int fn_fragment_table_settle(struct fn_fragment_table *table, const struct fn_view *view,
			     const struct fn_later *later, int64_t now, const struct fn_held **released);

/* Forward no more fragments in flows of *server*; looks at all datagrams. */
void fn_fragment_table_forget_server(struct fn_fragment_table *table, const struct fn_server *server);

/* Forget old datagrams; return how many held packets this drops, in *dropped* until the next call. */
int fn_fragment_table_expire(struct fn_fragment_table *table, int64_t now, const struct fn_held **dropped);

#endif
