// SPDX-License-Identifier: Apache-2.0
/*
 * The module fullnat._native: its types, its records, and what belongs to it.
 *
 * Written against the limited API of Python 3.11, so that one build serves every later version too.
 * That API has no Py_mod_gil (3.13): a free-threaded interpreter takes the GIL for this module, which
 * counts on it for the state of an Engine.
 */
#include "module.h"

enum { ABI = 3 };   /* changes with the signatures in fullnat/_native.pyi */

/* The records, in the order of enum fn_record; fullnat/_native.pyi says what the fields are. */
enum { FIELDS_MAX = 13 };
static const struct {
	const char *name;
	const char *doc;
	const char *fields[FIELDS_MAX + 1];
} record_kinds[FN_RECORDS] = {
	{ "fullnat._native.Released", "A packet that was held, and what became of it.",
	  { "token", "reason", "out" } },
	{ "fullnat._native.Decision", "What became of one packet.",
	  { "reason", "out", "reply", "token", "released", "service" } },
	{ "fullnat._native.Flow", "One tracked connection.",
	  { "service", "server", "protocol", "inbound_key", "outbound_key", "state", "created", "last_seen",
	    "timeout", "packets_in", "packets_out", "bytes_in", "bytes_out" } },
	{ "fullnat._native.Server", "What is counted for one server.",
	  { "server", "active", "inactive", "overloaded", "connections", "packets_in", "packets_out", "bytes_in",
	    "bytes_out" } },
	{ "fullnat._native.PortUse", "How the ports of one local address towards one server stand.",
	  { "protocol", "lip", "rip", "rport", "in_use", "resting", "capacity" } },
	{ "fullnat._native.Template", "One client prefix that stays on a server.",
	  { "server", "prefix", "prefix_length", "flows", "deadline" } },
	{ "fullnat._native.Totals", "How full the tables are.",
	  { "flows", "fragments", "fragments_held", "templates", "replies_suppressed" } },
	{ "fullnat._native.Upcall", "A packet that waits for a scheduler in Python.",
	  { "token", "service", "cip", "cport", "protocol", "payload", "key" } },
};

static int count_fields(enum fn_record kind)
{
	int count = 0;

	while (record_kinds[kind].fields[count])
		count++;
	return count;
}

PyObject *fn_record_create(const struct fn_module_state *state, enum fn_record kind, PyObject *const *items)
{
	PyObject *record = PyStructSequence_New(state->records[kind]);
	int count = count_fields(kind);
	bool is_whole = record;

	for (int at = 0; at < count; at++) {
		is_whole = is_whole && items[at];
		if (record)
			PyStructSequence_SetItem(record, at, items[at]);
		else
			Py_XDECREF(items[at]);
	}
	if (!is_whole)
		Py_CLEAR(record);
	return record;
}

bool fn_record_append(PyObject *list, PyObject *record)
{
	bool is_appended = record && !PyList_Append(list, record);

	Py_XDECREF(record);
	return is_appended;
}

static PyTypeObject *create_record_type(enum fn_record kind)
{
	PyStructSequence_Field fields[FIELDS_MAX + 1] = { { NULL, NULL } };
	PyStructSequence_Desc description = {
		.name = record_kinds[kind].name,
		.doc = record_kinds[kind].doc,
		.fields = fields,
		.n_in_sequence = count_fields(kind),
	};

	for (int at = 0; at < description.n_in_sequence; at++)
		fields[at].name = record_kinds[kind].fields[at];
	return PyStructSequence_NewType(&description);
}

static PyTypeObject *create_type(PyObject *module, PyType_Spec *spec)
{
	return (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
}

static bool create_types(PyObject *module, struct fn_module_state *state)
{
	state->director = create_type(module, &fn_director_spec);
	state->engine = create_type(module, &fn_engine_spec);
	if (!state->director || !state->engine || PyModule_AddType(module, state->director) ||
	    PyModule_AddType(module, state->engine))
		return false;
	for (int kind = 0; kind < FN_RECORDS; kind++) {
		state->records[kind] = create_record_type((enum fn_record)kind);
		if (!state->records[kind] || PyModule_AddType(module, state->records[kind]))
			return false;
	}
	return true;
}

static int execute(PyObject *module)
{
	struct fn_module_state *state = PyModule_GetState(module);

	state->engine_error = PyErr_NewExceptionWithDoc(
		"fullnat._native.EngineError", "The host cannot do what the engine needs; one line says what.",
		PyExc_RuntimeError, NULL);
	if (!state->engine_error || PyModule_AddObjectRef(module, "EngineError", state->engine_error) ||
	    PyModule_AddIntConstant(module, "ABI", ABI) || !create_types(module, state))
		return -1;
	return 0;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
	struct fn_module_state *state = PyModule_GetState(module);

	Py_VISIT(state->director);
	Py_VISIT(state->engine);
	Py_VISIT(state->engine_error);
	for (int kind = 0; kind < FN_RECORDS; kind++)
		Py_VISIT(state->records[kind]);
	return 0;
}

static int clear(PyObject *module)
{
	struct fn_module_state *state = PyModule_GetState(module);

	Py_CLEAR(state->director);
	Py_CLEAR(state->engine);
	Py_CLEAR(state->engine_error);
	for (int kind = 0; kind < FN_RECORDS; kind++)
		Py_CLEAR(state->records[kind]);
	return 0;
}

static void free_module(void *module)
{
	clear(module);
}

PyMODINIT_FUNC PyInit__native(void)
{
	static PyModuleDef_Slot slots[] = {
		{ Py_mod_exec, execute },
		{ 0, NULL },
	};
	static PyModuleDef definition = {
		PyModuleDef_HEAD_INIT,
		.m_name = "fullnat._native",
		.m_doc = "The C extension: director and NFQUEUE loop of engine `native`.",
		.m_size = sizeof(struct fn_module_state),
		.m_slots = slots,
		.m_traverse = traverse,
		.m_clear = clear,
		.m_free = free_module,
	};

	return PyModuleDef_Init(&definition);
}
