// SPDX-License-Identifier: Apache-2.0
/* A worker.  See worker.h for the contract, engine.h for the drawing. */
#define _GNU_SOURCE   /* pthread_setname_np() and its kin */
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "offload.h"

enum {
	QUEUE_LENGTH = 8192,     /* packets the kernel keeps for us */
	LOOK_EVERY = 16,         /* full batches between two looks at how many wait */
};

/* The counts that schedulers go by are at most that old. */
#define CATCH_UP_EVERY (FN_SECOND / 100)

static int64_t read_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * FN_SECOND + now.tv_nsec;
}

/* Parse a batch, and bring what the lookups will touch into the cache while parsing the rest. */
static void parse(struct fn_worker *worker, int count)
{
	const struct fn_director *director = worker->shared->director;

	for (int at = 0; at < count; at++) {
		struct fn_view *view = &worker->views[at];

		fn_packet_parse(view, worker->queue.packets[at].data, worker->queue.packets[at].size);
		if (!view->key_size)
			continue;
		worker->hashes[at] = fn_director_hash(director, view);
		fn_flow_table_prefetch(director->flows, worker->hashes[at]);
	}
}

/* Park a packet that cannot be decided yet; without memory it is dropped. */
static void park(struct fn_worker *worker, int at, const struct fn_decision *decision)
{
	struct fn_shared *shared = worker->shared;
	struct fn_parked *parked;

	if (decision->reason == FN_REASON_NONE && fn_upcalls_is_full(&shared->upcalls)) {
		shared->director->counters[FN_REASON_OVERLOADED]++;
		worker->fates[at].reason = FN_REASON_OVERLOADED;
		return;
	}
	parked = fn_parked_create(&worker->queue, &worker->queue.packets[at], &worker->views[at]);
	if (decision->held) {
		decision->held->packet = parked;
	} else if (parked) {
		parked->service = decision->service->id;
		fn_upcalls_add(&shared->upcalls, parked);
	}
	worker->fates[at].reason = parked ? FN_REASON_NONE : FN_REASON_OVERLOADED;
}

/*
 * Whether packet *at* must be segmented before it can be rewritten (offload.h).  Where a flow leads is
 * known before its packet is decided, so that this one is not counted beside its segments.
 */
static bool needs_segments(struct fn_worker *worker, int at)
{
	struct fn_director *director = worker->shared->director;
	const struct fn_view *view = &worker->views[at];
	const struct fn_packet *packet = &worker->queue.packets[at];
	enum fn_direction direction;
	struct fn_rewrite rewrite;
	struct fn_flow *flow;

	if (packet->truncated && packet->offload & FN_OFFLOAD_GSO)
		return true;
	if (!fn_offload_needs_segments(view, packet->offload, true))
		return false;
	flow = fn_flow_table_find(director->flows, worker->hashes[at], view->protocol, view->key, view->key_size,
				  &direction);
	if (!flow)
		return false;
	rewrite = fn_flow_rewrite(flow, direction);
	return fn_carrier_is_local(&worker->shared->carrier, &rewrite);
}

/* Have the schedulers see what the kernel did, but not for each batch: it is a walk. */
static void catch_up(struct fn_shared *shared, int64_t now)
{
	if (now < shared->next_catch_up)
		return;
	shared->next_catch_up = now + CATCH_UP_EVERY;
	fn_director_catch_up(shared->director);
}

static void decide(struct fn_worker *worker, int count, struct fn_errands *errands)
{
	struct fn_director *director = worker->shared->director;
	int64_t now = read_clock();
	struct fn_decision decision;

	pthread_mutex_lock(worker->shared->lock);
	catch_up(worker->shared, now);
	fn_director_admit(director, fn_pressure_openings(&worker->pressure));
	for (int at = 0; at < count; at++)
		if (worker->views[at].key_size)
			fn_flow_table_prefetch_flow(director->flows, worker->hashes[at]);
	for (int at = 0; at < count; at++) {
		worker->pass_on[at] = needs_segments(worker, at);
		if (worker->pass_on[at])
			continue;
		fn_director_decide(director, &worker->views[at], worker->queue.packets[at].data,
				   worker->hashes[at], now, &decision);
		fn_carrier_note(&worker->shared->carrier, &decision, worker->queue.packets[at].offload,
				&worker->fates[at]);
		/* Of a packet that opened a flow it is known only now; this one is counted with its segments. */
		worker->pass_on[at] = worker->fates[at].local &&
				      fn_offload_needs_segments(&worker->views[at],
								worker->queue.packets[at].offload, true);
		if (decision.reason == FN_REASON_NONE || decision.held)
			park(worker, at, &decision);
		else if (decision.reply || decision.released_count)
			fn_errands_note(errands, &decision);
	}
	pthread_mutex_unlock(worker->shared->lock);
}

