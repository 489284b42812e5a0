// SPDX-License-Identifier: Apache-2.0
/*
 * Known flows, as the director has them: a packet is counted and forwarded, the state followed, the end noted.
 *
 * In a header because this is what most packets come to.
 */
#ifndef FULLNAT_NATIVE_KNOWN_H
#define FULLNAT_NATIVE_KNOWN_H

#include "director.h"

/* Count a packet of *size* bytes for *flow* and its server. */
static inline void fn_known_count(struct fn_flow *flow, enum fn_direction direction, uint32_t size)
{
	fn_flow_count(flow, direction, 1, size);
	flow->server->packets[direction]++;
	flow->server->bytes[direction] += size;
}

/* Return the MTU of the path to *address*. */
static inline uint32_t fn_known_mtu(const struct fn_director *director, const uint8_t *address, uint32_t size)
{
	return director->path_mtu ? fn_path_mtu_find(director->path_mtu, address, size) : FN_DEFAULT_MTU;
}

/* Return the largest MSS that the paths to both sources of these keys take. */
static inline uint16_t fn_known_mss_limit(const struct fn_director *director, uint8_t family,
					  const uint8_t *inbound_key, const uint8_t *outbound_key)
{
	uint32_t size = fn_packet_addresses_size(family) / 2;
	uint32_t client = fn_known_mtu(director, inbound_key, size);
	uint32_t server = fn_known_mtu(director, outbound_key, size);
	uint32_t mss = fn_path_mtu_mss(client < server ? client : server, family);

	return mss < UINT16_MAX ? (uint16_t)mss : UINT16_MAX;
}

/* Forward *view* in *flow*: the plain rewrite, or more for the few packets that need it. */
static inline void fn_known_forward(struct fn_director *director, const struct fn_flow *flow,
				    enum fn_direction direction, const struct fn_view *view,
				    enum fn_reason reason, struct fn_decision *decision)
{
	struct fn_translation *translation = &decision->translation;

	decision->reason = reason;
	translation->kind = FN_TRANSLATE_ALL;
	translation->rewrite = fn_flow_rewrite(flow, direction);
	translation->identify = view->divisible;
	translation->mss = 0;
	if (view->divisible)
		translation->identification = fn_ident_next(&director->ident, translation->rewrite.new_key,
							    flow->key_size - 4U, view->protocol);
	else if (view->flags & FN_SYN)
		translation->mss = fn_known_mss_limit(director, view->family, fn_flow_key(flow, FN_INBOUND),
						      fn_flow_key(flow, FN_OUTBOUND));
}

/* Bring counts and timeout up to what the state of *flow* has become. */
static inline void fn_known_note_state(struct fn_director *director, struct fn_flow *flow)
{
	uint8_t state = (uint8_t)fn_flow_read_state(flow);
	bool was_active = fn_flow_is_active(flow);

	if (state == flow->noted)
		return;
	flow->noted = state;
	fn_flow_table_set_timeout(director->flows, flow,
				  flow->server->service->timeouts[fn_flow_timeout_kind(flow)]);
	if (fn_flow_is_active(flow) && !was_active)
		fn_service_flow_activated(flow->server);
	else if (was_active && !fn_flow_is_active(flow))
		fn_service_flow_deactivated(flow->server);
}

/* Whether *flags* of a TCP segment may change the state of *flow*: of most they cannot. */
static inline bool fn_known_may_follow_tcp(const struct fn_flow *flow, uint8_t flags)
{
	return flags & (FN_SYN | FN_FIN | FN_RST) || fn_flow_read_state(flow) != FN_ESTABLISHED;
}

/* Take *view* as the next packet of *flow*. */
static inline void fn_known_continue(struct fn_director *director, struct fn_flow *flow,
				     enum fn_direction direction, const struct fn_view *view, int64_t now,
				     struct fn_decision *decision)
{
	bool has_changed = flow->protocol == FN_TCP ? fn_known_may_follow_tcp(flow, view->flags) &&
							      fn_flow_follow_tcp(flow, direction, view->flags) :
						      fn_flow_follow_udp(flow, direction);

	flow->last_seen = now;
	if (has_changed)
		fn_known_note_state(director, flow);
	fn_known_count(flow, direction, view->length);
	fn_known_forward(director, flow, direction, view,
			 direction == FN_INBOUND ? FN_REASON_FLOW_INBOUND : FN_REASON_FLOW_OUTBOUND, decision);
}

/* Take *flow*, which has ended, out of the counts of its server and its template. */
static inline void fn_known_uncount(struct fn_director *director, struct fn_flow *flow, int64_t now)
{
	struct fn_endpoint client = fn_endpoint_source(fn_flow_key(flow, FN_INBOUND), flow->key_size);

	fn_service_flow_ended(flow->server, fn_flow_is_active(flow));
	if (flow->held_mask != FN_FLOW_NO_TEMPLATE)
		fn_persistence_table_release(director->persistence, flow->server, &client.address, flow->held_mask,
					     now);
}

/* Give the local port of *flow*, which was used last at *last_seen*, back to the pool. */
static inline void fn_known_release_local(struct fn_director *director, const struct fn_flow *flow,
					  int64_t last_seen, int64_t now)
{
	struct fn_endpoint local = fn_endpoint_destination(fn_flow_key(flow, FN_OUTBOUND), flow->key_size);

	fn_lport_pool_release(director->pool, flow->server->ports, flow->lip, local.port, now, last_seen);
}

#endif
