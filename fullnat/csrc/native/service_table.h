// SPDX-License-Identifier: Apache-2.0
/* The services that are served now, found by what a packet is addressed to. */
#ifndef FULLNAT_NATIVE_SERVICE_TABLE_H
#define FULLNAT_NATIVE_SERVICE_TABLE_H

#include "../core/hash.h"
#include "service.h"

struct fn_service_table {
	struct fn_service **places;   /* open addressing, never more than half full */
	uint32_t mask;
	uint32_t count;
	struct fn_hash_key key;
};

/* Make *table* empty; false when memory ran out. */
bool fn_service_table_init(struct fn_service_table *table, const struct fn_hash_key *key);
void fn_service_table_free(struct fn_service_table *table);   /* removes all services */

/* Add *service*, which the table then holds; false when its listen is taken, or memory ran out. */
bool fn_service_table_add(struct fn_service_table *table, struct fn_service *service);
/* Take *service* and its list of servers away; those with flows or templates live on. */
void fn_service_table_remove(struct fn_service_table *table, struct fn_service *service);

/* Return the service of *protocol* at *address* (of *size* bytes) and *port* (host order), or NULL. */
struct fn_service *fn_service_table_find(const struct fn_service_table *table, uint8_t protocol,
					 const uint8_t *address, uint32_t size, uint16_t port);
/* Return whether any service is served at *address*; a walk over all of them. */
bool fn_service_table_has(const struct fn_service_table *table, const struct fn_address *address);

#endif
