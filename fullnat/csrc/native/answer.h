// SPDX-License-Identifier: Apache-2.0
/*
 * What fullnat says itself: resets, unreachables and echo replies, so many a second and no more.
 * Twin of fullnat/core/answer.py.
 */
#ifndef FULLNAT_NATIVE_ANSWER_H
#define FULLNAT_NATIVE_ANSWER_H

#include "../core/icmp.h"
#include "limit.h"

enum { FN_ANSWER_RATE = 1000, FN_ANSWER_BURST = 200, FN_ANSWER_ROOM = 65536 };

struct fn_answers {
	struct fn_limit limit;
	uint64_t suppressed;                /* answers not given because of the limit */
	uint8_t packet[FN_ANSWER_ROOM];     /* the last one */
};

static inline void fn_answers_init(struct fn_answers *answers)
{
	fn_limit_init(&answers->limit, FN_ANSWER_RATE, FN_ANSWER_BURST);
	answers->suppressed = 0;
}

static inline bool fn_answers_admit(struct fn_answers *answers, int64_t now)
{
	bool admitted = fn_limit_admit(&answers->limit, now);

	answers->suppressed += !admitted;
	return admitted;
}

/*
 * Build in answers->packet what refuses *view* for *reason*, whose verdict is REPLY; return its
 * size, 0 when the limit is reached.  What *is_due* is answered whatever the limit says.
 */
static inline uint32_t fn_answers_refuse(struct fn_answers *answers, const struct fn_view *view,
					 const uint8_t *data, enum fn_reason reason, bool is_due, int64_t now)
{
	bool is_v4 = view->family == 4;

	if (!is_due && !fn_answers_admit(answers, now))
		return 0;
	/* Refusals that pass by themselves: a client told softly tries again (RFC 6888, REQ-11). */
	if (reason == FN_REASON_TABLE_FULL || reason == FN_REASON_NO_LOCAL_PORT)
		return fn_icmp_build_unreachable(view, data, is_v4 ? 3 : 1, is_v4 ? 1 : 3, answers->packet);
	if (view->protocol == FN_TCP)
		return fn_icmp_build_reset(view, data, answers->packet);
	return fn_icmp_build_unreachable(view, data, is_v4 ? 3 : 1, is_v4 ? 3 : 4, answers->packet);
}

/* Build the answer to the ping *view*; return its size, 0 when the limit is reached. */
static inline uint32_t fn_answers_echo(struct fn_answers *answers, const struct fn_view *view,
				       const uint8_t *data, int64_t now)
{
	return fn_answers_admit(answers, now) ? fn_icmp_build_echo_reply(view, data, answers->packet) : 0;
}

#endif
