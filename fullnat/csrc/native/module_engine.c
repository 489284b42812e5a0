// SPDX-License-Identifier: Apache-2.0
/*
 * Engine: the threads, started, stopped and asked from Python.  See module.h for the rules.
 *
 * The GIL guards the state of the object.  start(), stop() and expire() let go of it while they
 * wait; what may not happen meanwhile is refused.
 */
#define _GNU_SOURCE   /* CPU_SETSIZE */
#include "module.h"

#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "upcalls.h"

enum { PRIORITY_MAX = 99, LOCAL_ADDRESSES_MAX = 1 << 20, ANSWERS_MAX = 1 << 20 };

struct engine_object {
	PyObject_HEAD
	struct fn_engine *engine;
	struct fn_director_object *director;   /* a reference */
	bool runs;
	bool is_changing;                      /* being started or stopped */
	uint32_t expiring;                     /* calls under way */
};

/* As the threads read it: the time of packets comes from one clock. */
static int64_t read_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * FN_SECOND + now.tv_nsec;
}

static PyObject *busy(void)
{
	PyErr_SetString(PyExc_RuntimeError, "the engine is being started, stopped or expired by another thread");
	return NULL;
}

/* Making and freeing one. */

/* -1 or a descriptor. */
static int read_socket(PyObject *object, void *socket)
{
	struct fn_integer descriptor = { "raw socket", 0, INT_MAX, 0 };

	if (PyLong_Check(object) && PyLong_AsLong(object) == -1 && !PyErr_Occurred()) {
		*(int *)socket = -1;
		return 1;
	}
	PyErr_Clear();
	if (!fn_argument_integer(object, &descriptor))
		return 0;
	*(int *)socket = (int)descriptor.value;
	return 1;
}

static bool read_queue(PyObject *row, void *item)
{
	struct fn_integer queue = { "queue", 0, UINT16_MAX, 0 };

	if (!fn_argument_integer(row, &queue))
		return false;
	*(uint16_t *)item = (uint16_t)queue.value;
	return true;
}

static int read_queues(PyObject *object, void *argument)
{
	struct fn_engine_options *options = argument;
	uint16_t *queues = fn_argument_rows(object, "queues", FN_ENGINE_WORKERS, sizeof(*queues), read_queue,
					    &options->workers);

	if (!queues)
		return 0;
	memcpy(options->queues, queues, options->workers * sizeof(*queues));
	free(queues);
	if (!options->workers)
		PyErr_SetString(PyExc_ValueError, "queues: at least one");
	return options->workers > 0;
}

static int read_segmented(PyObject *object, void *argument)
{
	struct fn_engine_options *options = argument;

	return read_queue(object, &options->segmented);
}

/* Whether each queue is named once: the kernel gives it to one socket. */
static bool are_unique(const struct fn_engine_options *options)
{
	for (uint32_t at = 0; at < options->workers; at++) {
		uint16_t queue = options->queues[at];
		bool is_twice = queue == options->segmented;

		for (uint32_t before = 0; before < at; before++)
			is_twice |= queue == options->queues[before];
		if (is_twice) {
			PyErr_Format(PyExc_ValueError, "queue %d is there twice", queue);
			return false;
		}
	}
	return true;
}

static bool read_cpu(PyObject *row, void *item)
{
	struct fn_integer cpu = { "CPU", 0, CPU_SETSIZE - 1, 0 };

	if (!fn_argument_integer(row, &cpu))
		return false;
	*(int *)item = (int)cpu.value;
	return true;
}

static int read_cpus(PyObject *object, void *argument)
{
	struct fn_engine_options *options = argument;
	int *cpus = fn_argument_rows(object, "cpus", FN_ENGINE_WORKERS, sizeof(*cpus), read_cpu, &options->cpu_count);

	if (!cpus)
		return 0;
	memcpy(options->cpus, cpus, options->cpu_count * sizeof(*cpus));
	free(cpus);
	return 1;
}

