// SPDX-License-Identifier: Apache-2.0
/* The director.  See director.h for the contract and fullnat/core/director.py for the theory. */
#include "director.h"

#include <stdlib.h>

#include "known.h"
#include "opening.h"
#include "pressure.h"

static bool options_fit(const struct fn_director *director)
{
	return director->flows && director->pool && director->persistence && director->fragments &&
	       director->ended && director->services.places;
}

static struct fn_flow_table *create_flows(const struct fn_director_options *options)
{
	struct fn_flow_memory *memory = options->fastpath ? fn_fastpath_memory(options->fastpath) :
							    fn_flow_memory_create(options->flow_limit);
	struct fn_flow_table *flows = NULL;

	if (memory)
		flows = fn_flow_table_create(options->flow_limit, &options->hash_key, options->now, memory);
	if (memory && !flows)
		memory->destroy(memory);
	return flows;
}

struct fn_director *fn_director_create(const struct fn_director_options *options)
{
	struct fn_director *director = calloc(1, sizeof(*director));

	if (!director) {
		fn_fastpath_destroy(options->fastpath);
		return NULL;
	}
	director->fastpath = options->fastpath;
	director->flows = create_flows(options);
	director->pool = fn_lport_pool_create(options->addresses, options->address_count, options->low,
					      options->high, options->rest, options->seed, NULL, 0);
	director->persistence = fn_persistence_table_create(options->persistence_limit, &options->hash_key);
	director->fragments = fn_fragment_table_create(options->fragment_limit, &options->hash_key);
	director->ended = fn_ended_table_create(FN_ENDED_LIMIT, &options->hash_key);
	fn_service_table_init(&director->services, &options->hash_key);
	director->has_fallback = options->has_fallback;
	if (!options_fit(director)) {
		fn_director_destroy(director, NULL);
		return NULL;
	}
	director->openings = FN_UNLIMITED;
	fn_ident_init(&director->ident, options->seed);
	fn_answers_init(&director->answers);
	return director;
}

void fn_director_destroy(struct fn_director *director, void (*drop)(void *packet))
{
	if (!director)
		return;
	/* Flows, templates and fragments hold servers, which use the pool until they are gone. */
	fn_fragment_table_destroy(director->fragments, drop);
	fn_flow_table_destroy(director->flows);
	fn_fastpath_destroy(director->fastpath);
	fn_ended_table_destroy(director->ended);
	fn_persistence_table_destroy(director->persistence);
	fn_service_table_free(&director->services);
	fn_lport_pool_destroy(director->pool);
	fn_path_mtu_destroy(director->path_mtu);
	free(director);
}

bool fn_director_add_service(struct fn_director *director, struct fn_service *service)
{
	return fn_service_table_add(&director->services, service);
}

void fn_director_remove_service(struct fn_director *director, struct fn_service *service)
{
	fn_service_table_remove(&director->services, service);
}

void fn_director_set_path_mtu(struct fn_director *director, struct fn_path_mtu *path_mtu)
{
	fn_path_mtu_destroy(director->path_mtu);
	director->path_mtu = path_mtu;
}

/* Decide a packet with a key; return the flow it is forwarded in, or NULL. */
static struct fn_flow *decide_keyed(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
				    uint64_t hash, const struct fn_choice *choice, int64_t now,
				    enum fn_direction *direction, struct fn_decision *decision)
{
	struct fn_flow *flow = fn_flow_table_find(director->flows, hash, view->protocol, view->key,
						  view->key_size, direction);

	if (flow) {
		if (flow->protocol == FN_TCP && fn_flow_is_reopened(flow, *direction, view->flags))
			return fn_opening_replace(director, flow, view, data, choice, now, decision);
		fn_known_continue(director, flow, *direction, view, now, decision);
		return flow;
	}
	*direction = FN_INBOUND;
	return fn_opening_decide(director, view, data, choice, now, decision);
}

/* Everything else. */

static void relay_error(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
			struct fn_decision *decision)
{
	struct fn_translation *translation = &decision->translation;
	struct fn_quoted quoted;
	uint8_t key[FN_KEY_MAX];
	enum fn_direction direction;
	const struct fn_flow *flow;

