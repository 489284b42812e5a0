// SPDX-License-Identifier: Apache-2.0
/* What wrr and mh ask of a list of weights; in Python, math.gcd() and max(). */
#ifndef FULLNAT_NATIVE_SCHED_WEIGHTS_H
#define FULLNAT_NATIVE_SCHED_WEIGHTS_H

#include <stdint.h>

/* Return the greatest common divisor of *weights*; 1 when there is none above 0. */
static inline uint32_t fn_weights_divisor(const uint32_t *weights, uint32_t count)
{
	uint32_t divisor = 0;

	for (uint32_t at = 0; at < count; at++)
		for (uint32_t rest = weights[at]; rest;) {
			uint32_t next = divisor % rest;

			divisor = rest;
			rest = next;
		}
	return divisor ? divisor : 1;
}

/* Return the greatest of *weights*, or 0. */
static inline uint32_t fn_weights_greatest(const uint32_t *weights, uint32_t count)
{
	uint32_t greatest = 0;

	for (uint32_t at = 0; at < count; at++)
		if (weights[at] > greatest)
			greatest = weights[at];
	return greatest;
}

#endif
