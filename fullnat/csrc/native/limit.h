// SPDX-License-Identifier: Apache-2.0
/* A token bucket: so many a second on average, so many at once.  Twin of fullnat/core/limit.py. */
#ifndef FULLNAT_NATIVE_LIMIT_H
#define FULLNAT_NATIVE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#define FN_SECOND INT64_C(1000000000)

struct fn_limit {
	int64_t rate;       /* events a second */
	int64_t capacity;   /* in tokens times nanoseconds, to stay in integers */
	int64_t level;
	int64_t filled;     /* when */
};

static inline void fn_limit_init(struct fn_limit *limit, uint32_t rate, uint32_t burst)
{
	limit->rate = rate;
	limit->capacity = burst * FN_SECOND;
	limit->level = limit->capacity;
	limit->filled = 0;
}

/* Whether one more event may happen at *now*; takes a token if so. */
static inline bool fn_limit_admit(struct fn_limit *limit, int64_t now)
{
	__int128 level = limit->level + (__int128)(now - limit->filled) * limit->rate;

	limit->level = level < limit->capacity ? (int64_t)level : limit->capacity;
	limit->filled = now;
	if (limit->level < FN_SECOND)
		return false;
	limit->level -= FN_SECOND;
	return true;
}

#endif
