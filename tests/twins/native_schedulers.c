// SPDX-License-Identifier: Apache-2.0
/*
 * What tests of the native schedulers need beside them: memory that is counted and runs out when told
 * to, and a count of the blocks of code that ran.
 *
 * Linked with --wrap for each function of memory.  All but this file is compiled with
 * -fsanitize-coverage=trace-pc, which calls __sanitizer_cov_trace_pc() from every basic block.
 */
#include <stdlib.h>

#include "sched.h"

void *__real_calloc(size_t count, size_t size);
void __real_free(void *memory);
void __sanitizer_cov_trace_pc(void);

static int live;
static int left = -1;   /* allocations that still succeed; -1: all */
static uint64_t allocations;
static uint64_t blocks;

int schedulers_live(void)
{
	return live;
}

void schedulers_fail_after(int number)
{
	left = number;
}

uint64_t schedulers_allocations(void)
{
	return allocations;
}

uint64_t schedulers_blocks(void)
{
	return blocks;
}

void __sanitizer_cov_trace_pc(void)
{
	blocks++;
}

void *__wrap_calloc(size_t count, size_t size)
{
	void *memory;

	allocations++;
	if (!left)
		return NULL;
	if (left > 0)
		left--;
	memory = __real_calloc(count, size);
	live += memory != NULL;
	return memory;
}

void __wrap_free(void *memory)
{
	live -= memory != NULL;
	__real_free(memory);
}

uint32_t schedulers_server_size(void)
{
	return sizeof(struct fn_server);
}

uint32_t schedulers_request_size(void)
{
	return sizeof(struct fn_request);
}

const char *schedulers_name(uint32_t at)
{
	return fn_scheduler_classes[at] ? fn_scheduler_classes[at]->name : NULL;
}

struct fn_server *schedulers_schedule(struct fn_scheduler *scheduler, const struct fn_request *request)
{
	return scheduler->class->schedule(scheduler, request);
}

uint32_t schedulers_service_holders(const struct fn_service *service)
{
	return service->holders;
}

void schedulers_hold(struct fn_server *server)
{
	fn_server_hold(server);
}
