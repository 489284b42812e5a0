// SPDX-License-Identifier: Apache-2.0
/*
 * The carrier: does to packets what was decided, outside of the director's lock.
 *
 * What a decision points to is valid until the director's next one, so whatever cannot be done at
 * once is copied here as an errand: answers to be sent, and parked packets to be let go.
 */
#ifndef FULLNAT_NATIVE_CARRIER_H
#define FULLNAT_NATIVE_CARRIER_H

#include "parked.h"

/* What was decided of one packet, kept until it is carried out. */
struct fn_fate {
	enum fn_reason reason;                 /* FN_REASON_NONE: parked */
	bool local;                            /* GSO, and delivered to this host: see offload.h */
	struct fn_translation translation;
};

/* Something to be done after the lock is released and the verdicts of the batch are sent. */
struct fn_errand {
	struct fn_errand *next;
	struct fn_parked *parked;              /* to be let go, or NULL */
	struct fn_fate fate;
	uint32_t size;                         /* of the answer to be sent; 0: none */
	uint8_t answer[];
};

struct fn_carrier {
	uint32_t mark;                         /* set on what is forwarded */
	bool repeats;                          /* the hook, for all that is forwarded: see is_repeated() */
	int raw4, raw6;                        /* sockets for answers; -1: none */
	uint64_t send_failures;                /* atomic */
	struct fn_address *local_addresses;    /* of this host; guarded by the director's lock */
	uint32_t local_count;
};

/* Errands in the order they came. */
struct fn_errands {
	struct fn_errand *first;
	struct fn_errand **end;
};

static inline void fn_errands_init(struct fn_errands *errands)
{
	errands->first = NULL;
	errands->end = &errands->first;
}

/* Note the answer in *decision*, and the packets it releases.  Call before the director's next decision. */
void fn_errands_note(struct fn_errands *errands, const struct fn_decision *decision);
/* Note that *parked* is to be let go as *fate* says. */
void fn_errands_let_go(struct fn_errands *errands, struct fn_parked *parked, const struct fn_fate *fate);
/* Do all of them. */
void fn_errands_run(struct fn_errands *errands, struct fn_carrier *carrier);

/* Whether *rewrite* sends packets to this host.  Call with the director's lock. */
bool fn_carrier_is_local(const struct fn_carrier *carrier, const struct fn_rewrite *rewrite);
/* Keep what *decision* says of a packet that came with *offload*.  Call with the director's lock. */
void fn_carrier_note(const struct fn_carrier *carrier, const struct fn_decision *decision, uint8_t offload,
		     struct fn_fate *fate);
/* Rewrite *packet* where that was decided, and add its verdict to the batch of *queue*. */
void fn_carrier_settle(const struct fn_carrier *carrier, struct fn_queue *queue, struct fn_packet *packet,
		       const struct fn_view *view, const struct fn_fate *fate);

#endif
