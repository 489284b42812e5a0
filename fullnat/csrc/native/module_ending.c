// SPDX-License-Identifier: Apache-2.0
/* Director: flows that are ended on request, servers that are forgotten.  See module.h for the rules. */
#include "module.h"

#include <stdlib.h>

enum {
	END_MAX = 1 << 16,       /* flows ended by one call */
	END_STRETCH = 512,       /* places looked at while the lock is held: well under a millisecond */
};

/* Servers. */

static uint32_t forget(struct fn_director_object *self, struct fn_server **forgotten)
{
	uint32_t count;

	fn_director_object_lock(self);
	count = fn_registry_forget(&self->registry, forgotten, FN_STRETCH);
	fn_director_object_unlock(self);
	return count;
}

static void drop(struct fn_director_object *self, struct fn_server *const *forgotten, uint32_t count)
{
	fn_director_object_lock(self);
	for (uint32_t at = 0; at < count; at++)
		fn_registry_drop(&self->registry, forgotten[at]);
	fn_director_object_unlock(self);
}

PyObject *fn_director_object_forget_servers(PyObject *object, PyObject *nothing)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	const struct fn_module_state *state = fn_module_state_of(object);
	struct fn_server *forgotten[FN_STRETCH];
	PyObject *list = PyList_New(0);
	uint32_t count;

	(void)nothing;
	while (list && (count = forget(self, forgotten))) {
		for (uint32_t at = 0; list && at < count; at++) {
			struct fn_server copy = *forgotten[at];   /* nobody else has it any more */

			if (self->director->fastpath)
				fn_server_add_traffic(self->director->fastpath, &copy);
			if (!fn_record_append(list, fn_record_server(state, &copy)))
				Py_CLEAR(list);
		}
		drop(self, forgotten, count);
	}
	return list;
}

/* Flows. */

/* Flows of one server that are being ended: out of the table, not freed yet. */
struct ending {
	struct fn_director_object *self;
	struct fn_server *server;      /* held, or NULL: there is none */
	uint64_t cursor;
	uint32_t limit;
	uint32_t count;
	struct fn_flow **flows;        /* room for *limit*, as copies */
	struct fn_flow_copy *copies;
	int64_t now;
};

static bool is_done(const struct ending *ending)
{
	return !ending->server || fn_flow_table_is_end(ending->cursor);
}

static void find_server(struct ending *ending, uint32_t id)
{
	fn_director_object_lock(ending->self);
	ending->server = fn_registry_find_server(&ending->self->registry, id);
	if (ending->server)
		fn_server_hold(ending->server);
	fn_director_object_unlock(ending->self);
}

static void take_flows(struct ending *ending)
{
	while (!is_done(ending) && ending->count < ending->limit) {
		uint64_t budget = END_STRETCH;
		struct fn_flow *flow;

		fn_director_object_lock(ending->self);
		while (ending->count < ending->limit &&
		       (flow = fn_director_end_flow(ending->self->director, ending->server, &ending->cursor, &budget,
						    ending->now)))
			ending->flows[ending->count++] = flow;
		fn_director_object_unlock(ending->self);
	}
}

/* Copy the flows, of which nobody counts a packet any more, and free them. */
static void free_flows(struct ending *ending)
{
	for (uint32_t at = 0; at < ending->count;) {
		fn_director_object_lock(ending->self);
		for (uint32_t end = at + FN_STRETCH; at < end && at < ending->count; at++) {
			fn_flow_copy(&ending->copies[at], ending->flows[at]);
			fn_flow_table_free(ending->self->director->flows, ending->flows[at]);
		}
		fn_director_object_unlock(ending->self);
	}
}

/* Let go of the server; once its last flow is ended, fragments that are under way end too. */
static void let_go(struct ending *ending)
{
	if (!ending->server)
		return;
	fn_director_object_lock(ending->self);
	if (is_done(ending))
		fn_fragment_table_forget_server(ending->self->director->fragments, ending->server);
	fn_registry_drop(&ending->self->registry, ending->server);
	fn_director_object_unlock(ending->self);
}

static void end_flows(struct ending *ending, uint32_t server)
{
	find_server(ending, server);
	take_flows(ending);
	if (ending->count)
		fn_flow_table_wait_for_readers(ending->self->director->flows);
	free_flows(ending);
	let_go(ending);
}

static PyObject *ended_rows(const struct ending *ending)
{
	const struct fn_module_state *state = fn_module_state_of((PyObject *)ending->self);
	PyObject *list = PyList_New(0);

	for (uint32_t at = 0; list && at < ending->count; at++)
		if (!fn_record_append(list, fn_record_flow(state, &ending->copies[at])))
			Py_CLEAR(list);
	if (!list)
		return NULL;
	return is_done(ending) ? Py_BuildValue("(NO)", list, Py_None) :
				 Py_BuildValue("(NK)", list, (unsigned long long)ending->cursor);
}

PyObject *fn_director_object_end_flows(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "server", "cursor", "limit", "now", NULL };
	struct ending ending = { .self = (struct fn_director_object *)object };
	struct fn_integer cursor = { "cursor", 0, UINT64_MAX, 0 }, limit = { "limit", 1, END_MAX, 0 };
	struct fn_integer server = FN_ID("server"), now = FN_TIME("now");
	PyObject *rows;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&O&O&O&:end_flows", (char **)names,
					 fn_argument_integer, &server, fn_argument_integer, &cursor,
					 fn_argument_integer, &limit, fn_argument_integer, &now))
		return NULL;
	ending.cursor = cursor.value;
	ending.limit = (uint32_t)limit.value;
	ending.now = (int64_t)now.value;
	ending.flows = calloc(ending.limit, sizeof(*ending.flows));
	ending.copies = calloc(ending.limit, sizeof(*ending.copies));
	if (ending.flows && ending.copies) {
		Py_BEGIN_ALLOW_THREADS   /* the kernel may take a while to be done with them */
		end_flows(&ending, (uint32_t)server.value);
		Py_END_ALLOW_THREADS
		rows = ended_rows(&ending);
	} else {
		rows = PyErr_NoMemory();
	}
	free(ending.flows);
	free(ending.copies);
	return rows;
}
