// SPDX-License-Identifier: Apache-2.0
/*
 * Parked packets: copies of packets whose verdict the kernel gets later.
 *
 * Held fragments (the fragment table keeps them) and packets whose scheduler is in Python (the list
 * below does).  The receive buffer they came in is used again at once, hence the copy.
 */
#ifndef FULLNAT_NATIVE_PARKED_H
#define FULLNAT_NATIVE_PARKED_H

#include <pthread.h>
#include <stdlib.h>

#include "director.h"
#include "queue.h"

struct fn_parked {
	struct fn_parked *next;
	struct fn_queue *queue;        /* where the kernel keeps it */
	uint64_t token;                /* what Python calls it */
	uint32_t id;                   /* what the kernel calls it */
	uint32_t mark;
	uint8_t hook;
	uint8_t offload;
	uint32_t service;              /* id: whose scheduler is to be asked */
	struct fn_view view;
	uint8_t data[];                /* view.length bytes */
};

/* Return a copy of *packet*, or NULL when memory ran out. */
static inline struct fn_parked *fn_parked_create(struct fn_queue *queue, const struct fn_packet *packet,
						 const struct fn_view *view)
{
	struct fn_parked *parked = malloc(sizeof(*parked) + view->length);

	if (!parked)
		return NULL;
	parked->next = NULL;
	parked->queue = queue;
	parked->token = 0;
	parked->id = packet->id;
	parked->mark = packet->mark;
	parked->hook = packet->hook;
	parked->offload = packet->offload;
	parked->service = 0;
	parked->view = *view;
	memcpy(parked->data, packet->data, view->length);
	return parked;
}

/* Packets in the order they came. */
struct fn_parked_list {
	struct fn_parked *first;
	struct fn_parked **end;
	uint32_t count;
};

static inline void fn_parked_list_init(struct fn_parked_list *list)
{
	list->first = NULL;
	list->end = &list->first;
	list->count = 0;
}

static inline void fn_parked_list_add(struct fn_parked_list *list, struct fn_parked *parked)
{
	parked->next = NULL;
	*list->end = parked;
	list->end = &parked->next;
	list->count++;
}

/* Take out and return the packet that *link* leads to: &list->first, or the next of another. */
static inline struct fn_parked *fn_parked_list_take(struct fn_parked_list *list, struct fn_parked **link)
{
	struct fn_parked *parked = *link;

	if (!parked)
		return NULL;
	*link = parked->next;
	if (!*link)
		list->end = link;
	list->count--;
	return parked;
}

static inline void fn_parked_list_free(struct fn_parked_list *list)
{
	struct fn_parked *parked;

	while ((parked = fn_parked_list_take(list, &list->first)))
		free(parked);
}

#endif