static bool read_options(struct fn_engine_options *options, PyTypeObject *director_type, PyObject **director,
			 PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "director", "queues", "segmented", "mark", "raw4", "raw6", "priority",
					     "cpus", "repeats", NULL };
	struct fn_integer mark = FN_ID("mark"), priority = { "priority", 0, PRIORITY_MAX, 0 };
	int repeats;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!$O&O&O&O&O&O&O&p:Engine", (char **)names,
					 director_type, director, read_queues, options, read_segmented, options,
					 fn_argument_integer, &mark, read_socket, &options->raw4, read_socket,
					 &options->raw6, fn_argument_integer, &priority, read_cpus, options, &repeats) ||
	    !are_unique(options))
		return false;
	options->mark = (uint32_t)mark.value;
	options->priority = (int)priority.value;
	options->repeats = repeats;
	return true;
}

/* Whether *director* may be given an engine: packets that are held belong to who decided them. */
static bool is_free(struct fn_director_object *director)
{
	uint32_t held;

	fn_director_object_lock(director);
	held = fn_fragment_table_held(director->director->fragments);
	fn_director_object_unlock(director);
	if (!director->has_engine && !held)
		return true;
	PyErr_SetString(PyExc_ValueError, director->has_engine ? "this director has or had an engine" :
								 "this director holds packets that decide() was given");
	return false;
}

static PyObject *create(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
	struct fn_module_state *state = PyType_GetModuleState(type);
	struct fn_engine_options options = { .workers = 0 };
	struct fn_director_object *director;
	struct engine_object *self;
	struct fn_engine *engine;
	PyObject *object;

	if (!read_options(&options, state->director, &object, arguments, keywords))
		return NULL;
	director = (struct fn_director_object *)object;
	if (!is_free(director))
		return NULL;
	options.director = director->director;
	options.lock = &director->lock;
	engine = fn_engine_create(&options);
	if (!engine)
		return PyErr_NoMemory();
	self = PyObject_New(struct engine_object, type);
	if (!self) {
		fn_engine_destroy(engine);
		return NULL;
	}
	director->has_engine = true;
	self->engine = engine;
	self->director = (struct fn_director_object *)Py_NewRef(object);
	self->runs = false;
	self->is_changing = false;
	self->expiring = 0;
	return (PyObject *)self;
}

/* The threads end here if stop() was not called.  They never wait for the GIL. */
static void destroy(PyObject *object)
{
	struct engine_object *self = (struct engine_object *)object;
	PyTypeObject *type = Py_TYPE(object);

	fn_engine_destroy(self->engine);
	Py_DECREF(self->director);
	PyObject_Free(self);
	Py_DECREF(type);
}

/* Running. */

static PyObject *start(PyObject *object, PyObject *nothing)
{
	struct engine_object *self = (struct engine_object *)object;
	char error[FN_ENGINE_ERROR];

	(void)nothing;
	if (self->is_changing || self->expiring)
		return busy();
	if (self->runs) {
		PyErr_SetString(PyExc_RuntimeError, "the engine runs already");
		return NULL;
	}
	self->is_changing = true;
	Py_BEGIN_ALLOW_THREADS
	self->runs = fn_engine_start(self->engine, error);
	Py_END_ALLOW_THREADS
	self->is_changing = false;
	if (self->runs)
		Py_RETURN_NONE;
	PyErr_SetString(fn_module_state_of(object)->engine_error, error);
	return NULL;
}

static PyObject *stop(PyObject *object, PyObject *nothing)
{
	struct engine_object *self = (struct engine_object *)object;

	(void)nothing;
	if (self->is_changing || self->expiring)
		return busy();
	self->is_changing = true;
	Py_BEGIN_ALLOW_THREADS
	fn_engine_stop(self->engine);
	Py_END_ALLOW_THREADS
	self->runs = false;
	self->is_changing = false;
	Py_RETURN_NONE;
}

