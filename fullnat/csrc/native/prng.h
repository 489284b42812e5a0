// SPDX-License-Identifier: Apache-2.0
/* SplitMix64: the director's only source of arbitrary choices.  Twin of fullnat/core/prng.py. */
#ifndef FULLNAT_NATIVE_PRNG_H
#define FULLNAT_NATIVE_PRNG_H

#include <stdint.h>

/* A stream of 64-bit numbers that its seed determines. */
struct fn_prng {
	uint64_t state;
};

/* Return *value* with every bit spread over all 64: the finaliser of SplitMix64, a bijection. */
static inline uint64_t fn_prng_mix(uint64_t value)
{
	value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
	value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
	return value ^ (value >> 31);
}

/* Return the next number. */
static inline uint64_t fn_prng_next(struct fn_prng *prng)
{
	prng->state += 0x9E3779B97F4A7C15U;
	return fn_prng_mix(prng->state);
}

/* Return a number in 0..bound-1. */
static inline uint64_t fn_prng_below(struct fn_prng *prng, uint64_t bound)
{
	return (uint64_t)((unsigned __int128)fn_prng_next(prng) * bound >> 64);
}

#endif
