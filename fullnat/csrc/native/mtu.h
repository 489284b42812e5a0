// SPDX-License-Identifier: Apache-2.0
/* Path MTUs by longest prefix.  Twin of fullnat/core/mtu.py. */
#ifndef FULLNAT_NATIVE_MTU_H
#define FULLNAT_NATIVE_MTU_H

#include "endpoint.h"

enum { FN_DEFAULT_MTU = 1500 };

/* A destination prefix and the MTU of its route. */
struct fn_route {
	struct fn_address network;   /* host bits 0 */
	uint8_t prefix_length;
	uint32_t mtu;
};

struct fn_path_mtu;

/* Take *count* routes; for one prefix the first given counts.  NULL when memory ran out. */
struct fn_path_mtu *fn_path_mtu_create(const struct fn_route *routes, uint32_t count);
void fn_path_mtu_destroy(struct fn_path_mtu *path_mtu);

/* Return the MTU towards the address of *size* bytes (network order), FN_DEFAULT_MTU if no route is known. */
uint32_t fn_path_mtu_find(const struct fn_path_mtu *path_mtu, const uint8_t *address, uint32_t size);

/* Return the largest TCP segment that a path of *mtu* carries whole (RFC 9293, section 3.7.1). */
static inline uint32_t fn_path_mtu_mss(uint32_t mtu, uint8_t family)
{
	return mtu - (family == 4 ? 40 : 60);
}

#endif
