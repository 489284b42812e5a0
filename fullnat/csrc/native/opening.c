// SPDX-License-Identifier: Apache-2.0
/* How a flow is opened.  See opening.h for the contract and fullnat/core/director.py for the rules. */
#include "opening.h"

#include "known.h"

static void refuse(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
		   enum fn_reason reason, int64_t now, struct fn_decision *decision)
{
	decision->reason = reason;
	if (fn_reason_verdict[reason] != FN_VERDICT_REPLY)
		return;
	decision->reply_size = fn_answers_refuse(&director->answers, view, data, reason, false, now);
	decision->reply = decision->reply_size ? director->answers.packet : NULL;
}

static struct fn_server *find_server(const struct fn_service *service, uint32_t id)
{
	for (uint32_t at = 0; at < service->count; at++)
		if (service->servers[at]->id == id)
			return service->servers[at];
	return NULL;
}

/*
 * Choose the server for a new flow: set *server*, or return why there is none.
 *
 * FN_REASON_NONE with no server: only Python can say, and *choice* is NULL because it was not asked.
 */
static enum fn_reason choose_server(struct fn_director *director, struct fn_service *service,
				    const struct fn_request *request, const struct fn_choice *choice,
				    struct fn_server **server)
{
	*server = NULL;
	if (service->is_persistent) {
		*server = fn_persistence_table_find(director->persistence, service, &request->client.address,
						    request->now);
		if (*server)
			return FN_REASON_NONE;
	}
	if (service->scheduler) {
		*server = service->scheduler->class->schedule(service->scheduler, request);
		return *server ? FN_REASON_NONE : FN_REASON_NO_SERVER;
	}
	if (!choice)
		return FN_REASON_NONE;
	if (choice->failed)
		return FN_REASON_SCHEDULER_FAILED;
	if (choice->has_server)
		*server = find_server(service, choice->server);
	return *server ? FN_REASON_NONE : FN_REASON_NO_SERVER;
}

/* The local end of a new flow; of the one it replaces, if that went to the same server. */
struct local {
	const struct fn_server *server;   /* of the previous flow, or NULL */
	uint16_t lip;
	uint16_t port;
};

static bool allocate_local(struct fn_director *director, struct fn_server *server,
			   const struct fn_address *client, int64_t now, struct local *local)
{
	/*
	 * The same client, server and ports: the client's own clock and sequence numbers go on, which
	 * is what lets the server leave TIME-WAIT (RFC 6191).
	 */
	if (local->server == server)
		return true;
	return fn_lport_pool_allocate(director->pool, server->ports, client, now, &local->lip, &local->port);
}

static struct fn_flow *add_flow(struct fn_director *director, const struct fn_view *view,
				struct fn_server *server, const struct local *local, int64_t now)
{
	struct fn_endpoint lip = { *fn_lport_pool_address(director->pool, local->lip), local->port };
	const int64_t *timeouts = server->service->timeouts;
	uint8_t outbound_key[FN_KEY_MAX];
	struct fn_flow_opening opening = {
		.server = server,
		.inbound_key = view->key,
		.outbound_key = outbound_key,
		.key_size = view->key_size,
		.lip = local->lip,
		.timeout = timeouts[view->protocol == FN_TCP ? FN_TIMEOUT_TCP_OPENING : FN_TIMEOUT_UDP_UNREPLIED],
	};

	fn_endpoint_key(outbound_key, &server->endpoint, &lip);
	if (view->protocol == FN_TCP)
		opening.mss = fn_known_mss_limit(director, view->family, view->key, outbound_key);
	return fn_flow_table_add(director->flows, &opening, now);
}

/* Open a flow for *view*; *previous* is what it replaces, or has no server. */
static struct fn_flow *open_flow(struct fn_director *director, struct fn_service *service,
				 const struct fn_view *view, const uint8_t *data, const struct fn_choice *choice,
				 int64_t now, enum fn_reason reason, struct local previous,
				 struct fn_decision *decision)
{
	struct fn_request request = { fn_endpoint_source(view->key, view->key_size), service->listen,
				      service->protocol, now };
	struct fn_server *server;
	struct fn_flow *flow;
	enum fn_reason refusal = choose_server(director, service, &request, choice, &server);

