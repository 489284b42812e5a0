// SPDX-License-Identifier: Apache-2.0
/* Identifications for datagrams that are, or may become, fragments.  Twin of fullnat/core/ident.py. */
#ifndef FULLNAT_NATIVE_IDENT_H
#define FULLNAT_NATIVE_IDENT_H

#include "../core/bytes.h"
#include "prng.h"

enum { FN_IDENT_COUNTERS = 2039 };   /* prime, so that the remainder depends on every bit of the addresses */

/* Counters of datagrams, by source, destination and protocol. */
struct fn_ident {
	uint32_t counters[FN_IDENT_COUNTERS];
};

static inline void fn_ident_init(struct fn_ident *ident, uint64_t seed)
{
	struct fn_prng prng = { seed };

	for (uint32_t index = 0; index < FN_IDENT_COUNTERS; index++)
		ident->counters[index] = (uint32_t)fn_prng_next(&prng);
}

/* Return the next identification between the *size* bytes of *addresses*, which IPv4 cuts to 16 bits. */
static inline uint32_t fn_ident_next(struct fn_ident *ident, const uint8_t *addresses, uint32_t size,
				     uint8_t protocol)
{
	uint64_t remainder = 0;

	for (uint32_t at = 0; at < size; at += 4)
		remainder = (remainder << 32 | fn_bytes_load32(addresses + at)) % FN_IDENT_COUNTERS;
	return ++ident->counters[(remainder + protocol) % FN_IDENT_COUNTERS];
}

#endif
