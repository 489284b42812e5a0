// SPDX-License-Identifier: Apache-2.0
/* Upcalls.  See upcalls.h for the contract. */
#include "upcalls.h"

#include <sys/eventfd.h>
#include <unistd.h>

bool fn_upcalls_init(struct fn_upcalls *upcalls)
{
	pthread_mutexattr_t attributes;

	/* A packet thread of high priority may wait here for one of Python's that shares its core. */
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&upcalls->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	fn_parked_list_init(&upcalls->waiting);
	fn_parked_list_init(&upcalls->taken);
	upcalls->next_token = 0;
	upcalls->count = 0;
	upcalls->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return upcalls->fd >= 0;
}

void fn_upcalls_free(struct fn_upcalls *upcalls)
{
	fn_parked_list_free(&upcalls->waiting);
	fn_parked_list_free(&upcalls->taken);
	if (upcalls->fd >= 0)
		close(upcalls->fd);
	pthread_mutex_destroy(&upcalls->lock);
}

bool fn_upcalls_is_full(struct fn_upcalls *upcalls)
{
	bool is_full;

	pthread_mutex_lock(&upcalls->lock);
	is_full = upcalls->waiting.count + upcalls->taken.count >= FN_UPCALLS_WAITING;
	pthread_mutex_unlock(&upcalls->lock);
	return is_full;
}

void fn_upcalls_add(struct fn_upcalls *upcalls, struct fn_parked *parked)
{
	bool was_empty;

	pthread_mutex_lock(&upcalls->lock);
	was_empty = !upcalls->waiting.count;
	fn_parked_list_add(&upcalls->waiting, parked);
	upcalls->count++;
	pthread_mutex_unlock(&upcalls->lock);
	if (was_empty)
		eventfd_write(upcalls->fd, 1);
}

struct fn_parked *fn_upcalls_next(struct fn_upcalls *upcalls)
{
	struct fn_parked *parked;
	eventfd_t ignored;

	pthread_mutex_lock(&upcalls->lock);
	parked = fn_parked_list_take(&upcalls->waiting, &upcalls->waiting.first);
	if (!parked)
		eventfd_read(upcalls->fd, &ignored);
	pthread_mutex_unlock(&upcalls->lock);
	return parked;
}

void fn_upcalls_keep(struct fn_upcalls *upcalls, struct fn_parked *parked)
{
	pthread_mutex_lock(&upcalls->lock);
	parked->token = upcalls->next_token++;
	fn_parked_list_add(&upcalls->taken, parked);
	pthread_mutex_unlock(&upcalls->lock);
}

struct fn_parked *fn_upcalls_find(struct fn_upcalls *upcalls, uint64_t token)
{
	struct fn_parked **link = &upcalls->taken.first, *parked;

	pthread_mutex_lock(&upcalls->lock);
	/* Answers come in the order of the questions: it is the first, as a rule. */
	while (*link && (*link)->token != token)
		link = &(*link)->next;
	parked = fn_parked_list_take(&upcalls->taken, link);
	pthread_mutex_unlock(&upcalls->lock);
	return parked;
}
