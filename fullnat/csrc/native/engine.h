// SPDX-License-Identifier: Apache-2.0
/*
 * The engine: threads that take packets from queues, have the director decide them, and carry it out.
 *
 *     queue --recvmmsg--> parse --[lock: decide the batch]--> rewrite --sendmsg--> verdicts
 *                                        |-- held fragment, or a flow Python must schedule: copied, parked
 *                                        `-- answer of our own --> raw socket
 *
 * One lock guards the director, and is held for the decisions of a batch only: some fifty
 * nanoseconds a packet, where receiving and sending cost thousands, nearly all of it in the kernel.  So
 * threads seldom meet at it, and everything behind it can be as simple as if there were one.
 */
#ifndef FULLNAT_NATIVE_ENGINE_H
#define FULLNAT_NATIVE_ENGINE_H

#include <pthread.h>
#include <stddef.h>

#include "director.h"

enum { FN_ENGINE_WORKERS = 64, FN_ENGINE_ERROR = 256 };

struct fn_engine_options {
	struct fn_director *director;
	pthread_mutex_t *lock;         /* the director's */
	uint16_t queues[FN_ENGINE_WORKERS];   /* one thread each */
	uint32_t workers;
	uint16_t segmented;            /* one more queue, for what the kernel must segment first: offload.h */
	uint32_t mark;                 /* set on what is forwarded */
	bool repeats;                  /* the hook, for all that is forwarded */
	int raw4, raw6;                /* sockets for answers; -1: none of this family.  The caller closes them */
	int priority;                  /* SCHED_FIFO; 0: none */
	int cpus[FN_ENGINE_WORKERS];   /* where the threads run, in turn */
	uint32_t cpu_count;            /* 0: anywhere */
};

struct fn_engine_statistics {
	uint64_t received;             /* packets from the queues */
	uint64_t batches;              /* recvmmsg() that returned some */
	uint64_t truncated;            /* packets the kernel did not hand over whole: dropped */
	uint64_t refused_verdicts;     /* by the kernel: the packet was gone */
	uint64_t lost_verdicts;        /* the kernel did not take them: their packets were dropped */
	uint64_t send_failures;        /* answers of our own that the kernel would not send */
	uint64_t upcalls;              /* packets whose scheduler is in Python */
};

/* A packet that waits for Python's scheduler. */
struct fn_upcall {
	uint64_t token;
	uint32_t service;              /* its id */
	uint8_t protocol;
	struct fn_view view;
	uint32_t size;
	const uint8_t *data;           /* valid until answered */
};

struct fn_engine;

/* Return an engine that does not run yet, or NULL when memory ran out. */
struct fn_engine *fn_engine_create(const struct fn_engine_options *options);
/* Bind the queues and start the threads; false and one line in *error* when the host cannot. */
bool fn_engine_start(struct fn_engine *engine, char error[FN_ENGINE_ERROR]);
/* End the threads and unbind.  What waits in the kernel is dropped by it. */
void fn_engine_stop(struct fn_engine *engine);
void fn_engine_destroy(struct fn_engine *engine);   /* stops it first */

/* Take *addresses* as those of this host: what goes to them must be right without a device's help. */
bool fn_engine_set_local_addresses(struct fn_engine *engine, const struct fn_address *addresses, uint32_t count);

/* End idle flows and drop fragments whose first never came; holds the lock for short stretches. */
void fn_engine_expire(struct fn_engine *engine, int64_t now);

/* Return a descriptor that is readable while upcalls wait. */
int fn_engine_upcall_fd(const struct fn_engine *engine);
/*
 * Fill *upcalls* with up to *limit* packets that wait, oldest first; return how many.  Those whose flow
 * has opened meanwhile are sent on and not returned.  Each is to be answered.
 */
uint32_t fn_engine_take_upcalls(struct fn_engine *engine, struct fn_upcall *upcalls, uint32_t limit, int64_t now);
/* Decide a taken packet by Python's choice of *server* (its id) and carry it out. */
void fn_engine_answer_upcall(struct fn_engine *engine, uint64_t token, bool has_server, uint32_t server, bool failed,
			     int64_t now);

struct fn_engine_statistics fn_engine_read_statistics(struct fn_engine *engine);

#endif
