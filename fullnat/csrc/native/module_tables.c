// SPDX-License-Identifier: Apache-2.0
/* Director: what is read of it, copied in stretches under the lock.  See module.h for the rules. */
#include "module.h"

static PyObject *unsigned_of(uint64_t value)
{
	return PyLong_FromUnsignedLongLong(value);
}

PyObject *fn_director_object_counters(PyObject *object, PyObject *nothing)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	uint64_t counters[FN_REASONS];
	PyObject *list;

	(void)nothing;
	fn_director_object_lock(self);
	memcpy(counters, self->director->counters, sizeof(counters));
	fn_director_object_unlock(self);
	if (self->director->fastpath) {
		struct fn_fastpath_counts counts;

		fn_fastpath_read_counts(self->director->fastpath, &counts);
		counters[FN_REASON_FLOW_INBOUND] += counts.forwarded[FN_INBOUND];
		counters[FN_REASON_FLOW_OUTBOUND] += counts.forwarded[FN_OUTBOUND];
	}
	list = PyList_New(0);
	for (int reason = 0; list && reason < FN_REASONS; reason++)
		if (!fn_record_append(list, unsigned_of(counters[reason])))
			Py_CLEAR(list);
	return list;
}

PyObject *fn_director_object_carried(PyObject *object, PyObject *nothing)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_fastpath_counts counts = { .passed = { 0 } };
	PyObject *list = PyList_New(0);

	(void)nothing;
	if (self->director->fastpath)
		fn_fastpath_read_counts(self->director->fastpath, &counts);
	for (int direction = 0; list && direction < 2; direction++)
		if (!fn_record_append(list, unsigned_of(counts.forwarded[direction])))
			Py_CLEAR(list);
	for (int why = 0; list && why < FN_FASTPATH_PASSES; why++)
		if (!fn_record_append(list, unsigned_of(counts.passed[why])))
			Py_CLEAR(list);
	return list;
}

/* Servers. */

PyObject *fn_record_server(const struct fn_module_state *state, const struct fn_server *server)
{
	return fn_record_create(state, FN_RECORD_SERVER,
				(PyObject *[]){
					unsigned_of(server->id),
					unsigned_of(server->active),
					unsigned_of(server->inactive),
					PyBool_FromLong(server->overloaded),
					unsigned_of(server->connections),
					unsigned_of(server->packets[FN_INBOUND]),
					unsigned_of(server->packets[FN_OUTBOUND]),
					unsigned_of(server->bytes[FN_INBOUND]),
					unsigned_of(server->bytes[FN_OUTBOUND]),
				});
}

void fn_server_add_traffic(const struct fn_fastpath *fastpath, struct fn_server *copy)
{
	struct fn_traffic traffic;

	fn_fastpath_read_server(fastpath, copy->counter, &traffic);
	for (int direction = 0; direction < 2; direction++) {
		copy->packets[direction] += traffic.packets[direction];
		copy->bytes[direction] += traffic.bytes[direction];
	}
}

/* Copy servers from number *id* on; return how many. */
static uint32_t copy_servers(struct fn_director_object *self, uint64_t *id, struct fn_server copies[FN_STRETCH])
{
	const struct fn_server *server;
	uint32_t count = 0;

	fn_director_object_lock(self);
	while (count < FN_STRETCH && *id <= UINT32_MAX &&
	       (server = fn_registry_next_server(&self->registry, (uint32_t)*id))) {
		copies[count++] = *server;
		*id = (uint64_t)server->id + 1;
	}
	fn_director_object_unlock(self);
	for (uint32_t at = 0; self->director->fastpath && at < count; at++)
		fn_server_add_traffic(self->director->fastpath, &copies[at]);
	return count;
}

PyObject *fn_director_object_servers(PyObject *object, PyObject *nothing)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	const struct fn_module_state *state = fn_module_state_of(object);
	struct fn_server copies[FN_STRETCH];
	PyObject *list = PyList_New(0);
	uint64_t id = 0;
	uint32_t count;

	(void)nothing;
	fn_director_object_lock(self);
	fn_director_catch_up(self->director);
	fn_director_object_unlock(self);
	while (list && (count = copy_servers(self, &id, copies)))
		for (uint32_t at = 0; list && at < count; at++)
			if (!fn_record_append(list, fn_record_server(state, &copies[at])))
				Py_CLEAR(list);
	return list;
}

