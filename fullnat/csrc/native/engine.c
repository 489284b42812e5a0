// SPDX-License-Identifier: Apache-2.0
/* The engine.  See engine.h for the contract. */
#include "engine.h"

#include <stdio.h>

#include "worker.h"

enum { EXPIRE_STRETCH = 512 };   /* flows looked at while the lock is held: well under a millisecond */

struct fn_engine {
	struct fn_shared shared;
	struct fn_engine_options options;
	uint32_t open;                 /* workers with a queue */
	struct fn_worker *workers;
};

struct fn_engine *fn_engine_create(const struct fn_engine_options *options)
{
	struct fn_engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return NULL;
	engine->options = *options;
	engine->shared.director = options->director;
	engine->shared.lock = options->lock;
	engine->shared.segmented = options->segmented;
	engine->shared.carrier.mark = options->mark;
	engine->shared.carrier.repeats = options->repeats;
	engine->shared.carrier.raw4 = options->raw4;
	engine->shared.carrier.raw6 = options->raw6;
	engine->workers = calloc(options->workers + 1, sizeof(*engine->workers));
	if (!fn_upcalls_init(&engine->shared.upcalls) || !engine->workers) {
		fn_engine_destroy(engine);
		return NULL;
	}
	return engine;
}

static bool open_queues(struct fn_engine *engine, char error[FN_ENGINE_ERROR])
{
	const struct fn_engine_options *options = &engine->options;
	struct fn_queue_error reason;

	for (; engine->open <= options->workers; engine->open++) {
		bool is_last = engine->open == options->workers;
		uint16_t number = is_last ? options->segmented : options->queues[engine->open];

		if (!fn_worker_open(&engine->workers[engine->open], &engine->shared, number, &reason)) {
			snprintf(error, FN_ENGINE_ERROR, "%s", reason.text);
			return false;
		}
	}
	return true;
}

static bool start_threads(struct fn_engine *engine, char error[FN_ENGINE_ERROR])
{
	for (uint32_t at = 0; at < engine->open; at++) {
		const struct fn_engine_options *options = &engine->options;
		int cpu = options->cpu_count ? options->cpus[at % options->cpu_count] : -1;
		int code = fn_worker_start(&engine->workers[at], options->priority, cpu);

		if (code) {
			snprintf(error, FN_ENGINE_ERROR, "a thread for queue %u cannot be started%s: %s",
				 engine->workers[at].queue.number,
				 engine->workers[at].runs ? " with the CPU and the priority it needs" : "",
				 strerror(code));
			return false;
		}
	}
	return true;
}

bool fn_engine_start(struct fn_engine *engine, char error[FN_ENGINE_ERROR])
{
	fn_flow_table_prepare(engine->shared.director->flows);
	if (open_queues(engine, error) && start_threads(engine, error))
		return true;
	fn_engine_stop(engine);
	return false;
}

void fn_engine_stop(struct fn_engine *engine)
{
	if (!engine->open)
		return;
	__atomic_store_n(&engine->shared.stops, true, __ATOMIC_RELEASE);
	for (uint32_t at = 0; at < engine->open; at++)
		fn_worker_join(&engine->workers[at]);
	engine->shared.stops = false;
	while (engine->open)
		fn_worker_close(&engine->workers[--engine->open]);
}

void fn_engine_destroy(struct fn_engine *engine)
{
	if (!engine)
		return;
	fn_engine_stop(engine);
	fn_upcalls_free(&engine->shared.upcalls);
	free(engine->shared.carrier.local_addresses);
	free(engine->workers);
	free(engine);
}

bool fn_engine_set_local_addresses(struct fn_engine *engine, const struct fn_address *addresses, uint32_t count)
{
	struct fn_carrier *carrier = &engine->shared.carrier;
	struct fn_address *old, *new = malloc((count + 1) * sizeof(*new));

	if (!new)
		return false;
	memcpy(new, addresses, count * sizeof(*new));
	pthread_mutex_lock(engine->shared.lock);
	old = carrier->local_addresses;
	carrier->local_addresses = new;
	carrier->local_count = count;
	pthread_mutex_unlock(engine->shared.lock);
	free(old);
	return true;
}

/* Have the places of ended flows used again, and places for more made in advance. */
static void reclaim(struct fn_engine *engine)
{
	struct fn_flow_table *flows = engine->shared.director->flows;
	bool is_needed;

	fn_flow_table_prepare(flows);
	pthread_mutex_lock(engine->shared.lock);
	is_needed = fn_flow_table_begin_reclaim(flows);
	pthread_mutex_unlock(engine->shared.lock);
	if (!is_needed)
		return;
	fn_flow_table_wait_for_readers(flows);
	pthread_mutex_lock(engine->shared.lock);
	fn_flow_table_end_reclaim(flows);
	pthread_mutex_unlock(engine->shared.lock);
}