static PyObject *expire(PyObject *object, PyObject *argument)
{
	struct engine_object *self = (struct engine_object *)object;
	struct fn_integer now = FN_TIME("now");

	if (!fn_argument_integer(argument, &now))
		return NULL;
	if (self->is_changing)
		return busy();
	self->expiring++;
	Py_BEGIN_ALLOW_THREADS
	fn_engine_expire(self->engine, (int64_t)now.value);
	Py_END_ALLOW_THREADS
	self->expiring--;
	Py_RETURN_NONE;
}

static PyObject *set_local_addresses(PyObject *object, PyObject *argument)
{
	struct engine_object *self = (struct engine_object *)object;
	struct fn_address *addresses;
	uint32_t count;
	bool is_set;

	addresses = fn_argument_rows(argument, "addresses", LOCAL_ADDRESSES_MAX, sizeof(*addresses),
				     fn_argument_read_address, &count);
	if (!addresses)
		return NULL;
	is_set = fn_engine_set_local_addresses(self->engine, addresses, count);
	free(addresses);
	if (!is_set)
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

/* Upcalls. */

/* Return what the packet of *upcall* carries behind its transport header. */
static PyObject *payload_of(const struct fn_upcall *upcall)
{
	uint32_t l4 = upcall->view.l4;
	uint32_t at = l4 + (upcall->protocol == FN_UDP ? 8 : fn_packet_tcp_header(upcall->data, l4));

	if (at > upcall->size)
		at = upcall->size;
	return PyBytes_FromStringAndSize((const char *)upcall->data + at, upcall->size - at);
}

static PyObject *upcall_record(const struct fn_module_state *state, const struct fn_upcall *upcall)
{
	const struct fn_view *view = &upcall->view;
	struct fn_endpoint client = fn_endpoint_source(view->key, view->key_size);

	return fn_record_create(state, FN_RECORD_UPCALL,
				(PyObject *[]){
					PyLong_FromUnsignedLongLong(upcall->token),
					PyLong_FromUnsignedLong(upcall->service),
					fn_record_address(&client.address),
					PyLong_FromLong(client.port),
					PyLong_FromLong(upcall->protocol),
					payload_of(upcall),
					PyBytes_FromStringAndSize((const char *)view->key, view->key_size),
				});
}

static PyObject *take_upcalls(PyObject *object, PyObject *argument)
{
	struct engine_object *self = (struct engine_object *)object;
	struct fn_integer limit = { "limit", 1, UINT32_MAX, 0 };
	PyObject *list = NULL;
	struct fn_upcall *upcalls;
	uint32_t count;

	if (!fn_argument_integer(argument, &limit))
		return NULL;
	if (self->is_changing)
		return busy();
	if (limit.value > FN_UPCALLS_WAITING)
		limit.value = FN_UPCALLS_WAITING;   /* more never wait */
	upcalls = calloc(limit.value, sizeof(*upcalls));
	if (!upcalls)
		return PyErr_NoMemory();
	count = fn_engine_take_upcalls(self->engine, upcalls, (uint32_t)limit.value, read_clock());
	list = PyList_New(0);
	for (uint32_t at = 0; list && at < count; at++)
		if (!fn_record_append(list, upcall_record(fn_module_state_of(object), &upcalls[at])))
			Py_CLEAR(list);
	/* Nobody would answer what could not be returned. */
	for (uint32_t at = 0; !list && at < count; at++)
		fn_engine_answer_upcall(self->engine, upcalls[at].token, false, 0, true, read_clock());
	free(upcalls);
	return list;
}

struct answer {
	uint64_t token;
	struct fn_optional server;
	int failed;
};

static bool read_answer(PyObject *row, void *item)
{
#define EXPECTED "an answer must be a tuple (token, server, failed)"
	struct fn_integer token = { "token", 0, UINT64_MAX, 0 };
	struct answer *answer = item;

	answer->server = (struct fn_optional){ FN_ID("server"), false };
	if (!fn_argument_is_tuple(row, EXPECTED) ||
	    !PyArg_ParseTuple(row, "O&O&p;" EXPECTED, fn_argument_integer, &token, fn_argument_optional,
			      &answer->server, &answer->failed))
		return false;
#undef EXPECTED
	answer->token = token.value;
	return true;
}

static PyObject *answer_upcalls(PyObject *object, PyObject *argument)
{
	struct engine_object *self = (struct engine_object *)object;
	struct answer *answers;
	uint32_t count;

	answers = fn_argument_rows(argument, "answers", ANSWERS_MAX, sizeof(*answers), read_answer, &count);
	if (!answers)
		return NULL;
	if (self->is_changing) {
		free(answers);
		return busy();
	}
	for (uint32_t at = 0; at < count; at++)
		fn_engine_answer_upcall(self->engine, answers[at].token, answers[at].server.is_given,
					(uint32_t)answers[at].server.integer.value, answers[at].failed,
					read_clock());
	free(answers);
	Py_RETURN_NONE;
}

/* What is read of it. */

static PyObject *statistics(PyObject *object, PyObject *nothing)
{
	struct engine_object *self = (struct engine_object *)object;
	struct fn_engine_statistics read;

	(void)nothing;
	if (self->is_changing)
		return busy();
	read = fn_engine_read_statistics(self->engine);
#define FIELD(name) #name, (unsigned long long)read.name
	return Py_BuildValue("{sKsKsKsKsKsKsK}", FIELD(received), FIELD(batches), FIELD(truncated),
			     FIELD(refused_verdicts), FIELD(lost_verdicts), FIELD(send_failures), FIELD(upcalls));
#undef FIELD
}

static PyObject *upcall_fd(PyObject *object, void *nothing)
{
	struct engine_object *self = (struct engine_object *)object;

	(void)nothing;
	return PyLong_FromLong(fn_engine_upcall_fd(self->engine));
}

static PyMethodDef methods[] = {
	{ "start", start, METH_NOARGS,
	  "start($self, /)\n--\n\nBind the queues of the calling thread's network namespace and start the threads." },
	{ "stop", stop, METH_NOARGS,
	  "stop($self, /)\n--\n\nEnd the threads and unbind; what waits in the kernel is dropped by it." },
	{ "expire", expire, METH_O,
	  "expire($self, now, /)\n--\n\nEnd idle flows and drop fragments whose first never came." },
	{ "set_local_addresses", set_local_addresses, METH_O,
	  "set_local_addresses($self, addresses, /)\n--\n\nTake *addresses* as those of this host." },
	{ "take_upcalls", take_upcalls, METH_O,
	  "take_upcalls($self, limit, /)\n--\n\nReturn packets that wait for a scheduler in Python, oldest first." },
	{ "answer_upcalls", answer_upcalls, METH_O,
	  "answer_upcalls($self, answers, /)\n--\n\nDecide taken packets by what the schedulers chose." },
	{ "statistics", statistics, METH_NOARGS,
	  "statistics($self, /)\n--\n\nReturn the counts so far." },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef attributes[] = {
	{ "upcall_fd", upcall_fd, NULL, "Readable while upcalls wait.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_doc, "Engine(director, *, queues, segmented, mark, raw4, raw6, priority, cpus, repeats)\n--\n\n"
		     "Threads that take packets from NFQUEUEs, have the director decide them, and carry it out." },
	{ Py_tp_new, create },
	{ Py_tp_dealloc, destroy },
	{ Py_tp_methods, methods },
	{ Py_tp_getset, attributes },
	{ 0, NULL },
};

PyType_Spec fn_engine_spec = {
	.name = "fullnat._native.Engine",
	.basicsize = sizeof(struct engine_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
	.slots = slots,
};
