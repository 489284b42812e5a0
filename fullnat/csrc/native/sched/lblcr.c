// SPDX-License-Identifier: Apache-2.0
/*
 * lblcr, locality-based least connection with replication: a set of servers a virtual address.
 *
 * Twin of fullnat/core/sched/lblcr.py, which has the rules.  There is one set here (see locality.h),
 * whose memory attach() takes, so that a pick never allocates.
 */
#include <stdlib.h>

#include "builtin.h"
#include "load.h"
#include "locality.h"
#include "wlc.h"

/* Servers of the virtual address, the least loaded at hand. */
struct server_set {
	uint64_t *joined;             /* by position: the number under which it joined, or 0 */
	uint64_t joins;
	uint32_t count;
	struct fn_tournament ranks;
	int64_t changed_at;
};

/* The least loaded server of the virtual address's set, which grows and shrinks. */
struct replicated_locality {
	struct fn_locality locality;
	struct fn_locality_entry entry;   /* whether the set exists */
	struct server_set set;
};

static fn_tournament_key key_of(const struct server_set *set, const struct fn_server *server, uint32_t position)
{
	uint64_t number = set->joined[position];

	if (!number || !fn_server_is_available(server))
		return FN_TOURNAMENT_ABSENT;
	return (fn_wlc_rank(server) << 32) - number;   /* on equal load the newest is least */
}

static bool set_init(struct server_set *set, uint32_t count)
{
	*set = (struct server_set){ .joined = count ? calloc(count, sizeof(*set->joined)) : NULL };
	if ((!count || set->joined) && fn_tournament_init(&set->ranks, count))
		return true;
	free(set->joined);
	return false;
}

static void set_free(struct server_set *set)
{
	free(set->joined);
	fn_tournament_free(&set->ranks);
}

/* Have *set* keep what is still listed of *old*, whose servers are those of *scheduler*. */
static void set_keep(struct server_set *set, const struct server_set *old, const struct fn_scheduler *scheduler,
		     struct fn_server *const *servers, uint32_t count)
{
	set->joins = old->joins;
	set->changed_at = old->changed_at;
	for (uint32_t at = 0; at < scheduler->count; at++) {
		uint32_t position = scheduler->servers[at]->position;

		if (!old->joined[at] || position >= count || servers[position] != scheduler->servers[at])
			continue;
		set->joined[position] = old->joined[at];
		set->count++;
	}
	for (uint32_t position = 0; position < count; position++)
		set->ranks.keys[position] = key_of(set, servers[position], position);
	fn_tournament_settle(&set->ranks);
}

/* Begin a set without servers. */
static void set_clear(struct server_set *set, uint32_t count)
{
	for (uint32_t position = 0; position < count; position++) {
		set->joined[position] = 0;
		set->ranks.keys[position] = FN_TOURNAMENT_ABSENT;
	}
	fn_tournament_settle(&set->ranks);
	set->joins = 0;
	set->count = 0;
	set->changed_at = 0;
}

static void set_rank(struct server_set *set, const struct fn_server *server)
{
	if (set->joined[server->position])
		fn_tournament_set(&set->ranks, server->position, key_of(set, server, server->position));
}

static void set_add(struct server_set *set, const struct fn_server *server, int64_t now)
{
	if (set->joined[server->position])
		return;
	set->joined[server->position] = ++set->joins;
	set->count++;
	set->changed_at = now;
	set_rank(set, server);
}

/* Return the most loaded server of *set* that has a weight, the newest on equal load, or NULL. */
static const struct fn_server *most_loaded(const struct server_set *set, const struct fn_scheduler *scheduler)
{
	const struct fn_server *loaded = NULL;

	for (uint32_t position = 0; position < scheduler->count; position++) {
		const struct fn_server *server = scheduler->servers[position];
		fn_tournament_key load, most;

		if (!set->joined[position] || !server->weight)
			continue;
		load = fn_wlc_rank(server);
		most = loaded ? fn_wlc_rank(loaded) : -1;
		if (load > most || (load == most && set->joined[position] > set->joined[loaded->position]))
			loaded = server;
	}
	return loaded;
}

/* Let the most loaded server go if the set is large and has long been as it is. */
static void set_shrink(struct server_set *set, const struct fn_scheduler *scheduler, int64_t now)
{
	const struct fn_server *loaded;

	if (set->count < 2 || now - set->changed_at <= FN_LOCALITY_EXPIRATION)
		return;
	loaded = most_loaded(set, scheduler);
	if (!loaded)
		return;
	set->changed_at = now;
	set->joined[loaded->position] = 0;
	set->count--;
	fn_tournament_set(&set->ranks, loaded->position, FN_TOURNAMENT_ABSENT);
}

/* Keep in the set the servers that are still listed. */
static bool attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count)
{
	struct replicated_locality *lblcr = (struct replicated_locality *)scheduler;
	struct server_set set;

	if (!set_init(&set, count))
		return false;
	if (!fn_locality_attach(scheduler, servers, count)) {
		set_free(&set);
		return false;
	}
	set_keep(&set, &lblcr->set, scheduler, servers, count);
	set_free(&lblcr->set);
	lblcr->set = set;
	return true;
}

/* Rank *server* anew, in all and in the set. */
static void server_changed(struct fn_scheduler *scheduler, struct fn_server *server)
{
	fn_locality_server_changed(scheduler, server);
	if (fn_scheduler_is_attached(scheduler, server))
		set_rank(&((struct replicated_locality *)scheduler)->set, server);
}

/* Return the server for this virtual address. */
static struct fn_server *schedule(struct fn_scheduler *scheduler, const struct fn_request *request)
{
	struct replicated_locality *lblcr = (struct replicated_locality *)scheduler;
	struct fn_server *server;

	if (fn_locality_use(&lblcr->entry, request->now)) {
		uint32_t position = fn_tournament_least(&lblcr->set.ranks);

		set_shrink(&lblcr->set, scheduler, request->now);
		server = position == FN_NO_POSITION ? NULL : scheduler->servers[position];
		if (server && !fn_locality_is_crowded(&lblcr->locality, server))
			return server;
	}
	server = fn_ranked_schedule(scheduler, request);
	if (!server)
		return NULL;
	if (!lblcr->entry.exists) {
		set_clear(&lblcr->set, scheduler->count);
		fn_locality_put(&lblcr->entry, request->now);
	}
	set_add(&lblcr->set, server, request->now);
	return server;
}

static void free_set(struct fn_scheduler *scheduler)
{
	set_free(&((struct replicated_locality *)scheduler)->set);
	fn_locality_free(scheduler);
}

const struct fn_scheduler_class fn_scheduler_lblcr = {
	.name = "lblcr",
	.size = sizeof(struct replicated_locality),
	.init = fn_locality_init,
	.attach = attach,
	.server_changed = server_changed,
	.flows_changed = server_changed,
	.schedule = schedule,
	.free = free_set,
};
