// SPDX-License-Identifier: Apache-2.0
/* Director: what it is made of, its services and servers, and settings.  See module.h for the rules. */
#include "module.h"

#include "adopt.h"

#include <limits.h>
#include <stdlib.h>

enum {
	TABLE_MAX = 1 << 28,      /* flows, templates or datagrams */
	ADDRESSES_MAX = 1 << 16,  /* a flow notes which one in 16 bits */
	SERVERS_MAX = 1 << 20,
	ROUTES_MAX = 1 << 24,
	WEIGHT_MAX = 65535,       /* as in the configuration */
};

/* Say what the registry said, or that memory ran out. */
static PyObject *done(bool is_done, const char *error)
{
	if (is_done)
		Py_RETURN_NONE;
	if (!*error)
		return PyErr_NoMemory();
	PyErr_SetString(PyExc_ValueError, error);
	return NULL;
}

/* Making and freeing one. */

static bool read_descriptor(PyObject *row, void *item)
{
	struct fn_integer descriptor = { "fastpath, map", 0, INT_MAX, 0 };

	if (!fn_argument_integer(row, &descriptor))
		return false;
	*(int *)item = (int)descriptor.value;
	return true;
}

static int read_maps(PyObject *object, void *argument)
{
	uint32_t count;
	int *maps = fn_argument_rows(object, "fastpath, maps", FN_MAPS, sizeof(*maps), read_descriptor, &count);

	if (!maps)
		return 0;
	if (count == FN_MAPS)
		memcpy(argument, maps, FN_MAPS * sizeof(*maps));
	else
		PyErr_Format(PyExc_ValueError, "fastpath, maps: %d of them", FN_MAPS);
	free(maps);
	return count == FN_MAPS;
}

/* None, or what fn_fastpath_create() needs; the fast path is made at once. */
static int read_fastpath(PyObject *object, void *argument)
{
#define EXPECTED "fastpath must be None or a tuple (maps, limit, servers, cpus)"
	struct fn_fastpath **fastpath = argument;
	struct fn_fastpath_options options;
	struct fn_integer limit = { "fastpath, limit", 1, TABLE_MAX, 0 };
	struct fn_integer servers = { "fastpath, servers", 2, UINT16_MAX, 0 };
	struct fn_integer cpus = { "fastpath, cpus", 1, UINT16_MAX, 0 };

	if (object == Py_None)
		return 1;
	if (!fn_argument_is_tuple(object, EXPECTED) ||
	    !PyArg_ParseTuple(object, "O&O&O&O&;" EXPECTED, read_maps, options.maps, fn_argument_integer, &limit,
			      fn_argument_integer, &servers, fn_argument_integer, &cpus))
		return 0;
#undef EXPECTED
	options.limit = (uint32_t)limit.value;
	options.servers = (uint32_t)servers.value;
	options.cpus = (uint32_t)cpus.value;
	*fastpath = fn_fastpath_create(&options);
	if (!*fastpath)
		PyErr_SetFromErrno(PyExc_OSError);
	return *fastpath != NULL;
}

static int read_port_range(PyObject *object, void *argument)
{
#define EXPECTED "ports must be a tuple (low, high)"
	struct fn_director_options *options = argument;
	struct fn_integer low = FN_PORT("ports, low"), high = FN_PORT("ports, high");

	if (!fn_argument_is_tuple(object, EXPECTED) ||
	    !PyArg_ParseTuple(object, "O&O&;" EXPECTED, fn_argument_integer, &low, fn_argument_integer, &high))
		return 0;
#undef EXPECTED
	if (low.value > high.value) {
		PyErr_SetString(PyExc_ValueError, "ports: low is above high");
		return 0;
	}
	options->low = (uint16_t)low.value;
	options->high = (uint16_t)high.value;
	return 1;
}

/* Read *object* into *addresses*, which the caller frees. */
static bool read_addresses(struct fn_director_options *options, struct fn_address **addresses, PyObject *object)
{
	*addresses = fn_argument_rows(object, "addresses", ADDRESSES_MAX, sizeof(**addresses),
				      fn_argument_read_address, &options->address_count);
	if (!*addresses)
		return false;
	for (uint32_t at = 0; at < options->address_count; at++)
		for (uint32_t before = 0; before < at; before++)
			if (fn_address_equal(&(*addresses)[at], &(*addresses)[before])) {
				PyErr_SetString(PyExc_ValueError, "addresses: one is there twice");
				return false;
			}
	options->addresses = *addresses;
	return true;
}

