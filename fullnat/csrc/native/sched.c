// SPDX-License-Identifier: Apache-2.0
/* The schedulers there are.  See sched.h for the contract; twin of fullnat/core/sched/__init__.py. */
#include "sched.h"

#include <stdlib.h>
#include <string.h>

#include "sched/builtin.h"

const struct fn_scheduler_class *const fn_scheduler_classes[] = {
	&fn_scheduler_rr,
	&fn_scheduler_wrr,
	&fn_scheduler_lc,
	&fn_scheduler_wlc,
	&fn_scheduler_lblc,
	&fn_scheduler_lblcr,
	&fn_scheduler_dh,
	&fn_scheduler_sh,
	&fn_scheduler_mh,
	&fn_scheduler_sed,
	&fn_scheduler_nq,
	&fn_scheduler_fo,
	&fn_scheduler_ovf,
	&fn_scheduler_twos,
	&fn_scheduler_random,
	NULL,
};

static const struct fn_scheduler_class *find_class(const char *name)
{
	for (uint32_t at = 0; fn_scheduler_classes[at]; at++)
		if (!strcmp(fn_scheduler_classes[at]->name, name))
			return fn_scheduler_classes[at];
	return NULL;
}

struct fn_scheduler *fn_scheduler_create(const char *name, uint64_t seed, uint32_t flags)
{
	const struct fn_scheduler_class *class = find_class(name);
	struct fn_scheduler *scheduler = class ? calloc(1, class->size) : NULL;

	if (!scheduler)
		return NULL;
	scheduler->class = class;
	scheduler->seed = seed;
	scheduler->flags = flags;
	if (class->init)
		class->init(scheduler);
	return scheduler;
}

void fn_scheduler_destroy(struct fn_scheduler *scheduler)
{
	if (!scheduler)
		return;
	if (scheduler->class->free)
		scheduler->class->free(scheduler);
	free(scheduler);
}