	decision->reason = fn_icmp_parse_error(view, data, &quoted);
	if (decision->reason != FN_REASON_NONE)
		return;
	fn_packet_reverse_key(key, quoted.key, quoted.key_size);
	flow = fn_flow_table_find(director->flows,
				  fn_flow_table_hash(director->flows, quoted.protocol, key, quoted.key_size),
				  quoted.protocol, key, quoted.key_size, &direction);
	if (!flow) {
		decision->reason = FN_REASON_ICMP_UNRELATED;
		return;
	}
	decision->reason = FN_REASON_ICMP_RELAYED;
	translation->kind = FN_TRANSLATE_ERROR;
	translation->rewrite = fn_flow_rewrite(flow, direction);
	translation->identify = false;
	translation->mss = 0;
}

/* Return the flow that the datagram of *later* belongs to, if that still lives. */
static struct fn_flow *find_later(struct fn_director *director, const struct fn_later *later, uint8_t protocol)
{
	uint32_t key_size = later->translation.rewrite.key_size;
	enum fn_direction direction;
	struct fn_flow *flow;

	if (later->direction == FN_INBOUND && later->one_packet)
		return fn_flow_table_find_one_packet(director->flows, later->old_key, key_size, later->server);
	flow = fn_flow_table_find(director->flows,
				  fn_flow_table_hash(director->flows, protocol, later->old_key, key_size),
				  protocol, later->old_key, key_size, &direction);
	return flow && flow->server == later->server && flow->created == later->opened ? flow : NULL;
}

/* Count a later fragment for the server its datagram went to, and for its flow. */
static void count_later(struct fn_director *director, const struct fn_later *later, uint8_t protocol,
			uint32_t size)
{
	struct fn_flow *flow;

	if (!later->server)
		return;
	later->server->packets[later->direction]++;
	later->server->bytes[later->direction] += size;
	flow = find_later(director, later, protocol);
	if (flow)
		fn_flow_count(flow, later->direction, 1, size);
}

static void decide_later_fragment(struct fn_director *director, const struct fn_view *view, int64_t now,
				  struct fn_decision *decision)
{
	const struct fn_later *later;

	decision->reason = fn_fragment_table_decide_later(director->fragments, view, now, &later, &decision->held);
	if (!later)
		return;
	decision->translation = later->translation;
	count_later(director, later, view->protocol, view->length);
}

/* What the rest of the datagram is to share, after its first fragment was decided. */
static struct fn_later later_of(const struct fn_flow *flow, enum fn_direction direction,
				const struct fn_decision *first)
{
	struct fn_later later = { .reason = FN_REASON_FRAGMENT_DROPPED };

	if (flow) {
		later.reason = FN_REASON_FRAGMENT_FORWARDED;
		later.translation = first->translation;
		later.translation.kind = FN_TRANSLATE_ADDRESSES;
		later.server = flow->server;
		later.opened = flow->created;
		later.direction = (uint8_t)direction;
		later.one_packet = flow->one_packet;
		memcpy(later.old_key, fn_flow_key(flow, direction), flow->key_size);
	} else if (fn_reason_verdict[first->reason] == FN_VERDICT_PASS) {
		later.reason = first->reason;
	}
	return later;
}

static void decide_first_fragment(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
				  const struct fn_choice *choice, int64_t now, struct fn_decision *decision)
{
	enum fn_direction direction;
	struct fn_flow *flow = decide_keyed(director, view, data, fn_director_hash(director, view), choice, now,
					    &direction, decision);
	struct fn_later later;
	int released;

	if (decision->reason == FN_REASON_NONE)
		return;   /* Python is asked first; what overtakes the answer is held */
	if (flow) {
		struct fn_translation *translation = &decision->translation;

		translation->mss = 0;
		translation->identify = true;
		translation->identification = fn_ident_next(&director->ident, translation->rewrite.new_key,
							    flow->key_size - 4U, view->protocol);
	}
	later = later_of(flow, direction, decision);
	released = fn_fragment_table_settle(director->fragments, view, &later, now, &decision->released);
	if (released < 0) {
		decision->reason = FN_REASON_FRAGMENT_LIMIT;
		decision->reply = NULL;
		return;
	}
	decision->released_count = (uint32_t)released;
	decision->released_reason = later.reason;
	decision->released_translation = later.translation;
	director->counters[later.reason] += (uint32_t)released;
	for (int at = 0; at < released; at++)
		count_later(director, &later, view->protocol, decision->released[at].size);
}

