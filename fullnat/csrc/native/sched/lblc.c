// SPDX-License-Identifier: Apache-2.0
/*
 * lblc, locality-based least connection: one server a virtual address, until it is crowded.
 *
 * Twin of fullnat/core/sched/lblc.py.
 */
#include "builtin.h"
#include "locality.h"

/* The server remembered for the virtual address, else the wlc one. */
struct locality_least_connection {
	struct fn_locality locality;
	struct fn_locality_entry entry;
	uint32_t remembered_id;         /* what is remembered: a server out of the list may be freed */
	struct fn_server *remembered;   /* NULL while it is not listed */
};

static void remember(struct locality_least_connection *lblc, struct fn_server *server, int64_t now)
{
	fn_locality_put(&lblc->entry, now);
	lblc->remembered_id = server->id;
	lblc->remembered = server;
}

static bool attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count)
{
	struct locality_least_connection *lblc = (struct locality_least_connection *)scheduler;

	if (!fn_locality_attach(scheduler, servers, count))
		return false;
	lblc->remembered = NULL;
	for (uint32_t position = 0; position < count; position++)
		if (lblc->entry.exists && servers[position]->id == lblc->remembered_id)
			lblc->remembered = servers[position];
	return true;
}

static bool is_good(const struct locality_least_connection *lblc, const struct fn_server *server)
{
	return server && fn_server_is_available(server) && !fn_locality_is_crowded(&lblc->locality, server);
}

/* Return the server of this virtual address. */
static struct fn_server *schedule(struct fn_scheduler *scheduler, const struct fn_request *request)
{
	struct locality_least_connection *lblc = (struct locality_least_connection *)scheduler;
	struct fn_server *server;

	if (fn_locality_use(&lblc->entry, request->now) && is_good(lblc, lblc->remembered))
		return lblc->remembered;
	server = fn_ranked_schedule(scheduler, request);
	if (server)
		remember(lblc, server, request->now);
	return server;
}

const struct fn_scheduler_class fn_scheduler_lblc = {
	.name = "lblc",
	.size = sizeof(struct locality_least_connection),
	.init = fn_locality_init,
	.attach = attach,
	.server_changed = fn_locality_server_changed,
	.flows_changed = fn_locality_server_changed,
	.schedule = schedule,
	.free = fn_locality_free,
};