void fn_engine_expire(struct fn_engine *engine, int64_t now)
{
	static const struct fn_fate timed_out = { .reason = FN_REASON_FRAGMENT_TIMEOUT };
	struct fn_director *director = engine->shared.director;
	const struct fn_held *dropped;
	struct fn_errands errands;
	bool more;
	int count;

	pthread_mutex_lock(engine->shared.lock);
	fn_director_catch_up(director);
	pthread_mutex_unlock(engine->shared.lock);
	do {
		pthread_mutex_lock(engine->shared.lock);
		more = fn_director_expire_flows(director, now, EXPIRE_STRETCH);
		pthread_mutex_unlock(engine->shared.lock);
	} while (more);
	fn_errands_init(&errands);
	pthread_mutex_lock(engine->shared.lock);
	count = fn_director_expire_rest(director, now, &dropped);
	for (int at = 0; at < count; at++)
		if (dropped[at].packet)
			fn_errands_let_go(&errands, dropped[at].packet, &timed_out);
	pthread_mutex_unlock(engine->shared.lock);
	fn_errands_run(&errands, &engine->shared.carrier);
	reclaim(engine);
}

int fn_engine_upcall_fd(const struct fn_engine *engine)
{
	return engine->shared.upcalls.fd;
}

/* Decide *parked* and carry it out, unless it has to wait for Python: then return false. */
static bool settle(struct fn_engine *engine, struct fn_parked *parked, const struct fn_choice *choice, int64_t now)
{
	struct fn_director *director = engine->shared.director;
	struct fn_decision decision;
	struct fn_errands errands;
	struct fn_fate fate = { .local = false };

	fn_errands_init(&errands);
	pthread_mutex_lock(engine->shared.lock);
	fn_director_admit(director, FN_UNLIMITED);   /* it was admitted when it came */
	fn_director_answer(director, &parked->view, parked->data, choice, now, &decision);
	if (decision.reason != FN_REASON_NONE) {
		fn_carrier_note(&engine->shared.carrier, &decision, parked->offload, &fate);
		fn_errands_let_go(&errands, parked, &fate);
		fn_errands_note(&errands, &decision);
	}
	pthread_mutex_unlock(engine->shared.lock);
	fn_errands_run(&errands, &engine->shared.carrier);
	return decision.reason != FN_REASON_NONE;
}

uint32_t fn_engine_take_upcalls(struct fn_engine *engine, struct fn_upcall *upcalls, uint32_t limit, int64_t now)
{
	struct fn_parked *parked;
	uint32_t count = 0;

	while (count < limit && (parked = fn_upcalls_next(&engine->shared.upcalls))) {
		if (settle(engine, parked, NULL, now))
			continue;
		fn_upcalls_keep(&engine->shared.upcalls, parked);
		upcalls[count++] = (struct fn_upcall){
			.token = parked->token,
			.service = parked->service,
			.protocol = parked->view.protocol,
			.view = parked->view,
			.size = parked->view.length,
			.data = parked->data,
		};
	}
	return count;
}

void fn_engine_answer_upcall(struct fn_engine *engine, uint64_t token, bool has_server, uint32_t server, bool failed,
			     int64_t now)
{
	struct fn_choice choice = { .failed = failed, .has_server = has_server, .server = server };
	struct fn_parked *parked = fn_upcalls_find(&engine->shared.upcalls, token);

	if (parked)
		settle(engine, parked, &choice, now);
}

struct fn_engine_statistics fn_engine_read_statistics(struct fn_engine *engine)
{
	struct fn_engine_statistics statistics = {
		.send_failures = __atomic_load_n(&engine->shared.carrier.send_failures, __ATOMIC_RELAXED),
		.upcalls = __atomic_load_n(&engine->shared.upcalls.count, __ATOMIC_RELAXED),
	};

	for (uint32_t at = 0; at <= engine->options.workers; at++) {
		struct fn_queue_statistics queue;

		fn_queue_statistics(&engine->workers[at].queue, &queue);
		statistics.received += queue.packets;
		statistics.batches += queue.batches;
		statistics.truncated += queue.truncated;
		statistics.refused_verdicts += queue.errors;
		statistics.lost_verdicts += queue.send_errors;
	}
	return statistics;
}
