// SPDX-License-Identifier: Apache-2.0
/* A worker: one thread that serves one queue. */
#ifndef FULLNAT_NATIVE_WORKER_H
#define FULLNAT_NATIVE_WORKER_H

#include "carrier.h"
#include "pressure.h"
#include "upcalls.h"

/* What the workers of an engine share. */
struct fn_shared {
	struct fn_director *director;
	pthread_mutex_t *lock;          /* the director's */
	struct fn_carrier carrier;
	struct fn_upcalls upcalls;
	uint16_t segmented;             /* the queue in front of which the kernel segments */
	int64_t next_catch_up;          /* with what the kernel changed; under the lock */
	bool stops;                     /* it is time to end */
};

struct fn_worker {
	struct fn_shared *shared;
	struct fn_queue queue;
	struct fn_pressure pressure;
	uint32_t full_batches;          /* since the queue was last looked at */
	int waiting;                    /* the kernel's table of queues, open */
	pthread_t thread;
	bool runs;
	struct fn_view views[FN_QUEUE_BATCH];
	uint64_t hashes[FN_QUEUE_BATCH];
	bool pass_on[FN_QUEUE_BATCH];   /* to be segmented first */
	struct fn_fate fates[FN_QUEUE_BATCH];
};

/* Bind queue *number*, with the kernel segmenting before it if that is shared->segmented; false and a line in *error* when the host cannot. */
bool fn_worker_open(struct fn_worker *worker, struct fn_shared *shared, uint16_t number,
		    struct fn_queue_error *error);
/* Start the thread, SCHED_FIFO of *priority* unless that is 0, on *cpu* unless that is negative; 0 or an errno. */
int fn_worker_start(struct fn_worker *worker, int priority, int cpu);
/* Wait until the thread has ended, once shared->stops. */
void fn_worker_join(struct fn_worker *worker);
void fn_worker_close(struct fn_worker *worker);

#endif
