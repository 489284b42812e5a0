// SPDX-License-Identifier: Apache-2.0
/*
 * What lblc and lblcr share: wlc order, crowding, and how long a virtual address is remembered.
 *
 * Twin of fullnat/core/sched/locality.py.  A service listens on one address, so where Python has a
 * table by virtual address there is one entry here, and of the table only its expiry.
 */
#ifndef FULLNAT_NATIVE_SCHED_LOCALITY_H
#define FULLNAT_NATIVE_SCHED_LOCALITY_H

#include "../limit.h"
#include "ranked.h"

#define FN_LOCALITY_EXPIRATION (24 * 60 * 60 * FN_SECOND)   /* the kernel's DEFAULT_EXPIRATION */

/* Whether something is remembered for the virtual address; kept for EXPIRATION after its last use. */
struct fn_locality_entry {
	bool exists;
	int64_t last_use;
};

/* Return whether there is an entry and note its use. */
static inline bool fn_locality_use(struct fn_locality_entry *entry, int64_t now)
{
	if (entry->exists && now - entry->last_use >= FN_LOCALITY_EXPIRATION)
		entry->exists = false;
	if (entry->exists)
		entry->last_use = now;
	return entry->exists;
}

static inline void fn_locality_put(struct fn_locality_entry *entry, int64_t now)
{
	*entry = (struct fn_locality_entry){ true, now };
}

/* wlc that also knows whether a server is crowded while another has room. */
struct fn_locality {
	struct fn_ranked ranked;
	bool *is_roomy;         /* by position */
	uint32_t roomy_count;
};

void fn_locality_init(struct fn_scheduler *scheduler);
bool fn_locality_attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count);
void fn_locality_server_changed(struct fn_scheduler *scheduler, struct fn_server *server);
void fn_locality_free(struct fn_scheduler *scheduler);

/* Whether *server* has more active flows than weight while another has fewer than half. */
static inline bool fn_locality_is_crowded(const struct fn_locality *locality, const struct fn_server *server)
{
	return server->active > server->weight && locality->roomy_count;
}

#endif
