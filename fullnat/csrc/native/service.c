// SPDX-License-Identifier: Apache-2.0
/* Services and servers.  See service.h for the contract and fullnat/core/service.py for the rules. */
#include "service.h"

#include <stdlib.h>

#include "sched.h"

struct fn_service *fn_service_create(uint32_t id, uint8_t protocol, const struct fn_endpoint *listen,
				     struct fn_scheduler *scheduler)
{
	struct fn_service *service = calloc(1, sizeof(*service));

	if (!service)
		return NULL;
	service->id = id;
	service->holders = 1;
	service->protocol = protocol;
	service->listen = *listen;
	service->scheduler = scheduler;
	return service;
}

void fn_service_release(struct fn_service *service)
{
	if (--service->holders)
		return;
	fn_scheduler_destroy(service->scheduler);
	free(service->servers);
	free(service);
}

struct fn_server *fn_server_create(struct fn_service *service, uint32_t id, const struct fn_endpoint *endpoint,
				   const struct fn_server_settings *settings)
{
	struct fn_server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	service->holders++;
	server->service = service;
	server->endpoint = *endpoint;
	server->id = id;
	server->holders = 1;
	server->weight = settings->weight;
	server->configured_weight = settings->configured_weight;
	server->upper = settings->upper;
	server->lower = settings->lower;
	server->may_keep = settings->may_keep;
	return server;
}

void fn_server_release(struct fn_server *server)
{
	if (--server->holders)
		return;
	fn_service_release(server->service);
	free(server);
}

static void set_positions(struct fn_server *const *servers, uint32_t count)
{
	for (uint32_t position = 0; position < count; position++)
		servers[position]->position = position;
}

/* Have the list of *service* be *servers*, which its scheduler has taken; the old one is let go. */
static void take_list(struct fn_service *service, struct fn_server **servers, uint32_t count)
{
	struct fn_server **old = service->servers;
	uint32_t old_count = service->count;

	service->servers = servers;
	service->count = count;
	if (service->scheduler) {
		service->scheduler->servers = servers;
		service->scheduler->count = count;
	}
	for (uint32_t at = 0; at < old_count; at++)
		old[at]->is_listed = false;
	for (uint32_t at = 0; at < count; at++) {
		servers[at]->is_listed = true;
		fn_server_hold(servers[at]);
	}
	for (uint32_t at = 0; at < old_count; at++)
		fn_server_release(old[at]);
	free(old);
}

bool fn_service_set_servers(struct fn_service *service, struct fn_server *const *servers, uint32_t count)
{
	struct fn_scheduler *scheduler = service->scheduler;
	struct fn_server **list = NULL;

	if (count) {
		list = calloc(count, sizeof(*list));
		if (!list)
			return false;
		memcpy(list, servers, count * sizeof(*list));
	}
	set_positions(list, count);
	if (scheduler && !scheduler->class->attach(scheduler, list, count)) {
		set_positions(service->servers, service->count);
		free(list);
		return false;
	}
	take_list(service, list, count);
	return true;
}

void fn_service_set(struct fn_service *service, const struct fn_service_settings *settings)
{
	memcpy(service->timeouts, settings->timeouts, sizeof(service->timeouts));
	service->is_persistent = settings->is_persistent;
	service->persistence_timeout = settings->persistence_timeout;
	service->persistence_mask = settings->persistence_mask;
	service->one_packet = settings->one_packet;
}

bool fn_service_set_scheduler(struct fn_service *service, struct fn_scheduler *scheduler)
{
	if (scheduler && !scheduler->class->attach(scheduler, service->servers, service->count))
		return false;
	if (scheduler) {
		scheduler->servers = service->servers;
		scheduler->count = service->count;
	}
	fn_scheduler_destroy(service->scheduler);
	service->scheduler = scheduler;
	return true;
}

/* Have the scheduler hear of *server*, unless it may pick another at that position by now. */
static void tell_server_changed(struct fn_server *server)
{
	struct fn_scheduler *scheduler = server->service->scheduler;

	if (server->is_listed && scheduler && scheduler->class->server_changed)
		scheduler->class->server_changed(scheduler, server);
}

static void tell_flows_changed(struct fn_server *server)
{
	struct fn_scheduler *scheduler = server->service->scheduler;

	if (scheduler && scheduler->class->flows_changed)
		scheduler->class->flows_changed(scheduler, server);
}

static void set_overloaded(struct fn_server *server, bool overloaded)
{
	if (overloaded == server->overloaded)
		return;
	server->overloaded = overloaded;
	tell_server_changed(server);
}

/* Whether so many flows end an overload. */
static bool is_below_lower(const struct fn_server *server)
{
	return fn_server_flows(server) < (server->lower ? server->lower : 1);
}

static bool reaches_upper(const struct fn_server *server)
{
	return server->upper && fn_server_flows(server) >= server->upper;
}

static void set_thresholds(struct fn_server *server, uint32_t upper, uint32_t lower)
{
	bool stays = server->overloaded && upper && upper <= server->upper;

	server->upper = upper;
	server->lower = lower;
	set_overloaded(server, stays ? !is_below_lower(server) : reaches_upper(server));
}

void fn_service_set_server(struct fn_server *server, const struct fn_server_settings *settings)
{
	server->configured_weight = settings->configured_weight;
	server->may_keep = settings->may_keep;
	if (server->weight != settings->weight) {
		server->weight = settings->weight;
		tell_server_changed(server);
	}
	set_thresholds(server, settings->upper, settings->lower);
}

void fn_service_flow_opened(struct fn_server *server)
{
	server->connections++;
	server->inactive++;
	if (reaches_upper(server))
		set_overloaded(server, true);
	tell_flows_changed(server);
}

void fn_service_flow_adopted(struct fn_server *server, bool is_active)
{
	if (is_active)
		server->active++;
	else
		server->inactive++;
	if (reaches_upper(server))
		set_overloaded(server, true);
	tell_flows_changed(server);
}

void fn_service_flow_activated(struct fn_server *server)
{
	server->inactive--;
	server->active++;
	tell_flows_changed(server);
}

void fn_service_flow_deactivated(struct fn_server *server)
{
	server->active--;
	server->inactive++;
	tell_flows_changed(server);
}

void fn_service_flow_ended(struct fn_server *server, bool was_active)
{
	if (was_active)
		server->active--;
	else
		server->inactive--;
	if (is_below_lower(server))
		set_overloaded(server, false);
	tell_flows_changed(server);
}
