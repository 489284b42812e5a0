// SPDX-License-Identifier: Apache-2.0
/* The carrier.  See carrier.h for the contract. */
#include "carrier.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <linux/netfilter.h>

#include "offload.h"

static struct fn_errand *add(struct fn_errands *errands, uint32_t answer_size)
{
	struct fn_errand *errand = calloc(1, sizeof(*errand) + answer_size);

	if (!errand)
		return NULL;
	*errands->end = errand;
	errands->end = &errand->next;
	return errand;
}

void fn_errands_let_go(struct fn_errands *errands, struct fn_parked *parked, const struct fn_fate *fate)
{
	struct fn_errand *errand = add(errands, 0);

	if (!errand) {
		free(parked);   /* the kernel keeps the packet until the queue is unbound */
		return;
	}
	errand->parked = parked;
	errand->fate = *fate;
}

void fn_errands_note(struct fn_errands *errands, const struct fn_decision *decision)
{
	/* Fragments are never GSO, so that they need not know where they go. */
	struct fn_fate released = { .reason = decision->released_reason,
				    .translation = decision->released_translation };

	if (decision->reply) {
		struct fn_errand *errand = add(errands, decision->reply_size);

		if (errand) {
			errand->size = decision->reply_size;
			memcpy(errand->answer, decision->reply, decision->reply_size);
		}
	}
	for (uint32_t at = 0; at < decision->released_count; at++)
		fn_errands_let_go(errands, decision->released[at].packet, &released);
}

static void send_answer(struct fn_carrier *carrier, const uint8_t *packet, uint32_t size)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	ssize_t sent;

	if (packet[0] >> 4 == 4) {
		memcpy(&v4.sin_addr, packet + 16, 4);
		sent = sendto(carrier->raw4, packet, size, MSG_DONTWAIT, (struct sockaddr *)&v4, sizeof(v4));
	} else {
		memcpy(&v6.sin6_addr, packet + 24, 16);
		sent = sendto(carrier->raw6, packet, size, MSG_DONTWAIT, (struct sockaddr *)&v6, sizeof(v6));
	}
	if (sent < 0)
		__atomic_fetch_add(&carrier->send_failures, 1, __ATOMIC_RELAXED);
}

/*
 * What was not untracked before goes through the raw table once more, where the mark has it so: a
 * relayed ICMP error, for those that concern the host itself must stay tracked, and with a
 * fallback everything, for what we do not forward the kernel is to track.
 */
static bool is_repeated(const struct fn_carrier *carrier, enum fn_reason reason, uint8_t hook)
{
	return carrier->repeats || (reason == FN_REASON_ICMP_RELAYED && hook == NF_INET_PRE_ROUTING);
}

bool fn_carrier_is_local(const struct fn_carrier *carrier, const struct fn_rewrite *rewrite)
{
	uint32_t half = (rewrite->key_size - 4U) / 2;
	struct fn_address daddr = fn_address_of(rewrite->new_key + half, half);

	for (uint32_t at = 0; at < carrier->local_count; at++)
		if (fn_address_equal(&carrier->local_addresses[at], &daddr))
			return true;
	return false;
}

void fn_carrier_note(const struct fn_carrier *carrier, const struct fn_decision *decision, uint8_t offload,
		     struct fn_fate *fate)
{
	fate->reason = decision->reason;
	fate->local = false;
	if (decision->reason == FN_REASON_NONE || fn_reason_verdict[decision->reason] != FN_VERDICT_FORWARD)
		return;
	fate->translation = decision->translation;
	fate->local = offload & FN_OFFLOAD_GSO && fn_carrier_is_local(carrier, &decision->translation.rewrite);
}

static void translate(const struct fn_fate *fate, const struct fn_view *view, uint8_t offload, uint8_t *data)
{
	fn_translation_apply(&fate->translation, view, data);
	fn_offload_complete(view, offload, fate->local, data);
}

void fn_carrier_settle(const struct fn_carrier *carrier, struct fn_queue *queue, struct fn_packet *packet,
		       const struct fn_view *view, const struct fn_fate *fate)
{
	switch (fn_reason_verdict[fate->reason]) {
	case FN_VERDICT_FORWARD:
		translate(fate, view, packet->offload, packet->data);
		if (is_repeated(carrier, fate->reason, packet->hook))
			fn_queue_repeat(queue, packet, packet->mark | carrier->mark);
		else
			fn_queue_accept(queue, packet, packet->mark | carrier->mark, true);
		break;
	case FN_VERDICT_PASS:
		fn_queue_accept(queue, packet, packet->mark, false);
		break;
	default:
		fn_queue_drop(queue, packet);
	}
}

static void let_go(const struct fn_carrier *carrier, struct fn_parked *parked, const struct fn_fate *fate)
{
	uint32_t verdict;

	switch (fn_reason_verdict[fate->reason]) {
	case FN_VERDICT_FORWARD:
		translate(fate, &parked->view, parked->offload, parked->data);
		verdict = is_repeated(carrier, fate->reason, parked->hook) ? NF_REPEAT : NF_ACCEPT;
		fn_queue_verdict(parked->queue, parked->id, verdict, parked->mark | carrier->mark, parked->data,
				 parked->view.length);
		break;
	case FN_VERDICT_PASS:
		fn_queue_verdict(parked->queue, parked->id, NF_ACCEPT, parked->mark, NULL, 0);
		break;
	default:
		fn_queue_verdict(parked->queue, parked->id, NF_DROP, parked->mark, NULL, 0);
	}
}

void fn_errands_run(struct fn_errands *errands, struct fn_carrier *carrier)
{
	struct fn_errand *errand;

	while ((errand = errands->first)) {
		errands->first = errand->next;
		if (errand->size)
			send_answer(carrier, errand->answer, errand->size);
		if (errand->parked)
			let_go(carrier, errand->parked, &errand->fate);
		free(errand->parked);
		free(errand);
	}
	fn_errands_init(errands);
}
