// SPDX-License-Identifier: Apache-2.0
/* The services that are served now.  See service_table.h for the contract. */
#include "service_table.h"

#include <stdlib.h>

bool fn_service_table_init(struct fn_service_table *table, const struct fn_hash_key *key)
{
	table->places = calloc(2, sizeof(*table->places));
	table->mask = 1;
	table->count = 0;
	table->key = *key;
	return table->places;
}

/* Give up *service*.  Its list goes first: the servers in it hold the service. */
static void let_go(struct fn_service *service)
{
	fn_service_set_servers(service, NULL, 0);
	fn_service_release(service);
}

void fn_service_table_free(struct fn_service_table *table)
{
	for (uint32_t at = 0; table->places && at <= table->mask; at++)
		if (table->places[at])
			let_go(table->places[at]);
	free(table->places);
	table->places = NULL;
}

static uint32_t home(const struct fn_service_table *table, uint8_t protocol, const uint8_t *address, uint32_t size,
		     uint16_t port)
{
	uint8_t key[20];

	memcpy(key, address, size);
	fn_bytes_store32(key + size, (uint32_t)protocol << 16 | port);
	return (uint32_t)fn_hash(&table->key, key, size + 4, 0) & table->mask;
}

struct fn_service *fn_service_table_find(const struct fn_service_table *table, uint8_t protocol,
					 const uint8_t *address, uint32_t size, uint16_t port)
{
	uint32_t at = home(table, protocol, address, size, port);
	struct fn_service *service;

	for (; (service = table->places[at]); at = (at + 1) & table->mask)
		if (service->protocol == protocol && service->listen.port == port &&
		    service->listen.address.size == size && !memcmp(service->listen.address.bytes, address, size))
			return service;
	return NULL;
}

bool fn_service_table_has(const struct fn_service_table *table, const struct fn_address *address)
{
	for (uint32_t at = 0; at <= table->mask; at++)
		if (table->places[at] && fn_address_equal(&table->places[at]->listen.address, address))
			return true;
	return false;
}

/* Put *service* where it is found; there is room. */
static void place(struct fn_service_table *table, struct fn_service *service)
{
	const struct fn_address *address = &service->listen.address;
	uint32_t at = home(table, service->protocol, address->bytes, address->size, service->listen.port);

	while (table->places[at])
		at = (at + 1) & table->mask;
	table->places[at] = service;
}

static bool grow(struct fn_service_table *table)
{
	struct fn_service **old = table->places, **new = calloc(2 * ((size_t)table->mask + 1), sizeof(*new));
	uint32_t old_mask = table->mask;

	if (!new)
		return false;
	table->places = new;
	table->mask = 2 * old_mask + 1;
	for (uint32_t at = 0; at <= old_mask; at++)
		if (old[at])
			place(table, old[at]);
	free(old);
	return true;
}

bool fn_service_table_add(struct fn_service_table *table, struct fn_service *service)
{
	const struct fn_address *address = &service->listen.address;

	if (fn_service_table_find(table, service->protocol, address->bytes, address->size, service->listen.port))
		return false;
	if ((table->count + 1) * 2 > table->mask + 1 && !grow(table))
		return false;
	place(table, service);
	service->holders++;
	table->count++;
	return true;
}

void fn_service_table_remove(struct fn_service_table *table, struct fn_service *service)
{
	uint32_t at = 0;

	while (at <= table->mask && table->places[at] != service)
		at++;
	if (at > table->mask)
		return;
	table->places[at] = NULL;
	table->count--;
	/* Those that stand behind the gap may belong before it. */
	for (uint32_t next = (at + 1) & table->mask; table->places[next]; next = (next + 1) & table->mask) {
		struct fn_service *moved = table->places[next];

		table->places[next] = NULL;
		place(table, moved);
	}
	let_go(service);
}