/* Steering hands us the pings only of those virtual addresses that no interface has. */
static bool answers_ping(const struct fn_director *director, const struct fn_view *view, const uint8_t *data)
{
	uint32_t size = fn_packet_addresses_size(view->family) / 2;
	const uint8_t *saddr = data + fn_packet_addresses_at(view->family);
	struct fn_address daddr = fn_address_of(saddr + size, size);

	return fn_service_table_has(&director->services, &daddr) && !fn_address_is_martian(saddr, size);
}

static void decide_special(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
			   const struct fn_choice *choice, int64_t now, struct fn_decision *decision)
{
	if (view->malformed != FN_REASON_NONE) {
		decision->reason = (enum fn_reason)view->malformed;
	} else if (view->fragment.datagram_size) {
		if (view->protocol != FN_TCP && view->protocol != FN_UDP)
			decision->reason = FN_REASON_NOT_TRANSLATED;
		else if (view->fragment.offset)
			decide_later_fragment(director, view, now, decision);
		else
			decide_first_fragment(director, view, data, choice, now, decision);
	} else if (fn_icmp_is_error(view, data)) {
		relay_error(director, view, data, decision);
	} else if (fn_icmp_is_unwanted(view, data)) {
		decision->reason = FN_REASON_ICMP_INVALID;
	} else if (fn_icmp_is_echo_request(view, data) && answers_ping(director, view, data)) {
		decision->reason = FN_REASON_ECHO_ANSWERED;
		decision->reply_size = fn_answers_echo(&director->answers, view, data, now);
		decision->reply = decision->reply_size ? director->answers.packet : NULL;
	} else {
		decision->reason = FN_REASON_NOT_TRANSLATED;
	}
}

static void decide(struct fn_director *director, const struct fn_view *view, const uint8_t *data, uint64_t hash,
		   const struct fn_choice *choice, int64_t now, struct fn_decision *decision)
{
	enum fn_direction direction;

	decision->service = NULL;
	decision->reply = NULL;
	decision->held = NULL;
	decision->released_count = 0;
	if (view->key_size && !view->fragment.datagram_size)
		decide_keyed(director, view, data, hash, choice, now, &direction, decision);
	else
		decide_special(director, view, data, choice, now, decision);
	if (decision->reason != FN_REASON_NONE)
		director->counters[decision->reason]++;
}

void fn_director_decide(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
			uint64_t hash, int64_t now, struct fn_decision *decision)
{
	decide(director, view, data, hash, NULL, now, decision);
}

void fn_director_answer(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
			const struct fn_choice *choice, int64_t now, struct fn_decision *decision)
{
	decide(director, view, data, fn_director_hash(director, view), choice, now, decision);
}

struct fn_flow *fn_director_end_flow(struct fn_director *director, const struct fn_server *server, uint64_t *cursor,
				     uint64_t *budget, int64_t now)
{
	struct fn_flow *flow = fn_flow_table_next_of(director->flows, server, cursor, budget);

	if (!flow)
		return NULL;
	fn_flow_table_remove(director->flows, flow);
	fn_known_release_local(director, flow, now, now);   /* it may be in full use: its port rests in any case */
	fn_known_uncount(director, flow, now);
	if (flow->protocol == FN_TCP)
		fn_ended_table_add(director->ended, flow, now);
	return flow;
}

void fn_director_catch_up(struct fn_director *director)
{
	uint64_t cursor = 0;
	struct fn_flow *flow;

	if (!director->fastpath)
		return;
	while ((flow = fn_flow_table_next_changed(director->flows, &cursor)))
		fn_known_note_state(director, flow);
}

bool fn_director_expire_flows(struct fn_director *director, int64_t now, uint64_t budget)
{
	struct fn_flow *flow;

	while ((flow = fn_flow_table_expire(director->flows, now, &budget))) {
		fn_known_release_local(director, flow, flow->last_seen, now);
		fn_known_uncount(director, flow, now);
		fn_flow_table_free(director->flows, flow);
	}
	return !budget;
}

int fn_director_expire_rest(struct fn_director *director, int64_t now, const struct fn_held **dropped)
{
	int count;

	fn_persistence_table_expire(director->persistence, now);
	fn_ended_table_expire(director->ended, now);
	count = fn_fragment_table_expire(director->fragments, now, dropped);
	director->counters[FN_REASON_FRAGMENT_TIMEOUT] += (uint32_t)count;
	return count;
}