	if (!server) {
		decision->service = service;
		if (refusal == FN_REASON_NONE)
			decision->reason = FN_REASON_NONE;
		else
			refuse(director, view, data, refusal, now, decision);
		return NULL;
	}
	if (service->one_packet) {
		flow = fn_flow_table_find_one_packet(director->flows, view->key, view->key_size, server);
		if (flow) {
			flow->last_seen = now;
			fn_known_count(flow, FN_INBOUND, view->length);
			fn_known_forward(director, flow, FN_INBOUND, view, FN_REASON_FLOW_INBOUND, decision);
			return flow;
		}
		if (!director->openings) {
			decision->reason = FN_REASON_OVERLOADED;
			return NULL;
		}
	}
	if (fn_flow_table_is_full(director->flows)) {
		refuse(director, view, data, FN_REASON_TABLE_FULL, now, decision);
		return NULL;
	}
	if (!allocate_local(director, server, &request.client.address, now, &previous)) {
		refuse(director, view, data, FN_REASON_NO_LOCAL_PORT, now, decision);
		return NULL;
	}
	flow = add_flow(director, view, server, &previous, now);
	if (!flow) {
		if (previous.server != server)
			fn_lport_pool_release(director->pool, server->ports, previous.lip, previous.port, now, 0);
		refuse(director, view, data, FN_REASON_TABLE_FULL, now, decision);
		return NULL;
	}
	director->openings--;
	fn_service_flow_opened(server);
	if (service->is_persistent) {
		fn_persistence_table_hold(director->persistence, server, &request.client.address, now);
		flow->held_mask = service->persistence_mask;
	}
	fn_known_count(flow, FN_INBOUND, view->length);
	fn_known_forward(director, flow, FN_INBOUND, view, reason, decision);
	return flow;
}

/* Whether a new flow of *service* cannot be decided here: its scheduler is in Python and was not asked. */
static bool needs_python(struct fn_director *director, const struct fn_service *service,
			 const struct fn_view *view, const struct fn_choice *choice, int64_t now)
{
	struct fn_endpoint client = fn_endpoint_source(view->key, view->key_size);

	if (service->scheduler || choice)
		return false;
	return !service->is_persistent ||
	       !fn_persistence_table_find(director->persistence, service, &client.address, now);
}

struct fn_flow *fn_opening_replace(struct fn_director *director, struct fn_flow *flow, const struct fn_view *view,
				   const uint8_t *data, const struct fn_choice *choice, int64_t now,
				   struct fn_decision *decision)
{
	struct fn_service *service = flow->server->service;
	struct fn_endpoint end = fn_endpoint_destination(fn_flow_key(flow, FN_OUTBOUND), flow->key_size);
	struct local local = { flow->server, flow->lip, end.port };
	struct fn_flow *opened;

	if (!director->openings) {
		decision->reason = FN_REASON_OVERLOADED;
		return NULL;
	}
	if (needs_python(director, service, view, choice, now)) {
		decision->reason = FN_REASON_NONE;
		decision->service = service;
		return NULL;
	}
	fn_flow_table_remove(director->flows, flow);
	fn_known_uncount(director, flow, now);
	opened = open_flow(director, service, view, data, choice, now, FN_REASON_FLOW_REOPENED, local, decision);
	if (!opened || opened->server != flow->server)
		fn_known_release_local(director, flow, flow->last_seen, now);
	fn_flow_table_free(director->flows, flow);
	return opened;
}

/*
 * Reset *view* if it is of a flow that we ended; whether it is.  A SYN is about the next connection,
 * and a RST needs no answer (RFC 9293, section 3.5.2).
 */
static bool answer_ended(struct fn_director *director, const struct fn_view *view, const uint8_t *data, int64_t now,
			 struct fn_decision *decision)
{
	bool is_first;

	if (view->protocol != FN_TCP || view->flags & FN_RST || fn_tcp_is_opening_syn(view->flags) ||
	    !fn_ended_table_tell(director->ended, view->key, view->key_size, now, &is_first))
		return false;
	decision->reason = FN_REASON_FLOW_ENDED;
	decision->reply_size = fn_answers_refuse(&director->answers, view, data, decision->reason, is_first, now);
	decision->reply = decision->reply_size ? director->answers.packet : NULL;
	return true;
}

struct fn_flow *fn_opening_decide(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
				  const struct fn_choice *choice, int64_t now, struct fn_decision *decision)
{
	uint32_t size = fn_packet_addresses_size(view->family) / 2;
	const uint8_t *daddr = view->key + size;
	struct fn_address local = fn_address_of(daddr, size);
	struct fn_service *service;

	if (fn_ended_table_count(director->ended) && answer_ended(director, view, data, now, decision))
		return NULL;
	service = fn_service_table_find(&director->services, view->protocol, daddr, size,
					fn_bytes_load16(view->key + 2 * size + 2));
	if (!service) {
		decision->reason = fn_lport_pool_has(director->pool, &local) ? FN_REASON_NO_OUTBOUND_FLOW :
									       FN_REASON_NOT_SERVICE;
	} else if (fn_address_is_martian(view->key, size)) {
		decision->reason = FN_REASON_MARTIAN_SOURCE;
	} else if (view->protocol == FN_TCP && !fn_tcp_is_opening_syn(view->flags)) {
		if (director->has_fallback)
			decision->reason = FN_REASON_KERNEL_FLOW;
		else if (view->flags & FN_RST)
			decision->reason = FN_REASON_STRAY_RESET;
		else
			refuse(director, view, data, FN_REASON_NO_FLOW, now, decision);
	} else if (!director->openings && !service->one_packet) {
		decision->reason = FN_REASON_OVERLOADED;
	} else {
		return open_flow(director, service, view, data, choice, now, FN_REASON_FLOW_OPENED,
				 (struct local){ NULL, 0, 0 }, decision);
	}
	return NULL;
}