static void carry_out(struct fn_worker *worker, int count)
{
	for (int at = 0; at < count; at++) {
		if (worker->pass_on[at])
			fn_queue_pass_on(&worker->queue, &worker->queue.packets[at], worker->shared->segmented);
		else if (worker->fates[at].reason != FN_REASON_NONE)
			fn_carrier_settle(&worker->shared->carrier, &worker->queue, &worker->queue.packets[at],
					  &worker->views[at], &worker->fates[at]);
	}
	fn_queue_flush(&worker->queue);
}

/* Return how many packets wait in our queue: the third column of the row that begins with its number. */
static uint32_t read_waiting(const struct fn_worker *worker)
{
	char table[4096];
	ssize_t size = pread(worker->waiting, table, sizeof(table) - 1, 0);
	uint32_t number, owner, waiting;

	if (size < 0)
		return 0;
	table[size] = '\0';
	for (const char *row = table; row && *row; row = strchr(row, '\n'), row = row ? row + 1 : NULL)
		if (sscanf(row, "%u %u %u", &number, &owner, &waiting) == 3 && number == worker->queue.number)
			return waiting;
	return 0;
}

/* A batch that is not full was the last there was; after many that are, the kernel is asked. */
static void feel_pressure(struct fn_worker *worker, int count)
{
	if (count < FN_QUEUE_BATCH) {
		worker->full_batches = 0;
		fn_pressure_note(&worker->pressure, 0);
	} else if (++worker->full_batches % LOOK_EVERY == 0) {
		fn_pressure_note(&worker->pressure, read_waiting(worker));
	}
}

static void serve(struct fn_worker *worker, int count)
{
	struct fn_errands errands;

	fn_errands_init(&errands);
	feel_pressure(worker, count);
	parse(worker, count);
	decide(worker, count, &errands);
	carry_out(worker, count);
	fn_errands_run(&errands, &worker->shared->carrier);
}

static bool must_stop(const struct fn_worker *worker)
{
	return __atomic_load_n(&worker->shared->stops, __ATOMIC_ACQUIRE);
}

/* For a packet that comes alone there are two system calls: one to sleep and receive it, one to send it on. */
static void *run(void *argument)
{
	struct fn_worker *worker = argument;

	while (!must_stop(worker)) {
		int count = fn_queue_receive(&worker->queue, true);

		if (count)
			serve(worker, count);
	}
	return NULL;
}

bool fn_worker_open(struct fn_worker *worker, struct fn_shared *shared, uint16_t number,
		    struct fn_queue_error *error)
{
	struct fn_queue_limits limits = { .length = QUEUE_LENGTH, .segmented = number == shared->segmented };

	if (fn_queue_open(&worker->queue, number, &limits, error))
		return false;
	worker->shared = shared;
	worker->pressure.capacity = QUEUE_LENGTH;
	worker->waiting = open("/proc/thread-self/net/netfilter/nfnetlink_queue", O_RDONLY | O_CLOEXEC);
	return true;
}

/*
 * Run as SCHED_FIFO of *priority*.  With 0, and a program in the kernel that leaves us little but the
 * first packet of each flow, as SCHED_BATCH, unless whoever started us chose a policy: a thread that
 * wakes then does not preempt who runs, most of the time who queues its packets; on a busy processor
 * it finds more of them at once, for fewer switches between the two.
 */
static int set_policy(const struct fn_worker *worker, int priority)
{
	struct sched_param parameters = { .sched_priority = priority };
	int policy, error;

	if (priority)
		return pthread_setschedparam(worker->thread, SCHED_FIFO, &parameters);
	error = pthread_getschedparam(worker->thread, &policy, &parameters);
	if (error || policy != SCHED_OTHER || !worker->shared->director->fastpath)
		return error;
	return pthread_setschedparam(worker->thread, SCHED_BATCH, &parameters);
}

int fn_worker_start(struct fn_worker *worker, int priority, int cpu)
{
	char name[16];
	sigset_t all, old;
	cpu_set_t cpus;
	int error;

	/* Signals are for Python's threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&worker->thread, NULL, run, worker);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error)
		return error;
	worker->runs = true;
	snprintf(name, sizeof(name), "fullnat/%u", worker->queue.number);
	pthread_setname_np(worker->thread, name);
	if (cpu >= 0) {
		CPU_ZERO(&cpus);
		CPU_SET((size_t)cpu, &cpus);
		error = pthread_setaffinity_np(worker->thread, sizeof(cpus), &cpus);
	}
	return error ? error : set_policy(worker, priority);
}

void fn_worker_join(struct fn_worker *worker)
{
	if (worker->runs) {
		fn_queue_wake(&worker->queue);
		pthread_join(worker->thread, NULL);
	}
	worker->runs = false;
}

void fn_worker_close(struct fn_worker *worker)
{
	fn_queue_close(&worker->queue);
	if (worker->waiting >= 0)
		close(worker->waiting);
}
