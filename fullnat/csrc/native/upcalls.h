// SPDX-License-Identifier: Apache-2.0
/*
 * Upcalls: packets whose scheduler is in Python, waiting to be taken there, or taken and not yet
 * answered.  Has a lock of its own, which is taken inside the director's, never around it.
 */
#ifndef FULLNAT_NATIVE_UPCALLS_H
#define FULLNAT_NATIVE_UPCALLS_H

#include "parked.h"

enum { FN_UPCALLS_WAITING = 1024 };   /* more would wait longer than a client does */

struct fn_upcalls {
	pthread_mutex_t lock;
	struct fn_parked_list waiting;
	struct fn_parked_list taken;
	uint64_t next_token;
	uint64_t count;                /* so far */
	int fd;                        /* readable while some wait */
};

bool fn_upcalls_init(struct fn_upcalls *upcalls);
void fn_upcalls_free(struct fn_upcalls *upcalls);   /* and the packets in it */

/* Whether no more may wait. */
bool fn_upcalls_is_full(struct fn_upcalls *upcalls);
/* Add a packet, which now belongs to the list. */
void fn_upcalls_add(struct fn_upcalls *upcalls, struct fn_parked *parked);
/* Return the oldest that waits, out of the list, or NULL. */
struct fn_parked *fn_upcalls_next(struct fn_upcalls *upcalls);
/* Keep *parked* until its answer comes, under the token it now has. */
void fn_upcalls_keep(struct fn_upcalls *upcalls, struct fn_parked *parked);
/* Return the packet of *token*, out of the list, or NULL when there is none. */
struct fn_parked *fn_upcalls_find(struct fn_upcalls *upcalls, uint64_t token);

#endif
