// SPDX-License-Identifier: Apache-2.0
/*
 * Director: one packet at a time, decided and rewritten, for tests and `explain`.
 *
 * Held packets are copies of ours.  Once a director has an engine they are the engine's, so from
 * then on nothing is decided here.
 */
#include "module.h"

#include <stdlib.h>

enum { EXPIRE_STRETCH = 512 };   /* flows looked at while the lock is held */

/* Packets that were held and are ours again. */
struct released {
	struct fn_held packets[FN_HELD_LIMIT];
	uint32_t count;
	enum fn_reason reason;
	struct fn_translation translation;
};

/* A packet to be decided. */
struct packet {
	struct fn_view view;
	uint8_t *data;               /* a copy; NULL when the director holds it */
};

/* What was decided, kept beyond the lock. */
struct outcome {
	struct fn_decision decision; /* its pointers are not valid, and looked at only for NULL */
	uint8_t *reply;
	uint64_t token;              /* of decision.held */
	uint32_t service;            /* of decision.service */
	struct released released;
};

static bool is_ours(const struct fn_director_object *self)
{
	if (!self->has_engine)
		return true;
	PyErr_SetString(PyExc_RuntimeError, "an engine decides the packets of this director");
	return false;
}

static PyObject *none(void)
{
	return Py_NewRef(Py_None);
}

static PyObject *bytes_of(const uint8_t *data, uint32_t size)
{
	return PyBytes_FromStringAndSize((const char *)data, size);
}

/* Return what is sent on of the packet at *data*, changed there, or None. */
static PyObject *forwarded(enum fn_reason reason, const struct fn_translation *translation,
			   const struct fn_view *view, uint8_t *data)
{
	if (reason == FN_REASON_NONE || fn_reason_verdict[reason] != FN_VERDICT_FORWARD)
		return none();
	fn_translation_apply(translation, view, data);
	return bytes_of(data, view->length);
}

static PyObject *release(const struct fn_module_state *state, const struct released *released,
			 const struct fn_held *held)
{
	struct fn_view view;

	fn_packet_parse(&view, held->packet, held->size);
	return fn_record_create(state, FN_RECORD_RELEASED,
				(PyObject *[]){
					PyLong_FromUnsignedLongLong(held->token),
					PyLong_FromLong(released->reason),
					forwarded(released->reason, &released->translation, &view, held->packet),
				});
}

/* Return a tuple of what became of *released*, or NULL with an exception; free the packets. */
static PyObject *release_all(const struct fn_module_state *state, const struct released *released)
{
	PyObject *tuple = PyTuple_New(released->count);

	for (uint32_t at = 0; at < released->count; at++) {
		PyObject *record = tuple ? release(state, released, &released->packets[at]) : NULL;

		if (record)
			PyTuple_SetItem(tuple, at, record);
		else
			Py_CLEAR(tuple);
		free(released->packets[at].packet);
	}
	return tuple;
}

/* Take over *count* packets; *held* is the director's until its next call, and not set when there are none. */
static void take(struct released *released, const struct fn_held *held, uint32_t count)
{
	released->count = count;
	if (count)
		memcpy(released->packets, held, count * sizeof(*held));
}

static bool packet_init(struct packet *packet, const char *data, Py_ssize_t size)
{
	if (size > UINT16_MAX + 40) {
		PyErr_Format(PyExc_ValueError, "a packet has at most %d bytes: %zd", UINT16_MAX + 40, size);
		return false;
	}
	packet->data = malloc((size_t)size + 1);
	if (!packet->data) {
		PyErr_NoMemory();
		return false;
	}
	memcpy(packet->data, data, (size_t)size);
	fn_packet_parse(&packet->view, packet->data, (uint32_t)size);
	return true;
}

/* Decide *packet*, with the lock; false when memory ran out for a copy of the answer. */
static bool decide(struct fn_director *director, struct packet *packet, const struct fn_choice *choice, int64_t now,
		   struct outcome *outcome)
{
	struct fn_decision *decision = &outcome->decision;

