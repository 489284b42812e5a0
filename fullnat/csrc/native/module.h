// SPDX-License-Identifier: Apache-2.0
/*
 * The extension fullnat._native, which the module*.c files make: the only ones that know Python.
 *
 *     module.c            the module, its types and records
 *     module_arguments.c  what Python passes, checked
 *     module_director.c   Director: services, servers and settings
 *     module_decide.c     Director: one packet at a time, for tests and `explain`
 *     module_tables.c     Director: what is read of it
 *     module_ending.c     Director: flows that are ended, servers that are forgotten
 *     module_engine.c     Engine
 *
 * Rules.
 *   1. With a director's lock held, nothing of Python is called: it may run any code, switch
 *      threads, and come back to the same lock.  What is read is copied under the lock, what is
 *      written was checked before it.
 *   2. So the lock is never waited for by who holds it, and may be waited for with the GIL.
 *   3. Arguments are wrong in one line: TypeError or ValueError.
 */
#ifndef FULLNAT_NATIVE_MODULE_H
#define FULLNAT_NATIVE_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "engine.h"
#include "registry.h"

/* Times are less than 70 years, so that the sum of two is a time. */
#define FN_TIME_MAX (INT64_MAX / 4)

enum { FN_STRETCH = 256 };   /* rows copied while a director's lock is held */

/* The records that are returned: tuples with names. */
enum fn_record {
	FN_RECORD_RELEASED,
	FN_RECORD_DECISION,
	FN_RECORD_FLOW,
	FN_RECORD_SERVER,
	FN_RECORD_PORT_USE,
	FN_RECORD_TEMPLATE,
	FN_RECORD_TOTALS,
	FN_RECORD_UPCALL,
	FN_RECORDS,
};

struct fn_module_state {
	PyTypeObject *director;
	PyTypeObject *engine;
	PyTypeObject *records[FN_RECORDS];
	PyObject *engine_error;
};

struct fn_director_object {
	PyObject_HEAD
	struct fn_director *director;
	struct fn_registry registry;
	pthread_mutex_t lock;
	bool has_engine;               /* packets held are an engine's, decide() must not touch them */
};

extern PyType_Spec fn_director_spec;
extern PyType_Spec fn_engine_spec;

/* The state of the module that the type of *self* belongs to. */
static inline struct fn_module_state *fn_module_state_of(PyObject *self)
{
	return PyType_GetModuleState(Py_TYPE(self));
}

static inline void fn_director_object_lock(struct fn_director_object *self)
{
	pthread_mutex_lock(&self->lock);
}

static inline void fn_director_object_unlock(struct fn_director_object *self)
{
	pthread_mutex_unlock(&self->lock);
}

/* Return a record of *items*, whose references it takes; NULL if one of them is. */
PyObject *fn_record_create(const struct fn_module_state *state, enum fn_record kind, PyObject *const *items);

/* What is shown of a flow. */
struct fn_flow_copy {
	uint32_t service, server;
	int64_t created, last_seen, timeout;
	uint64_t packets[2], bytes[2];
	uint8_t protocol, state, key_size;
	uint8_t keys[2][FN_KEY_MAX];
};
void fn_flow_copy(struct fn_flow_copy *copy, const struct fn_flow *flow);
PyObject *fn_record_flow(const struct fn_module_state *state, const struct fn_flow_copy *flow);

/* Add what the kernel carried for a server to this copy of it. */
void fn_server_add_traffic(const struct fn_fastpath *fastpath, struct fn_server *copy);
PyObject *fn_record_server(const struct fn_module_state *state, const struct fn_server *server);

/* Return bytes of *address*. */
static inline PyObject *fn_record_address(const struct fn_address *address)
{
	return PyBytes_FromStringAndSize((const char *)address->bytes, address->size);
}

/* Return *record* appended to *list*; false with an exception, and *record* may be NULL with one. */
bool fn_record_append(PyObject *list, PyObject *record);

/* An integer to be read: what it is called, and its bounds.  A converter for "O&". */
struct fn_integer {
	const char *name;
	uint64_t low;
	uint64_t high;
	uint64_t value;
};
int fn_argument_integer(PyObject *object, void *integer);
#define FN_ID(name) { name, 0, UINT32_MAX, 0 }
#define FN_PORT(name) { name, 1, UINT16_MAX, 0 }
#define FN_TIME(name) { name, 0, FN_TIME_MAX, 0 }

/* Converters for "O&" to struct fn_address, and to an integer or None. */
int fn_argument_address(PyObject *object, void *address);
struct fn_optional {
	struct fn_integer integer;
	bool is_given;
};
int fn_argument_optional(PyObject *object, void *optional);

/* Reads one row of a sequence into *item*; false with an exception. */
typedef bool fn_argument_reader(PyObject *row, void *item);
bool fn_argument_read_address(PyObject *row, void *item);    /* into a struct fn_address */
bool fn_argument_read_endpoint(PyObject *row, void *item);   /* (address, port) into a struct fn_endpoint */

/*
 * Return an array, to be freed, of what *read* makes of each row of *sequence*, or NULL with an
 * exception.  It has room for one item more than *count* says.
 */
void *fn_argument_rows(PyObject *sequence, const char *name, uint32_t most, size_t item_size,
		       fn_argument_reader *read, uint32_t *count);
/* Whether *row* is a tuple, which PyArg_ParseTuple() takes for granted; else *expected* is said. */
bool fn_argument_is_tuple(PyObject *row, const char *expected);

/* Methods of a Director that are not in module_director.c. */
PyObject *fn_director_object_decide(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *fn_director_object_answer(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *fn_director_object_expire(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *fn_director_object_counters(PyObject *self, PyObject *nothing);
PyObject *fn_director_object_carried(PyObject *self, PyObject *nothing);
PyObject *fn_director_object_servers(PyObject *self, PyObject *nothing);
PyObject *fn_director_object_forget_servers(PyObject *self, PyObject *nothing);
PyObject *fn_director_object_end_flows(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *fn_director_object_flows(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *fn_director_object_ports(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *fn_director_object_templates(PyObject *self, PyObject *nothing);
PyObject *fn_director_object_totals(PyObject *self, PyObject *nothing);

#endif
