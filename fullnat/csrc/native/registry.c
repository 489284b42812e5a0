// SPDX-License-Identifier: Apache-2.0
/* The registry.  See registry.h for the contract. */
#include "registry.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_ROOM = 16 };

__attribute__((format(printf, 2, 3)))
static bool refuse(char error[FN_REGISTRY_ERROR], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error, FN_REGISTRY_ERROR, format, arguments);
	va_end(arguments);
	return false;
}

/* Objects by number. */

/* Return where *id* is, or would be. */
static uint32_t position_of(const struct fn_numbered *numbered, uint32_t id)
{
	uint32_t low = 0, high = numbered->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (numbered->entries[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void *find(const struct fn_numbered *numbered, uint32_t id)
{
	uint32_t at = position_of(numbered, id);

	return at < numbered->count && numbered->entries[at].id == id ? numbered->entries[at].object : NULL;
}

/* Make room for *more* objects; false when memory ran out. */
static bool reserve(struct fn_numbered *numbered, uint32_t more)
{
	size_t needed = (size_t)numbered->count + more;
	size_t room = numbered->room ? numbered->room : FIRST_ROOM;
	struct fn_number *entries;

	if (needed <= numbered->room)
		return true;
	while (room < needed)
		room *= 2;
	entries = realloc(numbered->entries, room * sizeof(*entries));
	if (!entries)
		return false;
	numbered->entries = entries;
	numbered->room = (uint32_t)room;
	return true;
}

/* Add an object; there is room for it. */
static void add(struct fn_numbered *numbered, uint32_t id, void *object)
{
	uint32_t at = position_of(numbered, id);

	memmove(numbered->entries + at + 1, numbered->entries + at,
		(numbered->count - at) * sizeof(*numbered->entries));
	numbered->entries[at] = (struct fn_number){ id, object };
	numbered->count++;
}

static void take_out(struct fn_numbered *numbered, uint32_t id)
{
	uint32_t at = position_of(numbered, id);

	numbered->count--;
	memmove(numbered->entries + at, numbered->entries + at + 1,
		(numbered->count - at) * sizeof(*numbered->entries));
}

/* The registry as a whole. */

void fn_registry_init(struct fn_registry *registry, struct fn_director *director)
{
	*registry = (struct fn_registry){ .director = director };
}

void fn_registry_free(struct fn_registry *registry)
{
	for (uint32_t at = 0; at < registry->servers.count; at++)
		fn_server_release(registry->servers.entries[at].object);
	for (uint32_t at = 0; at < registry->services.count; at++)
		fn_service_release(registry->services.entries[at].object);
	free(registry->servers.entries);
	free(registry->services.entries);
	fn_registry_init(registry, NULL);
}

void fn_registry_drop(const struct fn_registry *registry, struct fn_server *server)
{
	if (registry->director->fastpath && server->holders == 1)
		fn_fastpath_give_counter(registry->director->fastpath, server->counter);
	fn_server_release(server);
}

uint32_t fn_registry_forget(struct fn_registry *registry, struct fn_server **forgotten, uint32_t most)
{
	struct fn_numbered *servers = &registry->servers;
	uint32_t kept = 0, count = 0;

	for (uint32_t at = 0; at < servers->count; at++) {
		struct fn_server *server = servers->entries[at].object;

		if (count < most && !server->is_listed && server->holders == 1)
			forgotten[count++] = server;
		else
			servers->entries[kept++] = servers->entries[at];
	}
	servers->count = kept;
	return count;
}

struct fn_server *fn_registry_find_server(const struct fn_registry *registry, uint32_t id)
{
	return find(&registry->servers, id);
}

const struct fn_server *fn_registry_next_server(const struct fn_registry *registry, uint32_t id)
{
	uint32_t at = position_of(&registry->servers, id);

	return at < registry->servers.count ? registry->servers.entries[at].object : NULL;
}

/* Services. */

static bool check_scheduler(const struct fn_scheduler_options *options, char error[FN_REGISTRY_ERROR])
{
	if (!options->name)
		return true;
	for (uint32_t at = 0; fn_scheduler_classes[at]; at++)
		if (!strcmp(fn_scheduler_classes[at]->name, options->name))
			return true;
	return refuse(error, "no built-in scheduler is named '%.40s'", options->name);
}

static bool check_settings(const struct fn_service_settings *settings, uint8_t protocol, const struct fn_address *vip,
			   char error[FN_REGISTRY_ERROR])
{
	if (settings->one_packet && protocol != FN_UDP)
		return refuse(error, "one_packet is for UDP");
	if (settings->persistence_mask > vip->size * 8)
		return refuse(error, "persistence mask must be 0-%u: %u", vip->size * 8U, settings->persistence_mask);
	return true;
}

/* Whether flows of a service that was removed are still shown by number *id*. */
static bool lives_on(const struct fn_registry *registry, uint32_t id)
{
	for (uint32_t at = 0; at < registry->servers.count; at++) {
		const struct fn_server *server = registry->servers.entries[at].object;

		if (server->service->id == id)
			return true;
	}
	return false;
}

static bool check_service(const struct fn_registry *registry, const struct fn_service_options *options,
			  char error[FN_REGISTRY_ERROR])
{
	const struct fn_address *address = &options->listen.address;

	if (find(&registry->services, options->id))
		return refuse(error, "there is a service %u already", options->id);
	if (lives_on(registry, options->id))
		return refuse(error, "service %u was removed and still has servers", options->id);
	if (!check_scheduler(&options->scheduler, error) ||
	    !check_settings(&options->settings, options->protocol, address, error))
		return false;
	if (fn_service_table_find(&registry->director->services, options->protocol, address->bytes, address->size,
				  options->listen.port))
		return refuse(error, "service %u: its address and port are another's", options->id);
	return true;
}

/* Set *scheduler* to what *options* say, NULL for a class in Python; false when memory ran out. */
static bool make_scheduler(const struct fn_scheduler_options *options, struct fn_scheduler **scheduler)
{
	*scheduler = NULL;
	if (!options->name)
		return true;
	*scheduler = fn_scheduler_create(options->name, options->seed, options->flags);
	return *scheduler;
}

/* Return the service with one holder, or NULL when memory ran out. */
static struct fn_service *make_service(const struct fn_service_options *options)
{
	struct fn_scheduler *scheduler;
	struct fn_service *service;

	if (!make_scheduler(&options->scheduler, &scheduler))
		return NULL;
	service = fn_service_create(options->id, options->protocol, &options->listen, scheduler);
	if (service)
		fn_service_set(service, &options->settings);
	else
		fn_scheduler_destroy(scheduler);
	return service;
}

bool fn_registry_add_service(struct fn_registry *registry, const struct fn_service_options *options,
			     char error[FN_REGISTRY_ERROR])
{
	struct fn_service *service;

	error[0] = '\0';
	if (!check_service(registry, options, error) || !reserve(&registry->services, 1))
		return false;
	service = make_service(options);
	if (!service)
		return false;
	if (!fn_director_add_service(registry->director, service)) {
		fn_service_release(service);
		return false;
	}
	add(&registry->services, options->id, service);
	return true;
}

static struct fn_service *find_service(const struct fn_registry *registry, uint32_t id,
				       char error[FN_REGISTRY_ERROR])
{
	struct fn_service *service = find(&registry->services, id);

	error[0] = '\0';
	if (!service)
		refuse(error, "there is no service %u", id);
	return service;
}

bool fn_registry_change_service(struct fn_registry *registry, uint32_t id, const struct fn_service_settings *settings,
				const struct fn_scheduler_options *options, char error[FN_REGISTRY_ERROR])
{
	struct fn_service *service = find_service(registry, id, error);
	struct fn_scheduler *scheduler;

	if (!service || !check_settings(settings, service->protocol, &service->listen.address, error) ||
	    (options && !check_scheduler(options, error)))
		return false;
	if (options && (!make_scheduler(options, &scheduler) || !fn_service_set_scheduler(service, scheduler))) {
		fn_scheduler_destroy(scheduler);
		return false;
	}
	fn_service_set(service, settings);
	return true;
}

bool fn_registry_remove_service(struct fn_registry *registry, uint32_t id, char error[FN_REGISTRY_ERROR])
{
	struct fn_service *service = find_service(registry, id, error);

	if (!service)
		return false;
	fn_director_remove_service(registry->director, service);
	take_out(&registry->services, id);
	fn_service_release(service);
	return true;
}

/* Servers. */

static int compare(const void *one, const void *other)
{
	uint32_t first = *(const uint32_t *)one, second = *(const uint32_t *)other;

	return (first > second) - (first < second);
}

/* Whether no number stands twice in *options*; *ids* has room for all. */
static bool are_unique(const struct fn_server_options *options, uint32_t count, uint32_t *ids,
		       char error[FN_REGISTRY_ERROR])
{
	for (uint32_t at = 0; at < count; at++)
		ids[at] = options[at].id;
	qsort(ids, count, sizeof(*ids), compare);
	for (uint32_t at = 1; at < count; at++)
		if (ids[at] == ids[at - 1])
			return refuse(error, "server %u is listed twice", ids[at]);
	return true;
}

static bool check_servers(const struct fn_registry *registry, const struct fn_service *service,
			  const struct fn_server_options *options, uint32_t count, char error[FN_REGISTRY_ERROR])
{
	for (uint32_t at = 0; at < count; at++) {
		const struct fn_server *known = find(&registry->servers, options[at].id);

		if (options[at].endpoint.address.size != service->listen.address.size)
			return refuse(error, "server %u has an address of the other family", options[at].id);
		if (known && known->service != service)
			return refuse(error, "server %u belongs to service %u", options[at].id, known->service->id);
		if (known && !fn_endpoint_equal(&known->endpoint, &options[at].endpoint))
			return refuse(error, "server %u has another address or port", options[at].id);
	}
	return true;
}

/* Return the server of *options* with one more holder, the caller, or NULL when memory ran out. */
static struct fn_server *get_server(struct fn_registry *registry, struct fn_service *service,
				    const struct fn_server_options *options)
{
	struct fn_server *server = find(&registry->servers, options->id);

	if (server) {
		fn_server_hold(server);
		return server;
	}
	server = fn_server_create(service, options->id, &options->endpoint, &options->settings);
	if (!server)
		return NULL;
	server->ports = fn_lport_pool_ports(registry->director->pool, service->protocol, &options->endpoint);
	if (!server->ports) {
		fn_server_release(server);
		return NULL;
	}
	if (registry->director->fastpath)
		server->counter = fn_fastpath_take_counter(registry->director->fastpath);
	return server;
}

/* Make *list*, of which *options* says the settings, the list of *service*, and known. */
static void accept_servers(struct fn_registry *registry, struct fn_server *const *list,
			   const struct fn_server_options *options, uint32_t count)
{
	for (uint32_t at = 0; at < count; at++) {
		if (find(&registry->servers, options[at].id)) {
			fn_service_set_server(list[at], &options[at].settings);
			fn_server_release(list[at]);
		} else {
			add(&registry->servers, options[at].id, list[at]);
		}
	}
}

static bool replace_servers(struct fn_registry *registry, struct fn_service *service, struct fn_server **list,
			    const struct fn_server_options *options, uint32_t count)
{
	uint32_t made = 0;

	if (!reserve(&registry->servers, count))
		return false;
	while (made < count && (list[made] = get_server(registry, service, &options[made])))
		made++;
	if (made == count && fn_service_set_servers(service, list, count)) {
		accept_servers(registry, list, options, count);
		return true;
	}
	while (made)
		fn_registry_drop(registry, list[--made]);
	return false;
}

bool fn_registry_set_servers(struct fn_registry *registry, uint32_t id, const struct fn_server_options *options,
			     uint32_t count, char error[FN_REGISTRY_ERROR])
{
	struct fn_service *service = find_service(registry, id, error);
	struct fn_server **list = calloc((size_t)count + 1, sizeof(*list));
	uint32_t *ids = calloc((size_t)count + 1, sizeof(*ids));
	bool done = false;

	if (service && list && ids && are_unique(options, count, ids, error) &&
	    check_servers(registry, service, options, count, error))
		done = replace_servers(registry, service, list, options, count);
	free(list);
	free(ids);
	return done;
}

bool fn_registry_set_server(struct fn_registry *registry, uint32_t id, const struct fn_server_settings *settings,
			    char error[FN_REGISTRY_ERROR])
{
	struct fn_server *server = find(&registry->servers, id);

	error[0] = '\0';
	if (!server)
		return refuse(error, "there is no server %u", id);
	fn_service_set_server(server, settings);
	return true;
}
