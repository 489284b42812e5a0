// SPDX-License-Identifier: Apache-2.0
/*
 * Persistence: clients of one prefix stay on one server.  Twin of fullnat/core/persist.py, which
 * has the rules; every flow holds its template (hold() and release() of the twin).
 */
#ifndef FULLNAT_NATIVE_PERSIST_H
#define FULLNAT_NATIVE_PERSIST_H

#include "../core/hash.h"
#include "service.h"

struct fn_persistence_table;

/* One client prefix of one service and its server. */
struct fn_template_use {
	const struct fn_server *server;
	struct fn_address prefix;      /* host bits 0 */
	uint8_t prefix_length;
	uint32_t flows;                /* held by so many */
	int64_t deadline;              /* may have passed while flows hold it */
};

struct fn_persistence_table *fn_persistence_table_create(uint32_t capacity, const struct fn_hash_key *key);
void fn_persistence_table_destroy(struct fn_persistence_table *table);
uint32_t fn_persistence_table_count(const struct fn_persistence_table *table);

/* Return the server that *client* stays on, or NULL when the scheduler is to choose. */
struct fn_server *fn_persistence_table_find(struct fn_persistence_table *table, const struct fn_service *service,
					    const struct fn_address *client, int64_t now);
/* Note a new flow from *client* to *server* and keep the template until its release(). */
void fn_persistence_table_hold(struct fn_persistence_table *table, struct fn_server *server,
			       const struct fn_address *client, int64_t now);
/*
 * Undo one hold() because its flow ended; nothing happens if the template went meanwhile.  *mask* is
 * the service's prefix length at the time of the hold.
 */
void fn_persistence_table_release(struct fn_persistence_table *table, struct fn_server *server,
				  const struct fn_address *client, uint8_t mask, int64_t now);
/* Drop the templates that lead to *server*. */
void fn_persistence_table_forget_server(struct fn_persistence_table *table, const struct fn_server *server);
/* Drop what has expired by *now* and return how many there were. */
uint32_t fn_persistence_table_expire(struct fn_persistence_table *table, int64_t now);

/* Fill *use* with the next template; false at the end.  Start with 0. */
bool fn_persistence_table_walk(const struct fn_persistence_table *table, uint64_t *cursor,
			       struct fn_template_use *use);

#endif