static bool read_options(struct fn_director_options *options, struct fn_address **addresses, PyObject *arguments,
			 PyObject *keywords)
{
	static const char *const names[] = { "flow_limit", "persistence_limit", "fragment_limit", "addresses",
					     "ports", "rest", "has_fallback", "seed", "hash_key", "now", "fastpath",
					     NULL };
	struct fn_integer flows = { "flow_limit", 1, TABLE_MAX, 0 };
	struct fn_integer templates = { "persistence_limit", 1, TABLE_MAX, 0 };
	struct fn_integer fragments = { "fragment_limit", 1, TABLE_MAX, 0 };
	struct fn_integer rest = FN_TIME("rest"), seed = { "seed", 0, UINT64_MAX, 0 }, now = FN_TIME("now");
	PyObject *address_rows;
	Py_ssize_t key_size;
	int has_fallback;
	const char *key;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "$O&O&O&OO&O&pO&y#O&O&:Director", (char **)names,
					 fn_argument_integer, &flows, fn_argument_integer, &templates,
					 fn_argument_integer, &fragments, &address_rows, read_port_range, options,
					 fn_argument_integer, &rest, &has_fallback, fn_argument_integer,
					 &seed, &key, &key_size, fn_argument_integer, &now, read_fastpath,
					 &options->fastpath))
		return false;
	if (key_size != sizeof(options->hash_key)) {
		PyErr_Format(PyExc_ValueError, "hash_key must have %zu bytes: %zd", sizeof(options->hash_key),
			     key_size);
		return false;
	}
	memcpy(&options->hash_key, key, sizeof(options->hash_key));
	if (options->fastpath && flows.value > fn_fastpath_limit(options->fastpath)) {
		PyErr_SetString(PyExc_ValueError, "flow_limit is above the fastpath's limit");
		return false;
	}
	options->flow_limit = (uint32_t)flows.value;
	options->persistence_limit = (uint32_t)templates.value;
	options->fragment_limit = (uint32_t)fragments.value;
	options->rest = (int64_t)rest.value;
	options->has_fallback = has_fallback;
	options->seed = seed.value;
	options->now = (int64_t)now.value;
	return read_addresses(options, addresses, address_rows);
}

static void init_lock(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;

	/* A packet thread of high priority may wait here for one of Python's that shares its core. */
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	if (pthread_mutex_init(lock, &attributes))
		pthread_mutex_init(lock, NULL);   /* a kernel that cannot do that */
	pthread_mutexattr_destroy(&attributes);
}

static PyObject *make(PyTypeObject *type, const struct fn_director_options *options)
{
	struct fn_director *director = fn_director_create(options);
	struct fn_director_object *self;

	if (!director)
		return PyErr_NoMemory();
	self = PyObject_New(struct fn_director_object, type);
	if (!self) {
		fn_director_destroy(director, NULL);
		return NULL;
	}
	self->director = director;
	self->has_engine = false;
	fn_registry_init(&self->registry, director);
	init_lock(&self->lock);
	return (PyObject *)self;
}

static PyObject *create(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
	struct fn_director_options options = { .low = 0 };
	struct fn_address *addresses = NULL;
	PyObject *self = NULL;

	if (read_options(&options, &addresses, arguments, keywords))
		self = make(type, &options);
	else
		fn_fastpath_destroy(options.fastpath);
	free(addresses);
	return self;
}

/* Without the lock: who could wait for it would have a reference. */
static void destroy(PyObject *object)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	PyTypeObject *type = Py_TYPE(object);

	fn_registry_free(&self->registry);
	fn_director_destroy(self->director, free);
	pthread_mutex_destroy(&self->lock);
	PyObject_Free(self);
	Py_DECREF(type);
}

/* Services. */

static bool read_timeout(PyObject *row, void *item)
{
	struct fn_integer timeout = FN_TIME("timeout");

	timeout.low = 1;
	if (!fn_argument_integer(row, &timeout))
		return false;
	*(int64_t *)item = (int64_t)timeout.value;
	return true;
}

