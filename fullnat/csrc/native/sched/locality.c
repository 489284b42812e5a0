// SPDX-License-Identifier: Apache-2.0
/* What lblc and lblcr share.  See locality.h for the contract. */
#include "locality.h"

#include <stdlib.h>

#include "wlc.h"

void fn_locality_init(struct fn_scheduler *scheduler)
{
	((struct fn_ranked *)scheduler)->rank = fn_wlc_rank;
}

static bool has_room(const struct fn_server *server)
{
	return (uint64_t)server->active * 2 < server->weight;
}

/* Note which of *servers* have room. */
bool fn_locality_attach(struct fn_scheduler *scheduler, struct fn_server *const *servers, uint32_t count)
{
	struct fn_locality *locality = (struct fn_locality *)scheduler;
	bool *is_roomy = count ? calloc(count, sizeof(*is_roomy)) : NULL;

	if ((count && !is_roomy) || !fn_ranked_attach(scheduler, servers, count)) {
		free(is_roomy);
		return false;
	}
	free(locality->is_roomy);
	locality->is_roomy = is_roomy;
	locality->roomy_count = 0;
	for (uint32_t position = 0; position < count; position++) {
		is_roomy[position] = has_room(servers[position]);
		locality->roomy_count += is_roomy[position];
	}
	return true;
}

/* Note whether *server* has room. */
void fn_locality_server_changed(struct fn_scheduler *scheduler, struct fn_server *server)
{
	struct fn_locality *locality = (struct fn_locality *)scheduler;
	bool *is_roomy;

	fn_ranked_server_changed(scheduler, server);
	if (!fn_scheduler_is_attached(scheduler, server))
		return;
	is_roomy = &locality->is_roomy[server->position];
	locality->roomy_count -= *is_roomy;
	*is_roomy = has_room(server);
	locality->roomy_count += *is_roomy;
}

void fn_locality_free(struct fn_scheduler *scheduler)
{
	free(((struct fn_locality *)scheduler)->is_roomy);
	fn_ranked_free(scheduler);
}
