// SPDX-License-Identifier: Apache-2.0
/* What the generators have in common as commands: one line when something is wrong, and numbers in bounds. */
#ifndef BENCH_GEN_COMMAND_H
#define BENCH_GEN_COMMAND_H

#include <errno.h>   /* program_invocation_short_name, with _GNU_SOURCE */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((format(printf, 1, 2), noreturn))
static void die(const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

/* Return the number in *text*, the value of option *name*; from *low* to *high*, or the program ends. */
static double parse_number(const char *name, const char *text, double low, double high)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= low && value <= high))
		die("--%s takes %g to %g: %s", name, low, high, text);
	return value;
}

#endif