static int read_timeouts(PyObject *object, void *argument)
{
	struct fn_service_settings *settings = argument;
	uint32_t count;
	int64_t *timeouts = fn_argument_rows(object, "timeouts", FN_TIMEOUTS, sizeof(*timeouts), read_timeout, &count);

	if (!timeouts)
		return 0;
	if (count == FN_TIMEOUTS)
		memcpy(settings->timeouts, timeouts, sizeof(settings->timeouts));
	else
		PyErr_Format(PyExc_ValueError, "timeouts must be %d: %lu", FN_TIMEOUTS, (unsigned long)count);
	free(timeouts);
	return count == FN_TIMEOUTS;
}

static int read_persistence(PyObject *object, void *argument)
{
#define EXPECTED "persistence must be None or a tuple (timeout, mask)"
	struct fn_service_settings *settings = argument;
	struct fn_integer timeout = FN_TIME("persistence timeout"), mask = { "persistence mask", 0, 128, 0 };

	if (object == Py_None)
		return 1;
	if (!fn_argument_is_tuple(object, EXPECTED) ||
	    !PyArg_ParseTuple(object, "O&O&;" EXPECTED, fn_argument_integer, &timeout, fn_argument_integer, &mask))
		return 0;
#undef EXPECTED
	settings->is_persistent = true;
	settings->persistence_timeout = (int64_t)timeout.value;
	settings->persistence_mask = (uint8_t)mask.value;
	return 1;
}

static int read_protocol(PyObject *object, void *argument)
{
	struct fn_service_options *options = argument;
	struct fn_integer protocol = { "protocol", 0, UINT8_MAX, 0 };

	if (!fn_argument_integer(object, &protocol))
		return 0;
	if (protocol.value != FN_TCP && protocol.value != FN_UDP) {
		PyErr_Format(PyExc_ValueError, "protocol must be %d or %d: %d", FN_TCP, FN_UDP, (int)protocol.value);
		return 0;
	}
	options->protocol = (uint8_t)protocol.value;
	return 1;
}

#define SEED { "seed", 0, UINT64_MAX, 0 }
#define FLAGS { "flags", 0, FN_SCHEDULER_PORT | FN_SCHEDULER_FALLBACK, 0 }

/* Fill *options*; the name of the scheduler is *arguments*' own. */
static bool read_service(struct fn_service_options *options, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "service", "protocol", "address", "port", "scheduler", "seed", "flags",
					     "timeouts", "persistence", "one_packet", NULL };
	struct fn_integer id = FN_ID("service"), port = FN_PORT("port"), seed = SEED, flags = FLAGS;
	int one_packet;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&$O&O&O&zO&O&O&O&p:add_service", (char **)names,
					 fn_argument_integer, &id, read_protocol, options, fn_argument_address,
					 &options->listen.address, fn_argument_integer, &port,
					 &options->scheduler.name, fn_argument_integer, &seed, fn_argument_integer,
					 &flags, read_timeouts, &options->settings, read_persistence,
					 &options->settings, &one_packet))
		return false;
	options->id = (uint32_t)id.value;
	options->listen.port = (uint16_t)port.value;
	options->scheduler.seed = seed.value;
	options->scheduler.flags = (uint32_t)flags.value;
	options->settings.one_packet = one_packet;
	return true;
}

static PyObject *add_service(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_service_options options = { .scheduler = { .name = NULL } };
	char error[FN_REGISTRY_ERROR];
	bool is_done;

	if (!read_service(&options, arguments, keywords))
		return NULL;
	fn_director_object_lock(self);
	is_done = fn_registry_add_service(&self->registry, &options, error);
	fn_director_object_unlock(self);
	return done(is_done, error);
}

/* What a service is to be: the scheduler has a name that is the caller's, or the one there is stays. */
struct change {
	struct fn_service_settings settings;
	struct fn_scheduler_options scheduler;
	bool has_scheduler;
};

