// SPDX-License-Identifier: Apache-2.0
/*
 * Virtual services and their real servers: weights, thresholds, connection counts, traffic.
 *
 * Twin of fullnat/core/service.py, which says what counts as active and when a server is overloaded.
 * What the operator wants and what a check found stay in Python; here is only what follows: the
 * weight a scheduler may use, and whether persistence may still give the server back.
 *
 * A server outlives its place in the list for as long as flows or templates hold it, and a service
 * lives as long as its servers.
 */
#ifndef FULLNAT_NATIVE_SERVICE_H
#define FULLNAT_NATIVE_SERVICE_H

#include "../core/flow_record.h"
#include "endpoint.h"

struct fn_scheduler;
struct fn_service;
struct fn_ports;

/* One server of one service. */
struct fn_server {
	struct fn_service *service;
	struct fn_ports *ports;        /* the local ports towards it: lport.h */
	struct fn_endpoint endpoint;
	uint32_t id;                   /* what Python calls it; unique in the director */
	uint32_t holders;              /* the service's list, flows, templates */
	uint32_t position;             /* place in the service's list; schedulers break ties by it */
	uint32_t weight;               /* effective; what schedulers read */
	uint32_t configured_weight;
	uint32_t upper;                /* 0 = no limit */
	uint32_t lower;
	uint32_t active;
	uint32_t inactive;
	uint16_t counter;              /* number of its counters in the kernel; 0: it has none */
	bool overloaded;
	bool is_listed;                /* in the service's list */
	bool may_keep;                 /* neither disabled nor found down: persistence may return it */
	uint64_t connections;
	uint64_t packets[2];           /* by enum fn_direction */
	uint64_t bytes[2];
};

/* One VIP:vport of one protocol. */
struct fn_service {
	uint32_t id;                       /* what Python calls it */
	uint32_t holders;                  /* the director while it serves it, and its servers */
	uint8_t protocol;
	bool one_packet;                   /* every datagram is scheduled anew (UDP) */
	bool is_persistent;
	uint8_t persistence_mask;          /* prefix length */
	struct fn_endpoint listen;
	int64_t persistence_timeout;       /* nanoseconds */
	int64_t timeouts[FN_TIMEOUTS];     /* nanoseconds */
	struct fn_scheduler *scheduler;    /* NULL: a class in Python, asked by upcall */
	struct fn_server **servers;
	uint32_t count;
};

/* What a service is configured to be, beside its scheduler. */
struct fn_service_settings {
	int64_t timeouts[FN_TIMEOUTS];     /* nanoseconds */
	bool is_persistent;
	int64_t persistence_timeout;       /* nanoseconds */
	uint8_t persistence_mask;
	bool one_packet;
};

/* What a server is configured to be. */
struct fn_server_settings {
	uint32_t weight;               /* effective */
	uint32_t configured_weight;
	uint32_t upper;
	uint32_t lower;
	bool may_keep;
};

/* Return a new service with one holder, the caller, or NULL.  *scheduler* becomes the service's; not on NULL. */
struct fn_service *fn_service_create(uint32_t id, uint8_t protocol, const struct fn_endpoint *listen,
				     struct fn_scheduler *scheduler);
/* Empty its list before the last release from outside: the servers in it hold the service. */
void fn_service_release(struct fn_service *service);

/* Give *service* new settings: for flows that open, and for others from their next state on. */
void fn_service_set(struct fn_service *service, const struct fn_service_settings *settings);
/*
 * Have *scheduler* pick from now on, NULL: a class in Python.  False when memory ran out, and then
 * nothing changed and *scheduler* is still the caller's.
 */
bool fn_service_set_scheduler(struct fn_service *service, struct fn_scheduler *scheduler);

/* Return a new server of *service* with one holder, the caller, or NULL. */
struct fn_server *fn_server_create(struct fn_service *service, uint32_t id, const struct fn_endpoint *endpoint,
				   const struct fn_server_settings *settings);
static inline void fn_server_hold(struct fn_server *server)
{
	server->holders++;
}
void fn_server_release(struct fn_server *server);

/*
 * Make *servers* the list to schedule from, in this order; false when memory ran out, and then
 * nothing changed.  No servers take no memory: emptying the list succeeds.  The list holds its servers.
 */
bool fn_service_set_servers(struct fn_service *service, struct fn_server *const *servers, uint32_t count);

/* Give *server* new settings and tell the scheduler; flows it already has are not touched. */
void fn_service_set_server(struct fn_server *server, const struct fn_server_settings *settings);

/* Whether it may be given a new flow. */
static inline bool fn_server_is_available(const struct fn_server *server)
{
	return server->weight > 0 && !server->overloaded;
}

/* Flows it holds, active and inactive. */
static inline uint32_t fn_server_flows(const struct fn_server *server)
{
	return server->active + server->inactive;
}

/* Count a new flow, inactive at first; it may overload the server. */
void fn_service_flow_opened(struct fn_server *server);
/* Count a flow that was there before us: it is no new connection. */
void fn_service_flow_adopted(struct fn_server *server, bool is_active);
/* Move one flow from inactive to active. */
void fn_service_flow_activated(struct fn_server *server);
/* Move one flow from active to inactive. */
void fn_service_flow_deactivated(struct fn_server *server);
/* Take one flow off the count; the server may no longer be overloaded. */
void fn_service_flow_ended(struct fn_server *server, bool was_active);

#endif
