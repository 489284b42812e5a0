// SPDX-License-Identifier: Apache-2.0
/*
 * Local port pool: hand out LIP:lport for new flows.  Twin of fullnat/core/lport.py, which has the
 * rules; ports come in the same order from the same seed.
 */
#ifndef FULLNAT_NATIVE_LPORT_H
#define FULLNAT_NATIVE_LPORT_H

#include "../core/hash.h"
#include "endpoint.h"
#include "prng.h"

struct fn_lport_pool;
struct fn_ports;   /* all local ports towards one server: a queue for each local address */

/* How the ports of one local address towards one server stand. */
struct fn_port_use {
	uint8_t protocol;
	struct fn_address lip;
	struct fn_endpoint real;
	uint32_t in_use;
	uint32_t resting;
	uint32_t capacity;
};

/*
 * Own the ports *low*..*high* of *addresses*, but for the endpoints in *excluded* (services on a
 * LIP); a released port rests for *rest* nanoseconds.  NULL when memory ran out.
 */
struct fn_lport_pool *fn_lport_pool_create(const struct fn_address *addresses, uint32_t count, uint16_t low,
					   uint16_t high, int64_t rest, uint64_t seed,
					   const struct fn_endpoint *excluded, uint32_t excluded_count);
void fn_lport_pool_destroy(struct fn_lport_pool *pool);

/*
 * Change which endpoints are left out; one in use stays so until it is released.  False when memory
 * ran out, and then nothing changed.
 */
bool fn_lport_pool_exclude(struct fn_lport_pool *pool, const struct fn_endpoint *excluded, uint32_t count);

/* Return the ports towards *real*, made when first asked for; servers of one endpoint share them. */
struct fn_ports *fn_lport_pool_ports(struct fn_lport_pool *pool, uint8_t protocol, const struct fn_endpoint *real);

/* Whether *address* is one of the pool's. */
bool fn_lport_pool_has(const struct fn_lport_pool *pool, const struct fn_address *address);
/* Return the address that allocate() called number *lip*. */
const struct fn_address *fn_lport_pool_address(const struct fn_lport_pool *pool, uint16_t lip);

/* Take a free port for *client*: set *lip* and *port*, or return false when every address is spent. */
bool fn_lport_pool_allocate(struct fn_lport_pool *pool, struct fn_ports *ports, const struct fn_address *client,
			    int64_t now, uint16_t *lip, uint16_t *port);
/*
 * Take *port* of *address* for a flow that has it already, and set *lip*; false when it is not the
 * pool's to give, or taken.  Before the first allocate() towards the server.
 */
bool fn_lport_pool_claim(struct fn_lport_pool *pool, struct fn_ports *ports, const struct fn_address *address,
			 uint16_t port, uint16_t *lip);
/*
 * Take a port back from a flow whose last packet came at *last_seen*.  A port that cannot be noted
 * because memory ran out is lost, and counts as in use for ever.
 */
void fn_lport_pool_release(struct fn_lport_pool *pool, struct fn_ports *ports, uint16_t lip, uint16_t port,
			   int64_t now, int64_t last_seen);

/* Fill *use* with the next local address and server that ever had a flow; false at the end. Start with 0. */
bool fn_lport_pool_usage(const struct fn_lport_pool *pool, uint64_t *cursor, int64_t now, struct fn_port_use *use);

#endif