static int read_scheduler(PyObject *object, void *argument)
{
#define EXPECTED "scheduler must be None or a tuple (name, seed, flags)"
	struct fn_integer seed = SEED, flags = FLAGS;
	struct change *change = argument;

	if (object == Py_None)
		return 1;
	if (!fn_argument_is_tuple(object, EXPECTED) ||
	    !PyArg_ParseTuple(object, "zO&O&;" EXPECTED, &change->scheduler.name, fn_argument_integer, &seed,
			      fn_argument_integer, &flags))
		return 0;
#undef EXPECTED
	change->has_scheduler = true;
	change->scheduler.seed = seed.value;
	change->scheduler.flags = (uint32_t)flags.value;
	return 1;
}

static PyObject *change_service(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "service", "scheduler", "timeouts", "persistence", "one_packet", NULL };
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct change change = { .has_scheduler = false };
	struct fn_integer id = FN_ID("service");
	char error[FN_REGISTRY_ERROR];
	int one_packet;
	bool is_done;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&$O&O&O&p:change_service", (char **)names,
					 fn_argument_integer, &id, read_scheduler, &change, read_timeouts,
					 &change.settings, read_persistence, &change.settings, &one_packet))
		return NULL;
	change.settings.one_packet = one_packet;
	fn_director_object_lock(self);
	is_done = fn_registry_change_service(&self->registry, (uint32_t)id.value, &change.settings,
					     change.has_scheduler ? &change.scheduler : NULL, error);
	fn_director_object_unlock(self);
	return done(is_done, error);
}

static PyObject *remove_service(PyObject *object, PyObject *argument)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_integer id = FN_ID("service");
	char error[FN_REGISTRY_ERROR];
	bool is_done;

	if (!fn_argument_integer(argument, &id))
		return NULL;
	fn_director_object_lock(self);
	is_done = fn_registry_remove_service(&self->registry, (uint32_t)id.value, error);
	fn_director_object_unlock(self);
	return done(is_done, error);
}

/* Servers. */

/* The settings of a server, as they are read. */
struct settings {
	struct fn_integer weight, configured_weight, upper, lower;
	int may_keep;
};

static const struct settings unread = {
	{ "weight", 0, WEIGHT_MAX, 0 }, { "configured_weight", 0, WEIGHT_MAX, 0 }, FN_ID("upper"), FN_ID("lower"), 0,
};

static struct fn_server_settings settings_of(const struct settings *read)
{
	return (struct fn_server_settings){
		.weight = (uint32_t)read->weight.value,
		.configured_weight = (uint32_t)read->configured_weight.value,
		.upper = (uint32_t)read->upper.value,
		.lower = (uint32_t)read->lower.value,
		.may_keep = read->may_keep,
	};
}

static bool read_server(PyObject *row, void *item)
{
#define EXPECTED "a server must be a tuple (server, address, port, weight, configured_weight, upper, lower, may_keep)"
	struct fn_server_options *options = item;
	struct fn_integer id = FN_ID("server"), port = FN_PORT("port");
	struct settings read = unread;

	if (!fn_argument_is_tuple(row, EXPECTED) ||
	    !PyArg_ParseTuple(row, "O&O&O&O&O&O&O&p;" EXPECTED, fn_argument_integer, &id, fn_argument_address,
			      &options->endpoint.address, fn_argument_integer, &port, fn_argument_integer,
			      &read.weight, fn_argument_integer, &read.configured_weight, fn_argument_integer,
			      &read.upper, fn_argument_integer, &read.lower, &read.may_keep))
		return false;
#undef EXPECTED
	options->id = (uint32_t)id.value;
	options->endpoint.port = (uint16_t)port.value;
	options->settings = settings_of(&read);
	return true;
}

static PyObject *set_servers(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "service", "servers", NULL };
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_integer id = FN_ID("service");
	struct fn_server_options *options;
	char error[FN_REGISTRY_ERROR];
	PyObject *servers;
	uint32_t count;
	bool is_done;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&O:set_servers", (char **)names, fn_argument_integer,
					 &id, &servers))
		return NULL;
	options = fn_argument_rows(servers, "servers", SERVERS_MAX, sizeof(*options), read_server, &count);
	if (!options)
		return NULL;
	fn_director_object_lock(self);
	is_done = fn_registry_set_servers(&self->registry, (uint32_t)id.value, options, count, error);
	fn_director_object_unlock(self);
	free(options);
	return done(is_done, error);
}

