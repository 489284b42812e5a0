// SPDX-License-Identifier: Apache-2.0
/*
 * The registry: services and servers of a director by the numbers Python gives them.
 *
 * A change is checked as a whole before anything of it is done, and when memory runs out nothing
 * has changed.  A server that left its list stays known for as long as flows, templates or fragments
 * hold it, since they are shown by its number; and then until forget(), so that no count is lost.
 *
 * Has no lock: every function is called with the director's.  What is wrong with a change is said in
 * one line of *error*, which is empty when memory ran out.
 */
#ifndef FULLNAT_NATIVE_REGISTRY_H
#define FULLNAT_NATIVE_REGISTRY_H

#include "director.h"

enum { FN_REGISTRY_ERROR = 160 };

/* Objects in the order of their numbers. */
struct fn_numbered {
	struct fn_number {
		uint32_t id;
		void *object;
	} *entries;
	uint32_t count;
	uint32_t room;
};

struct fn_registry {
	struct fn_director *director;
	struct fn_numbered services;   /* struct fn_service, each held */
	struct fn_numbered servers;    /* struct fn_server, each held */
};

struct fn_scheduler_options {
	const char *name;              /* NULL: a class in Python */
	uint64_t seed;
	uint32_t flags;                /* of enum fn_scheduler_flag */
};

struct fn_service_options {
	uint32_t id;
	uint8_t protocol;
	struct fn_endpoint listen;
	struct fn_scheduler_options scheduler;
	struct fn_service_settings settings;
};

struct fn_server_options {
	uint32_t id;
	struct fn_endpoint endpoint;
	struct fn_server_settings settings;
};

void fn_registry_init(struct fn_registry *registry, struct fn_director *director);
/* Let go of everything; the director still holds what it serves. */
void fn_registry_free(struct fn_registry *registry);

bool fn_registry_add_service(struct fn_registry *registry, const struct fn_service_options *options,
			     char error[FN_REGISTRY_ERROR]);
/* Give service *id* new settings and, unless it is NULL, another scheduler for the servers it has. */
bool fn_registry_change_service(struct fn_registry *registry, uint32_t id, const struct fn_service_settings *settings,
				const struct fn_scheduler_options *scheduler, char error[FN_REGISTRY_ERROR]);
bool fn_registry_remove_service(struct fn_registry *registry, uint32_t id, char error[FN_REGISTRY_ERROR]);

/*
 * Make *options* the list of service *id*: servers known by their number keep flows and counts and
 * get the settings, new ones are made, and those not named leave the list.
 */
bool fn_registry_set_servers(struct fn_registry *registry, uint32_t id, const struct fn_server_options *options,
			     uint32_t count, char error[FN_REGISTRY_ERROR]);
bool fn_registry_set_server(struct fn_registry *registry, uint32_t id, const struct fn_server_settings *settings,
			    char error[FN_REGISTRY_ERROR]);

/*
 * Take out servers that nothing holds any more, at most *most*, and return how many there are in
 * *forgotten*: whoever has read their counts drops them.
 */
uint32_t fn_registry_forget(struct fn_registry *registry, struct fn_server **forgotten, uint32_t most);
/* Let go of a server, whose last holder this is if it is nobody else's. */
void fn_registry_drop(const struct fn_registry *registry, struct fn_server *server);

/* Return server *id*, or NULL. */
struct fn_server *fn_registry_find_server(const struct fn_registry *registry, uint32_t id);
/* Return the server of the lowest number from *id* on, or NULL. */
const struct fn_server *fn_registry_next_server(const struct fn_registry *registry, uint32_t id);

#endif
