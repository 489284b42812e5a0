// SPDX-License-Identifier: Apache-2.0
/*
 * What tests of the native tables need beside them: services and servers that only count who holds
 * them, and memory that is counted and runs out when told to.
 *
 * Linked with --wrap for each function of memory, so that the tables call those here.
 */
#include "flow.h"

#include <stdlib.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);
void *__real_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __real_munmap(void *memory, size_t size);

static int live;
static int left = -1;   /* allocations that still succeed; -1: all */

int tables_live(void)
{
	return live;
}

void tables_fail_after(int allocations)
{
	left = allocations;
}

static bool runs_out(void)
{
	if (left <= 0)
		return left == 0;
	left--;
	return false;
}

static void *count(void *memory)
{
	live += memory != NULL;
	return memory;
}

void *__wrap_malloc(size_t size)
{
	return runs_out() ? NULL : count(__real_malloc(size));
}

void *__wrap_calloc(size_t number, size_t size)
{
	return runs_out() ? NULL : count(__real_calloc(number, size));
}

void *__wrap_realloc(void *old, size_t size)
{
	void *memory = runs_out() ? NULL : __real_realloc(old, size);

	return old ? memory : count(memory);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return runs_out() ? NULL : count(__real_aligned_alloc(alignment, size));
}

void __wrap_free(void *memory)
{
	live -= memory != NULL;
	__real_free(memory);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
	void *memory = runs_out() ? MAP_FAILED : __real_mmap(at, size, protection, flags, file, offset);

	live += memory != MAP_FAILED;
	return memory;
}

int __wrap_munmap(void *memory, size_t size)
{
	live--;
	return __real_munmap(memory, size);
}

struct fn_service *tables_service(uint8_t protocol, const struct fn_endpoint *listen, bool one_packet,
				  bool is_persistent, uint8_t mask, int64_t timeout)
{
	struct fn_service *service = calloc(1, sizeof(*service));

	service->protocol = protocol;
	service->listen = *listen;
	service->one_packet = one_packet;
	service->is_persistent = is_persistent;
	service->persistence_mask = mask;
	service->persistence_timeout = timeout;
	return service;
}

struct fn_server *tables_server(struct fn_service *service, uint32_t id)
{
	struct fn_server *server = calloc(1, sizeof(*server));

	server->service = service;
	server->id = id;
	server->is_listed = true;
	server->may_keep = true;
	return server;
}

void tables_set_timeout(struct fn_service *service, int64_t timeout)
{
	service->persistence_timeout = timeout;
}

void tables_set_server(struct fn_server *server, bool is_listed, bool may_keep)
{
	server->is_listed = is_listed;
	server->may_keep = may_keep;
}

uint32_t tables_holders(const struct fn_server *server)
{
	return server->holders;
}

void tables_free(void *memory)
{
	free(memory);
}

/* The tables release; when the last has, the real one frees, and here the test looks. */
void fn_server_release(struct fn_server *server)
{
	if (!server->holders--)
		abort();
}

uint32_t tables_flow_size(void)
{
	return sizeof(struct fn_flow);
}

const uint8_t *tables_flow_key(const struct fn_flow *flow, enum fn_direction direction)
{
	return fn_flow_key(flow, direction);
}