/* Flows. */

void fn_flow_copy(struct fn_flow_copy *copy, const struct fn_flow *flow)
{
	copy->service = flow->server->service->id;
	copy->server = flow->server->id;
	copy->created = flow->created;
	copy->last_seen = flow->last_seen;
	copy->timeout = flow->timeout;
	memcpy(copy->packets, flow->packets, sizeof(copy->packets));
	memcpy(copy->bytes, flow->bytes, sizeof(copy->bytes));
	copy->protocol = flow->protocol;
	copy->state = (uint8_t)fn_flow_read_state(flow);
	copy->key_size = flow->key_size;
	memcpy(copy->keys[FN_INBOUND], fn_flow_key(flow, FN_INBOUND), flow->key_size);
	memcpy(copy->keys[FN_OUTBOUND], fn_flow_key(flow, FN_OUTBOUND), flow->key_size);
}

PyObject *fn_record_flow(const struct fn_module_state *state, const struct fn_flow_copy *flow)
{
	const char *inbound = (const char *)flow->keys[FN_INBOUND], *outbound = (const char *)flow->keys[FN_OUTBOUND];

	return fn_record_create(state, FN_RECORD_FLOW,
				(PyObject *[]){
					unsigned_of(flow->service),
					unsigned_of(flow->server),
					unsigned_of(flow->protocol),
					PyBytes_FromStringAndSize(inbound, flow->key_size),
					PyBytes_FromStringAndSize(outbound, flow->key_size),
					unsigned_of(flow->state),
					PyLong_FromLongLong(flow->created),
					PyLong_FromLongLong(flow->last_seen),
					PyLong_FromLongLong(flow->timeout),
					unsigned_of(flow->packets[FN_INBOUND]),
					unsigned_of(flow->packets[FN_OUTBOUND]),
					unsigned_of(flow->bytes[FN_INBOUND]),
					unsigned_of(flow->bytes[FN_OUTBOUND]),
				});
}

/* Copy at most *most* flows from *cursor* on; return how many, fewer only at the end. */
static uint32_t copy_flows(struct fn_director_object *self, uint64_t *cursor, struct fn_flow_copy *copies, uint64_t most)
{
	const struct fn_flow *flow;
	uint32_t count = 0;

	fn_director_object_lock(self);
	while (count < most && (flow = fn_flow_table_walk(self->director->flows, cursor)))
		fn_flow_copy(&copies[count++], flow);
	fn_director_object_unlock(self);
	return count;
}

/* Append at most *limit* flows to *list*; set *is_end* when there are no more. */
static bool append_flows(struct fn_director_object *self, PyObject *list, uint64_t *cursor, uint64_t limit,
			 bool *is_end)
{
	const struct fn_module_state *state = fn_module_state_of((PyObject *)self);
	struct fn_flow_copy copies[FN_STRETCH];

	while (limit && !*is_end) {
		uint64_t most = limit < FN_STRETCH ? limit : FN_STRETCH;
		uint32_t count = copy_flows(self, cursor, copies, most);

		for (uint32_t at = 0; at < count; at++)
			if (!fn_record_append(list, fn_record_flow(state, &copies[at])))
				return false;
		limit -= count;
		*is_end = count < most;
	}
	return true;
}

PyObject *fn_director_object_flows(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "cursor", "limit", NULL };
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_integer cursor = { "cursor", 0, UINT64_MAX, 0 }, limit = { "limit", 1, UINT64_MAX, 0 };
	bool is_end = false;
	PyObject *list;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&O&:flows", (char **)names, fn_argument_integer,
					 &cursor, fn_argument_integer, &limit))
		return NULL;
	fn_director_object_lock(self);
	fn_director_catch_up(self->director);
	fn_director_object_unlock(self);
	list = PyList_New(0);
	if (!list || !append_flows(self, list, &cursor.value, limit.value, &is_end)) {
		Py_XDECREF(list);
		return NULL;
	}
	return is_end ? Py_BuildValue("(NO)", list, Py_None) :
			Py_BuildValue("(NK)", list, (unsigned long long)cursor.value);
}