static PyObject *set_server(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "server", "weight", "configured_weight", "upper", "lower", "may_keep",
					     NULL };
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_integer id = FN_ID("server");
	struct fn_server_settings settings;
	struct settings read = unread;
	char error[FN_REGISTRY_ERROR];
	bool is_done;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&O&O&O&O&p:set_server", (char **)names,
					 fn_argument_integer, &id, fn_argument_integer, &read.weight,
					 fn_argument_integer, &read.configured_weight, fn_argument_integer,
					 &read.upper, fn_argument_integer, &read.lower, &read.may_keep))
		return NULL;
	settings = settings_of(&read);
	fn_director_object_lock(self);
	is_done = fn_registry_set_server(&self->registry, (uint32_t)id.value, &settings, error);
	fn_director_object_unlock(self);
	return done(is_done, error);
}

/* Settings of the whole. */

static bool read_route(PyObject *row, void *item)
{
#define EXPECTED "a route must be a tuple (network, prefix_length, mtu)"
	/* 68: what every IPv4 link carries (RFC 791, section 3.2). */
	struct fn_integer length = { "prefix_length", 0, 128, 0 }, mtu = { "mtu", 68, UINT32_MAX, 0 };
	struct fn_route *route = item;
	struct fn_address network;

	if (!fn_argument_is_tuple(row, EXPECTED) ||
	    !PyArg_ParseTuple(row, "O&O&O&;" EXPECTED, fn_argument_address, &route->network, fn_argument_integer,
			      &length, fn_argument_integer, &mtu))
		return false;
#undef EXPECTED
	length.high = route->network.size * 8U;
	if (length.value > length.high) {
		PyErr_Format(PyExc_ValueError, "prefix_length must be 0-%d: %d", (int)length.high, (int)length.value);
		return false;
	}
	network = fn_address_network(route->network.bytes, route->network.size, (uint32_t)length.value);
	if (!fn_address_equal(&network, &route->network)) {
		PyErr_SetString(PyExc_ValueError, "a network must have no host bits set");
		return false;
	}
	route->prefix_length = (uint8_t)length.value;
	route->mtu = (uint32_t)mtu.value;
	return true;
}

static PyObject *set_path_mtu(PyObject *object, PyObject *argument)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_path_mtu *path_mtu;
	struct fn_route *routes;
	uint32_t count;

	routes = fn_argument_rows(argument, "routes", ROUTES_MAX, sizeof(*routes), read_route, &count);
	if (!routes)
		return NULL;
	path_mtu = fn_path_mtu_create(routes, count);
	free(routes);
	if (!path_mtu)
		return PyErr_NoMemory();
	fn_director_object_lock(self);
	fn_director_set_path_mtu(self->director, path_mtu);
	fn_director_object_unlock(self);
	Py_RETURN_NONE;
}

static PyObject *exclude(PyObject *object, PyObject *argument)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_endpoint *endpoints;
	uint32_t count;
	bool is_done;

	endpoints = fn_argument_rows(argument, "endpoints", SERVERS_MAX, sizeof(*endpoints),
				     fn_argument_read_endpoint, &count);
	if (!endpoints)
		return NULL;
	fn_director_object_lock(self);
	is_done = fn_lport_pool_exclude(self->director->pool, endpoints, count);
	fn_director_object_unlock(self);
	free(endpoints);
	return done(is_done, "");
}

static PyObject *admit(PyObject *object, PyObject *argument)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_integer openings = FN_ID("openings");

	if (!fn_argument_integer(argument, &openings))
		return NULL;
	fn_director_object_lock(self);
	fn_director_admit(self->director, (uint32_t)openings.value);
	fn_director_object_unlock(self);
	Py_RETURN_NONE;
}

static PyObject *adopt(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "now", NULL };
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_integer now = FN_TIME("now");
	uint32_t adopted, ended;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&:adopt", (char **)names, fn_argument_integer, &now))
		return NULL;
	fn_director_object_lock(self);
	if (fn_flow_table_count(self->director->flows)) {
		fn_director_object_unlock(self);
		PyErr_SetString(PyExc_RuntimeError, "adopt() comes before every flow");
		return NULL;
	}
	adopted = fn_director_adopt(self->director, (int64_t)now.value, &ended);
	fn_director_object_unlock(self);
	return Py_BuildValue("(kk)", (unsigned long)adopted, (unsigned long)ended);
}

