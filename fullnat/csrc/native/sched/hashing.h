// SPDX-License-Identifier: Apache-2.0
/*
 * The hash of dh, sh and mh: a pure function of address and port, the same in every process.
 *
 * Twin of fullnat/core/sched/hashing.py, which says why it has no seed; mix64() is fn_prng_mix().
 */
#ifndef FULLNAT_NATIVE_SCHED_HASHING_H
#define FULLNAT_NATIVE_SCHED_HASHING_H

#include "../endpoint.h"
#include "../prng.h"

#define FN_HASHING_GOLDEN 0x9E3779B97F4A7C15U

static inline uint64_t fn_hashing_load64(const uint8_t *at)
{
	return (uint64_t)fn_bytes_load32(at) << 32 | fn_bytes_load32(at + 4);
}

/* Return 64 bits that depend on all of *address*, *port* and *salt*. */
static inline uint64_t fn_hashing_hash_endpoint(const struct fn_address *address, uint16_t port, uint64_t salt)
{
	uint64_t state = fn_prng_mix(FN_HASHING_GOLDEN ^ salt);

	if (address->size == 16) {
		state = fn_prng_mix(state ^ fn_hashing_load64(address->bytes));
		state = fn_prng_mix(state ^ fn_hashing_load64(address->bytes + 8));
	} else {
		state = fn_prng_mix(state ^ fn_bytes_load32(address->bytes));
	}
	return fn_prng_mix(state ^ port);
}

/* Return the *attempt*-th further hash of *value*. */
static inline uint64_t fn_hashing_rehash(uint64_t value, uint64_t attempt)
{
	return fn_prng_mix(value + attempt * FN_HASHING_GOLDEN);
}

#endif
