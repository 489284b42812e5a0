// SPDX-License-Identifier: Apache-2.0
/* The director.  See director.h for the contract and fullnat/core/director.py for the theory. */
#include "director.h"

#include <stdlib.h>

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

/* A packet of a known flow. */

static void count(struct fn_flow *flow, enum fn_direction direction, uint32_t size)
{
	fn_flow_count(flow, direction, 1, size);
	flow->server->packets[direction]++;
	flow->server->bytes[direction] += size;
}

static uint32_t mtu_towards(const struct fn_director *director, const uint8_t *address, uint32_t size)
{
	return director->path_mtu ? fn_path_mtu_find(director->path_mtu, address, size) : FN_DEFAULT_MTU;
}

/* Return the largest MSS that the paths to both sources of these keys take. */
static uint16_t mss_limit(const struct fn_director *director, uint8_t family, const uint8_t *inbound_key,
			  const uint8_t *outbound_key)
{
	uint32_t size = fn_packet_addresses_size(family) / 2;
	uint32_t client = mtu_towards(director, inbound_key, size);
	uint32_t server = mtu_towards(director, outbound_key, size);
	uint32_t mss = fn_path_mtu_mss(client < server ? client : server, family);

	return mss < UINT16_MAX ? (uint16_t)mss : UINT16_MAX;
}

/* Forward *view* in *flow*: the plain rewrite, or more for the few packets that need it. */
static void forward(struct fn_director *director, const struct fn_flow *flow, enum fn_direction direction,
		    const struct fn_view *view, enum fn_reason reason, struct fn_decision *decision)
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
		translation->mss = mss_limit(director, view->family, fn_flow_key(flow, FN_INBOUND),
					     fn_flow_key(flow, FN_OUTBOUND));
}

/* Bring counts and timeout up to what the state of *flow* has become. */
static void note_state(struct fn_director *director, struct fn_flow *flow)
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

void fn_director_catch_up(struct fn_director *director)
{
	uint64_t cursor = 0;
	struct fn_flow *flow;

	if (!director->fastpath)
		return;
	while ((flow = fn_flow_table_next_changed(director->flows, &cursor)))
		note_state(director, flow);
}

/* Whether *flags* of a TCP segment may change the state of *flow*: of most they cannot. */
static bool may_follow_tcp(const struct fn_flow *flow, uint8_t flags)
{
	return flags & (FN_SYN | FN_FIN | FN_RST) || fn_flow_read_state(flow) != FN_ESTABLISHED;
}

static void continue_flow(struct fn_director *director, struct fn_flow *flow, enum fn_direction direction,
			  const struct fn_view *view, int64_t now, struct fn_decision *decision)
{
	bool has_changed = flow->protocol == FN_TCP ? may_follow_tcp(flow, view->flags) &&
							      fn_flow_follow_tcp(flow, direction, view->flags) :
						      fn_flow_follow_udp(flow, direction);

	flow->last_seen = now;
	if (has_changed)
		note_state(director, flow);
	count(flow, direction, view->length);
	forward(director, flow, direction, view,
		direction == FN_INBOUND ? FN_REASON_FLOW_INBOUND : FN_REASON_FLOW_OUTBOUND, decision);
}

/* A packet that may open a flow. */

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
		opening.mss = mss_limit(director, view->family, view->key, outbound_key);
	return fn_flow_table_add(director->flows, &opening, now);
}

static void uncount(struct fn_director *director, struct fn_flow *flow, int64_t now)
{
	struct fn_endpoint client = fn_endpoint_source(fn_flow_key(flow, FN_INBOUND), flow->key_size);

	fn_service_flow_ended(flow->server, fn_flow_is_active(flow));
	if (flow->held_mask != FN_FLOW_NO_TEMPLATE)
		fn_persistence_table_release(director->persistence, flow->server, &client.address, flow->held_mask,
					     now);
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
			count(flow, FN_INBOUND, view->length);
			forward(director, flow, FN_INBOUND, view, FN_REASON_FLOW_INBOUND, decision);
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
	count(flow, FN_INBOUND, view->length);
	forward(director, flow, FN_INBOUND, view, reason, decision);
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

/* Give the local port of *flow*, which was used last at *last_seen*, back to the pool. */
static void release_local(struct fn_director *director, const struct fn_flow *flow, int64_t last_seen, int64_t now)
{
	struct fn_endpoint local = fn_endpoint_destination(fn_flow_key(flow, FN_OUTBOUND), flow->key_size);

	fn_lport_pool_release(director->pool, flow->server->ports, flow->lip, local.port, now, last_seen);
}

/* Replace a flow that is closing by a new one for the SYN *view*. */
static struct fn_flow *reopen_flow(struct fn_director *director, struct fn_flow *flow, const struct fn_view *view,
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
	uncount(director, flow, now);
	opened = open_flow(director, service, view, data, choice, now, FN_REASON_FLOW_REOPENED, local, decision);
	if (!opened || opened->server != flow->server)
		release_local(director, flow, flow->last_seen, now);
	fn_flow_table_free(director->flows, flow);
	return opened;
}

/*
 * Whether no host can have *address*: the kernel would drop it, had we not replaced it first.
 *
 * 0/8, 127/8, multicast and above; ::, ::1 and ff00::/8 (RFC 6890).
 */
static bool is_martian(const uint8_t *address, uint32_t size)
{
	static const uint8_t zeros[15];

	if (size == 4)
		return address[0] == 0 || address[0] == 127 || address[0] >= 224;
	return address[0] == 0xFF || (!memcmp(address, zeros, sizeof(zeros)) && address[15] <= 1);
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

static struct fn_flow *open_or_refuse(struct fn_director *director, const struct fn_view *view,
				      const uint8_t *data, const struct fn_choice *choice, int64_t now,
				      struct fn_decision *decision)
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
	} else if (is_martian(view->key, size)) {
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

/* Decide a packet with a key; return the flow it is forwarded in, or NULL. */
static struct fn_flow *decide_keyed(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
				    uint64_t hash, const struct fn_choice *choice, int64_t now,
				    enum fn_direction *direction, struct fn_decision *decision)
{
	struct fn_flow *flow = fn_flow_table_find(director->flows, hash, view->protocol, view->key,
						  view->key_size, direction);

	if (flow) {
		if (flow->protocol == FN_TCP && fn_flow_is_reopened(flow, *direction, view->flags))
			return reopen_flow(director, flow, view, data, choice, now, decision);
		continue_flow(director, flow, *direction, view, now, decision);
		return flow;
	}
	*direction = FN_INBOUND;
	return open_or_refuse(director, view, data, choice, now, decision);
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

	return fn_service_table_has(&director->services, &daddr) && !is_martian(saddr, size);
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
	release_local(director, flow, now, now);   /* it may be in full use: its port rests in any case */
	uncount(director, flow, now);
	if (flow->protocol == FN_TCP)
		fn_ended_table_add(director->ended, flow, now);
	return flow;
}

bool fn_director_expire_flows(struct fn_director *director, int64_t now, uint64_t budget)
{
	struct fn_flow *flow;

	while ((flow = fn_flow_table_expire(director->flows, now, &budget))) {
		release_local(director, flow, flow->last_seen, now);
		uncount(director, flow, now);
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