#define KEYWORDS(function) (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS

static PyMethodDef methods[] = {
	{ "add_service", KEYWORDS(add_service),
	  "add_service($self, service, *, protocol, address, port, scheduler, seed, flags, timeouts, persistence,\n"
	  "            one_packet)\n--\n\nServe one VIP:vport, for now without servers." },
	{ "change_service", KEYWORDS(change_service),
	  "change_service($self, service, *, scheduler, timeouts, persistence, one_packet)\n--\n\n"
	  "Give a service new settings; flows it has are not touched." },
	{ "remove_service", remove_service, METH_O,
	  "remove_service($self, service, /)\n--\n\nOpen no more flows for a service; those it has live on." },
	{ "set_servers", KEYWORDS(set_servers),
	  "set_servers($self, service, servers)\n--\n\nMake *servers* the list a service schedules from." },
	{ "set_server", KEYWORDS(set_server),
	  "set_server($self, server, weight, configured_weight, upper, lower, may_keep)\n--\n\n"
	  "Give a server new settings; flows it has are not touched." },
	{ "set_path_mtu", set_path_mtu, METH_O,
	  "set_path_mtu($self, routes, /)\n--\n\nUse these path MTUs from now on." },
	{ "exclude", exclude, METH_O,
	  "exclude($self, endpoints, /)\n--\n\nHand out no local port that is one of *endpoints*." },
	{ "adopt", KEYWORDS(adopt),
	  "adopt($self, now)\n--\n\nTake over the flows that the fast path has; how many, and how many were ended." },
	{ "admit", admit, METH_O,
	  "admit($self, openings, /)\n--\n\nOpen at most so many flows until the next call." },
	{ "decide", KEYWORDS(fn_director_object_decide),
	  "decide($self, packet, now)\n--\n\nDecide one packet, and keep it if it is held." },
	{ "answer", KEYWORDS(fn_director_object_answer),
	  "answer($self, packet, server, failed, now)\n--\n\nDecide a packet for which a scheduler was asked." },
	{ "expire", KEYWORDS(fn_director_object_expire),
	  "expire($self, now, budget)\n--\n\nEnd idle flows; return held packets that are dropped." },
	{ "counters", fn_director_object_counters, METH_NOARGS,
	  "counters($self, /)\n--\n\nReturn how many packets ended for each reason." },
	{ "carried", fn_director_object_carried, METH_NOARGS,
	  "carried($self, /)\n--\n\nReturn how many packets the fast path forwarded, and how many it left, by why." },
	{ "servers", fn_director_object_servers, METH_NOARGS,
	  "servers($self, /)\n--\n\nReturn what is counted for each server." },
	{ "forget_servers", fn_director_object_forget_servers, METH_NOARGS,
	  "forget_servers($self, /)\n--\n\nForget servers that are gone, and return what was counted for them." },
	{ "end_flows", KEYWORDS(fn_director_object_end_flows),
	  "end_flows($self, server, cursor, limit, now)\n--\n\n"
	  "End flows of a server from *cursor* on; return them, and where the next call begins." },
	{ "flows", KEYWORDS(fn_director_object_flows),
	  "flows($self, cursor, limit)\n--\n\nReturn flows from *cursor* on, and where the next call begins." },
	{ "ports", KEYWORDS(fn_director_object_ports),
	  "ports($self, now)\n--\n\nReturn how each local address stands towards each server." },
	{ "templates", fn_director_object_templates, METH_NOARGS,
	  "templates($self, /)\n--\n\nReturn the client prefixes that stay on a server." },
	{ "totals", fn_director_object_totals, METH_NOARGS,
	  "totals($self, /)\n--\n\nReturn how full the tables are." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_doc, "Director(*, flow_limit, persistence_limit, fragment_limit, addresses, ports, rest,\n"
		     "         has_fallback, seed, hash_key, now, fastpath)\n--\n\n"
		     "Services, flows and tables of one instance, and what is decided by them." },
	{ Py_tp_new, create },
	{ Py_tp_dealloc, destroy },
	{ Py_tp_methods, methods },
	{ 0, NULL },
};

PyType_Spec fn_director_spec = {
	.name = "fullnat._native.Director",
	.basicsize = sizeof(struct fn_director_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = slots,
};