	if (choice)
		fn_director_answer(director, &packet->view, packet->data, choice, now, decision);
	else
		fn_director_decide(director, &packet->view, packet->data, fn_director_hash(director, &packet->view),
				   now, decision);
	if (decision->held) {
		outcome->token = decision->held->token;
		decision->held->packet = packet->data;
		packet->data = NULL;
	}
	if (decision->service)
		outcome->service = decision->service->id;
	take(&outcome->released, decision->released, decision->released_count);
	if (decision->released_count) {
		outcome->released.reason = decision->released_reason;
		outcome->released.translation = decision->released_translation;
	}
	if (!decision->reply)
		return true;
	outcome->reply = malloc(decision->reply_size);
	if (outcome->reply)
		memcpy(outcome->reply, decision->reply, decision->reply_size);
	return outcome->reply;
}

static PyObject *outcome_record(const struct fn_module_state *state, const struct packet *packet,
				const struct outcome *outcome)
{
	const struct fn_decision *decision = &outcome->decision;
	bool is_decided = decision->reason != FN_REASON_NONE;

	return fn_record_create(
		state, FN_RECORD_DECISION,
		(PyObject *[]){
			is_decided ? PyLong_FromLong(decision->reason) : none(),
			forwarded(decision->reason, &decision->translation, &packet->view, packet->data),
			outcome->reply ? bytes_of(outcome->reply, decision->reply_size) : none(),
			decision->held ? PyLong_FromUnsignedLongLong(outcome->token) : none(),
			release_all(state, &outcome->released),
			is_decided ? none() : PyLong_FromUnsignedLong(outcome->service),
		});
}

static PyObject *decide_bytes(struct fn_director_object *self, const char *data, Py_ssize_t size,
			      const struct fn_choice *choice, int64_t now)
{
	struct outcome outcome;
	struct packet packet;
	PyObject *record;
	bool is_whole;

	if (!is_ours(self) || !packet_init(&packet, data, size))
		return NULL;
	outcome.reply = NULL;
	fn_director_object_lock(self);
	is_whole = decide(self->director, &packet, choice, now, &outcome);
	fn_director_object_unlock(self);
	record = outcome_record(fn_module_state_of((PyObject *)self), &packet, &outcome);
	free(outcome.reply);
	free(packet.data);
	if (is_whole)
		return record;
	Py_XDECREF(record);
	return PyErr_NoMemory();
}

PyObject *fn_director_object_decide(PyObject *self, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "packet", "now", NULL };
	struct fn_integer now = FN_TIME("now");
	const char *data;
	Py_ssize_t size;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "y#O&:decide", (char **)names, &data, &size,
					 fn_argument_integer, &now))
		return NULL;
	return decide_bytes((struct fn_director_object *)self, data, size, NULL, (int64_t)now.value);
}

PyObject *fn_director_object_answer(PyObject *self, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "packet", "server", "failed", "now", NULL };
	struct fn_optional server = { FN_ID("server"), false };
	struct fn_integer now = FN_TIME("now");
	struct fn_choice choice;
	const char *data;
	Py_ssize_t size;
	int failed;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "y#O&pO&:answer", (char **)names, &data, &size,
					 fn_argument_optional, &server, &failed, fn_argument_integer, &now))
		return NULL;
	choice = (struct fn_choice){ failed, server.is_given, (uint32_t)server.integer.value };
	return decide_bytes((struct fn_director_object *)self, data, size, &choice, (int64_t)now.value);
}

PyObject *fn_director_object_expire(PyObject *object, PyObject *arguments, PyObject *keywords)
{
	static const char *const names[] = { "now", "budget", NULL };
	struct fn_director_object *self = (struct fn_director_object *)object;
	struct fn_integer now = FN_TIME("now"), budget = { "budget", 0, UINT64_MAX, 0 };
	struct released released = { .reason = FN_REASON_FRAGMENT_TIMEOUT };
	const struct fn_held *held;
	bool more = true;
	int count;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&O&:expire", (char **)names, fn_argument_integer,
					 &now, fn_argument_integer, &budget) ||
	    !is_ours(self))
		return NULL;
	while (more && budget.value) {
		uint64_t stretch = budget.value < EXPIRE_STRETCH ? budget.value : EXPIRE_STRETCH;

		fn_director_object_lock(self);
		more = fn_director_expire_flows(self->director, (int64_t)now.value, stretch);
		fn_director_object_unlock(self);
		budget.value -= stretch;
	}
	fn_director_object_lock(self);
	count = fn_director_expire_rest(self->director, (int64_t)now.value, &held);
	take(&released, held, (uint32_t)count);
	fn_director_object_unlock(self);
	return release_all(fn_module_state_of(object), &released);
}
