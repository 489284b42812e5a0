// SPDX-License-Identifier: Apache-2.0
/* What Python passes, checked.  See module.h for the contracts. */
#include "module.h"

#include <stdlib.h>

int fn_argument_integer(PyObject *object, void *argument)
{
	struct fn_integer *integer = argument;
	PyObject *number = PyNumber_Index(object);

	if (!number) {
		if (PyErr_ExceptionMatches(PyExc_TypeError))
			PyErr_Format(PyExc_TypeError, "%s must be an integer", integer->name);
		return 0;
	}
	integer->value = PyLong_AsUnsignedLongLong(number);
	if (PyErr_Occurred() || integer->value < integer->low || integer->value > integer->high) {
		PyErr_Clear();
		PyErr_Format(PyExc_ValueError, "%s must be %llu-%llu: %S", integer->name,
			     (unsigned long long)integer->low, (unsigned long long)integer->high, number);
		Py_DECREF(number);
		return 0;
	}
	Py_DECREF(number);
	return 1;
}

int fn_argument_optional(PyObject *object, void *argument)
{
	struct fn_optional *optional = argument;

	optional->is_given = object != Py_None;
	return !optional->is_given || fn_argument_integer(object, &optional->integer);
}

int fn_argument_address(PyObject *object, void *address)
{
	Py_ssize_t size;
	char *bytes;

	if (!PyBytes_Check(object)) {
		PyErr_SetString(PyExc_TypeError, "an address must be bytes");
		return 0;
	}
	if (PyBytes_AsStringAndSize(object, &bytes, &size))
		return 0;
	if (size != 4 && size != 16) {
		PyErr_Format(PyExc_ValueError, "an address must have 4 or 16 bytes: %zd", size);
		return 0;
	}
	*(struct fn_address *)address = fn_address_of((const uint8_t *)bytes, (uint32_t)size);
	return 1;
}

bool fn_argument_is_tuple(PyObject *row, const char *expected)
{
	if (PyTuple_Check(row))
		return true;
	PyErr_SetString(PyExc_TypeError, expected);
	return false;
}

bool fn_argument_read_address(PyObject *row, void *item)
{
	return fn_argument_address(row, item);
}

bool fn_argument_read_endpoint(PyObject *row, void *item)
{
#define EXPECTED "an endpoint must be a tuple (address, port)"
	struct fn_integer port = FN_PORT("port");
	struct fn_endpoint *endpoint = item;

	if (!fn_argument_is_tuple(row, EXPECTED) ||
	    !PyArg_ParseTuple(row, "O&O&;" EXPECTED, fn_argument_address, &endpoint->address, fn_argument_integer,
			      &port))
		return false;
#undef EXPECTED
	endpoint->port = (uint16_t)port.value;
	return true;
}

/* Read all rows of the tuple *rows* into *items*. */
static bool read_rows(PyObject *rows, uint32_t count, uint8_t *items, size_t item_size, fn_argument_reader *read)
{
	for (uint32_t at = 0; at < count; at++)
		if (!read(PyTuple_GetItem(rows, at), items + at * item_size))
			return false;
	return true;
}

void *fn_argument_rows(PyObject *sequence, const char *name, uint32_t most, size_t item_size,
		       fn_argument_reader *read, uint32_t *count)
{
	/* A copy: reading a row may run code of Python's, which may change the original. */
	PyObject *rows = PySequence_Tuple(sequence);
	Py_ssize_t size;
	uint8_t *items;

	if (!rows) {
		if (PyErr_ExceptionMatches(PyExc_TypeError))
			PyErr_Format(PyExc_TypeError, "%s must be a sequence", name);
		return NULL;
	}
	size = PyTuple_Size(rows);
	if (size > (Py_ssize_t)most) {
		PyErr_Format(PyExc_ValueError, "%s: at most %lu, not %zd", name, (unsigned long)most, size);
		Py_DECREF(rows);
		return NULL;
	}
	*count = (uint32_t)size;
	items = calloc((size_t)size + 1, item_size);
	if (!items) {
		PyErr_NoMemory();
	} else if (!read_rows(rows, *count, items, item_size, read)) {
		free(items);
		items = NULL;
	}
	Py_DECREF(rows);
	return items;
}
