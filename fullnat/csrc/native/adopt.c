// SPDX-License-Identifier: Apache-2.0
/* Adoption.  See adopt.h for the contract. */
#include "adopt.h"

struct adoption {
	struct fn_director *director;
	int64_t now;
	uint32_t ended;
};

/* Whether *flow* is of the size and the protocol it can only be of. */
static bool is_sound(const struct fn_flow *flow)
{
	bool is_v6 = flow->reference & FN_FLOW_IS_V6;

	return flow->key_size == (is_v6 ? FN_FLOW_KEY6 : FN_FLOW_KEY4) &&
	       (flow->protocol == FN_UDP || (flow->protocol == FN_TCP && flow->state < FN_TCP_STATES));
}

static struct fn_server *find_server(const struct fn_director *director, const struct fn_flow *flow)
{
	struct fn_endpoint vip = fn_endpoint_destination(fn_flow_key(flow, FN_INBOUND), flow->key_size);
	struct fn_endpoint real = fn_endpoint_source(fn_flow_key(flow, FN_OUTBOUND), flow->key_size);
	struct fn_service *service = fn_service_table_find(&director->services, flow->protocol, vip.address.bytes,
							   vip.address.size, vip.port);

	for (uint32_t at = 0; service && at < service->count; at++)
		if (fn_endpoint_equal(&service->servers[at]->endpoint, &real))
			return service->one_packet == flow->one_packet ? service->servers[at] : NULL;
	return NULL;
}

static struct fn_server *adopt(void *context, struct fn_flow *flow)
{
	struct adoption *adoption = context;
	struct fn_director *director = adoption->director;
	struct fn_server *server = is_sound(flow) ? find_server(director, flow) : NULL;
	struct fn_endpoint local, client;

	if (server) {
		local = fn_endpoint_destination(fn_flow_key(flow, FN_OUTBOUND), flow->key_size);
		if (!fn_lport_pool_claim(director->pool, server->ports, &local.address, local.port, &flow->lip))
			server = NULL;
	}
	if (!server) {
		adoption->ended++;
		return NULL;
	}
	flow->noted = (uint8_t)fn_flow_read_state(flow);
	flow->timeout = server->service->timeouts[fn_flow_timeout_kind(flow)];   /* as they are configured now */
	fn_service_flow_adopted(server, fn_flow_is_active(flow));
	client = fn_endpoint_source(fn_flow_key(flow, FN_INBOUND), flow->key_size);
	flow->held_mask = FN_FLOW_NO_TEMPLATE;
	if (server->service->is_persistent) {
		fn_persistence_table_hold(director->persistence, server, &client.address, adoption->now);
		flow->held_mask = server->service->persistence_mask;
	}
	return server;
}

uint32_t fn_director_adopt(struct fn_director *director, int64_t now, uint32_t *ended)
{
	struct adoption adoption = { director, now, 0 };
	uint32_t count = fn_flow_table_adopt(director->flows, adopt, &adoption);

	*ended = adoption.ended;
	return count;
}
