// SPDX-License-Identifier: Apache-2.0
/* Whether the engine keeps up with a queue.  Twin of fullnat/core/pressure.py, which has the rules. */
#ifndef FULLNAT_NATIVE_PRESSURE_H
#define FULLNAT_NATIVE_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

#define FN_UNLIMITED UINT32_MAX
enum { FN_TRICKLE = 4 };   /* of a batch of 64 */

/* One queue that holds at most *capacity* packets. */
struct fn_pressure {
	uint32_t capacity;
	bool is_high;
};

/* Take note that *waiting* packets are in the queue. */
static inline void fn_pressure_note(struct fn_pressure *pressure, uint32_t waiting)
{
	if (waiting > pressure->capacity / 2)
		pressure->is_high = true;
	else if (waiting < pressure->capacity / 4)
		pressure->is_high = false;
}

/* How many flows the next batch may open. */
static inline uint32_t fn_pressure_openings(const struct fn_pressure *pressure)
{
	return pressure->is_high ? FN_TRICKLE : FN_UNLIMITED;
}

#endif
