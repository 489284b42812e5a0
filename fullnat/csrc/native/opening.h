// SPDX-License-Identifier: Apache-2.0
/*
 * The director's decision on a packet that may open a flow: server, local port, flow, or why there is none.
 *
 * Both functions return the flow that *view* is forwarded in, or NULL, and say which in *decision*: the reason,
 * or FN_REASON_NONE where Python is to be asked first and *choice*, what it said, is NULL.
 */
#ifndef FULLNAT_NATIVE_OPENING_H
#define FULLNAT_NATIVE_OPENING_H

#include "director.h"

/* Decide *view*, a packet that no flow has. */
struct fn_flow *fn_opening_decide(struct fn_director *director, const struct fn_view *view, const uint8_t *data,
				  const struct fn_choice *choice, int64_t now, struct fn_decision *decision);

/* Replace *flow*, which is closing, by a new one for the SYN *view*. */
struct fn_flow *fn_opening_replace(struct fn_director *director, struct fn_flow *flow, const struct fn_view *view,
				   const uint8_t *data, const struct fn_choice *choice, int64_t now,
				   struct fn_decision *decision);

#endif
