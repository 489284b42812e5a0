// SPDX-License-Identifier: Apache-2.0
/* Base of the schedulers that look a hash up in a table of servers.  See table.h for the contract. */
#include "table.h"

#include <stdlib.h>

#include "hashing.h"
#include "load.h"

enum { PROBES = 16 };

/*
 * Fill in the latest weights of *servers*.  The configured weight, so that a server that is down from
 * the start has its place; 0 says nothing, and one that was in the list keeps what was known of it.
 */
static void find_latest_weights(const struct fn_table *table, uint32_t *latest, struct fn_server *const *servers,
				uint32_t count)
{
	const struct fn_scheduler *old = &table->scheduler;

	for (uint32_t at = 0; at < old->count; at++) {
		uint32_t position = old->servers[at]->position;

		if (position < count && servers[position] == old->servers[at])
			latest[position] = table->latest_weights[at];
	}
	for (uint32_t position = 0; position < count; position++)
		if (servers[position]->configured_weight)
			latest[position] = servers[position]->configured_weight;
}

/* Have the table built for *servers*. */
bool fn_table_attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count)
{
	struct fn_table *table = (struct fn_table *)scheduler;
	uint32_t *places = NULL, *latest = NULL;
	struct fn_cumulative available;

	if (count) {
		places = calloc(table->size_for(count), sizeof(*places));
		latest = calloc(count, sizeof(*latest));
		if (!places || !latest)
			goto out_of_memory;
	}
	if (!fn_cumulative_init(&available, servers, count))
		goto out_of_memory;
	find_latest_weights(table, latest, servers, count);
	fn_table_free(scheduler);
	table->places = places;
	table->latest_weights = latest;
	table->available = available;
	table->is_stale = true;
	return true;

out_of_memory:
	free(places);
	free(latest);
	return false;
}

/* Take note of the availability of *server*; have the table rebuilt if its weight changed. */
void fn_table_server_changed(struct fn_scheduler *scheduler, struct fn_server *server)
{
	struct fn_table *table = (struct fn_table *)scheduler;
	uint32_t position = server->position;

	if (!fn_scheduler_is_attached(scheduler, server))
		return;
	fn_cumulative_set(&table->available, position, fn_load_share(server));
	if (server->weight && server->weight != table->latest_weights[position]) {
		table->latest_weights[position] = server->weight;
		table->is_stale = true;
	}
}

static void build(struct fn_table *table)
{
	uint32_t count = table->scheduler.count, size = count ? table->size_for(count) : 0;

	table->size = count && table->build(table, table->places, size) ? size : 0;
	table->is_stale = false;
}

static struct fn_server *look_up(const struct fn_table *table, uint64_t value)
{
	return table->scheduler.servers[table->places[value % table->size]];
}

static struct fn_server *substitute(const struct fn_table *table, uint64_t value)
{
	uint64_t total = table->available.total;

	if (!total)
		return NULL;
	for (uint32_t attempt = 1; attempt <= PROBES; attempt++) {
		struct fn_server *server = look_up(table, fn_hashing_rehash(value, attempt));

		if (fn_server_is_available(server))
			return server;
	}
	return table->scheduler.servers[fn_cumulative_find(&table->available, fn_hashing_rehash(value, 0) % total)];
}

/* Return the server of this hash, or its substitute. */
struct fn_server *fn_table_schedule(struct fn_scheduler *scheduler, const struct fn_request *request)
{
	struct fn_table *table = (struct fn_table *)scheduler;
	struct fn_server *server;
	uint64_t value;

	if (table->is_stale)
		build(table);
	if (!table->size)
		return NULL;
	value = table->hash_request(table, request);
	server = look_up(table, value);
	if (fn_server_is_available(server))
		return server;
	return scheduler->flags & FN_SCHEDULER_FALLBACK ? substitute(table, value) : NULL;
}

void fn_table_free(struct fn_scheduler *scheduler)
{
	struct fn_table *table = (struct fn_table *)scheduler;

	free(table->places);
	free(table->latest_weights);
	fn_cumulative_free(&table->available);
}

uint64_t fn_table_hash_client(const struct fn_table *table, const struct fn_request *request)
{
	uint16_t port = table->scheduler.flags & FN_SCHEDULER_PORT ? request->client.port : 0;

	return fn_hashing_hash_endpoint(&request->client.address, port, 0);
}
