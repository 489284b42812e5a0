// SPDX-License-Identifier: Apache-2.0
/*
 * What a scheduler is: functions that pick the real server for a new flow.
 *
 * Twin of fullnat/core/sched/base.py, and each file of sched/ of the module of its name: the same
 * servers, in the same order.  A service whose scheduler is a class of the user's has none here;
 * its flows go up to Python.
 *
 * Rules.
 *   1. schedule() returns an available server of the list, or NULL when there is none.
 *   2. It does not count: the service does, and calls flows_changed().
 *   3. flows_changed() may name a server that is no longer in the list: fn_scheduler_is_attached()
 *      tells.  While attach() runs, the servers of the old list live.
 */
#ifndef FULLNAT_NATIVE_SCHED_H
#define FULLNAT_NATIVE_SCHED_H

#include "service.h"

/* What is known of a flow when it opens. */
struct fn_request {
	struct fn_endpoint client;
	struct fn_endpoint virtual;
	uint8_t protocol;
	int64_t now;
};

enum fn_scheduler_flag {
	FN_SCHEDULER_PORT = 1,       /* sh-port, mh-port */
	FN_SCHEDULER_FALLBACK = 2,   /* sh-fallback, mh-fallback */
};

struct fn_scheduler_class {
	const char *name;                /* as in the configuration */
	uint32_t size;                   /* bytes of its structure, which begins with struct fn_scheduler */
	void (*init)(struct fn_scheduler *scheduler);   /* may be NULL */
	/* Build what *servers* need; false when memory ran out, and then nothing changed.  None need nothing. */
	bool (*attach)(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count);
	void (*server_changed)(struct fn_scheduler *scheduler, struct fn_server *server);   /* may be NULL */
	void (*flows_changed)(struct fn_scheduler *scheduler, struct fn_server *server);    /* may be NULL */
	struct fn_server *(*schedule)(struct fn_scheduler *scheduler, const struct fn_request *request);
	void (*free)(struct fn_scheduler *scheduler);   /* what attach() and init() made; may be NULL */
};

/* What all schedulers begin with.  The list is the service's, set after a successful attach(). */
struct fn_scheduler {
	const struct fn_scheduler_class *class;
	uint64_t seed;
	uint32_t flags;                  /* of enum fn_scheduler_flag */
	struct fn_server *const *servers;
	uint32_t count;
};

/* Return a scheduler of the class *name*, or NULL: no such class, or no memory. */
struct fn_scheduler *fn_scheduler_create(const char *name, uint64_t seed, uint32_t flags);
void fn_scheduler_destroy(struct fn_scheduler *scheduler);   /* NULL is allowed */

/* The classes there are, ended by NULL. */
extern const struct fn_scheduler_class *const fn_scheduler_classes[];

/* Whether *server* is in the list to pick from, at its position. */
static inline bool fn_scheduler_is_attached(const struct fn_scheduler *scheduler, const struct fn_server *server)
{
	return server->position < scheduler->count && scheduler->servers[server->position] == server;
}

#endif