/* Local ports. */

static PyObject *port_use_record(const struct fn_module_state *state, const struct fn_port_use *use)
{
	return fn_record_create(state, FN_RECORD_PORT_USE,
				(PyObject *[]){
					unsigned_of(use->protocol),
					fn_record_address(&use->lip),
					fn_record_address(&use->real.address),
					unsigned_of(use->real.port),
					unsigned_of(use->in_use),
					unsigned_of(use->resting),
					unsigned_of(use->capacity),
				});
}

static uint32_t copy_port_uses(struct fn_director_object *self, uint64_t *cursor, int64_t now,
			       struct fn_port_use copies[FN_STRETCH])
{
	uint32_t count = 0;

	fn_director_object_lock(self);
	while (count < FN_STRETCH && fn_lport_pool_usage(self->director->pool, cursor, now, &copies[count]))
		count++;
	fn_director_object_unlock(self);
	return count;
}

PyObject *fn_director_object_ports(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "now", NULL };
	struct fn_director_object *self = (struct fn_director_object *)object;
	const struct fn_module_state *state = fn_module_state_of(object);
	struct fn_integer now = FN_TIME("now");
	struct fn_port_use copies[FN_STRETCH];
	uint64_t cursor = 0;
	uint32_t count;
	PyObject *list;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&:ports", (char **)names, fn_argument_integer, &now))
		return NULL;
	list = PyList_New(0);
	while (list && (count = copy_port_uses(self, &cursor, (int64_t)now.value, copies)))
		for (uint32_t at = 0; list && at < count; at++)
			if (!fn_record_append(list, port_use_record(state, &copies[at])))
				Py_CLEAR(list);
	return list;
}

/* Persistence. */

/* A template, with the number of its server, which may go once the lock is released. */
struct template_copy {
	struct fn_template_use use;
	uint32_t server;
};

static PyObject *template_record(const struct fn_module_state *state, const struct template_copy *template)
{
	return fn_record_create(state, FN_RECORD_TEMPLATE,
				(PyObject *[]){
					unsigned_of(template->server),
					fn_record_address(&template->use.prefix),
					unsigned_of(template->use.prefix_length),
					unsigned_of(template->use.flows),
					PyLong_FromLongLong(template->use.deadline),
				});
}

static uint32_t copy_templates(struct fn_director_object *self, uint64_t *cursor,
			       struct template_copy copies[FN_STRETCH])
{
	uint32_t count = 0;

	fn_director_object_lock(self);
	while (count < FN_STRETCH &&
	       fn_persistence_table_walk(self->director->persistence, cursor, &copies[count].use)) {
		copies[count].server = copies[count].use.server->id;
		count++;
	}
	fn_director_object_unlock(self);
	return count;
}

PyObject *fn_director_object_templates(PyObject *object, PyObject *nothing)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	const struct fn_module_state *state = fn_module_state_of(object);
	struct template_copy copies[FN_STRETCH];
	PyObject *list = PyList_New(0);
	uint64_t cursor = 0;
	uint32_t count;

	(void)nothing;
	while (list && (count = copy_templates(self, &cursor, copies)))
		for (uint32_t at = 0; list && at < count; at++)
			if (!fn_record_append(list, template_record(state, &copies[at])))
				Py_CLEAR(list);
	return list;
}

PyObject *fn_director_object_totals(PyObject *object, PyObject *nothing)
{
	struct fn_director_object *self = (struct fn_director_object *)object;
	const struct fn_director *director = self->director;
	uint64_t flows, fragments, held, templates, suppressed;

	(void)nothing;
	fn_director_object_lock(self);
	flows = fn_flow_table_count(director->flows);
	fragments = fn_fragment_table_count(director->fragments);
	held = fn_fragment_table_held(director->fragments);
	templates = fn_persistence_table_count(director->persistence);
	suppressed = director->answers.suppressed;
	fn_director_object_unlock(self);
	return fn_record_create(fn_module_state_of(object), FN_RECORD_TOTALS,
				(PyObject *[]){
					unsigned_of(flows),
					unsigned_of(fragments),
					unsigned_of(held),
					unsigned_of(templates),
					unsigned_of(suppressed),
				});
}
