// SPDX-License-Identifier: Apache-2.0
/*
 * Checksums that the kernel left for a device to compute, after we rewrote the packet.
 *
 * Such a packet comes with the sum of its pseudo header alone in the checksum field, or comes as
 * many segments at once (GSO).  A packet that is sent back with a payload loses its offload state
 * (nfqnl_mangle() sets CHECKSUM_NONE), so no device will compute anything for it any more, but its
 * GSO state remains.  What its field must hold then depends on what is done with it next:
 *
 *     checksum     packet       forwarded                        delivered to this host
 *     complete     single       as rewritten                     as rewritten
 *     not ready    single       full sum                         full sum
 *     any          TCP, GSO     anything: tcp_gso_segment()      full sum of the whole: tcp_v4_rcv()
 *                               begins anew for each segment     verifies it unsegmented
 *     any          UDP, GSO     sum of the pseudo header:        cannot be: needs_segments() before it
 *                               __udp_gso_segment() goes on      is rewritten
 *                               from it
 *
 * Delivered to this host is what gets one of its addresses for a destination: the client or the server
 * lives on the director.  The sum that the kernel then takes of a UDP packet is kept where the
 * segmentation, which most sockets need, looks for the place of the checksum, and it refuses.
 *
 * Kernels before 6.11 segment forwarded UDP packets as well, but warn in their log of a bad offload.
 */
#ifndef FULLNAT_NATIVE_OFFLOAD_H
#define FULLNAT_NATIVE_OFFLOAD_H

#include "../core/checksum.h"
#include "../core/packet.h"

/* What NFQA_SKB_INFO says; its third bit, that nobody verified the checksum, needs nothing done. */
enum fn_offload {
	FN_OFFLOAD_NOT_READY = 1,   /* NFQA_SKB_CSUMNOTREADY */
	FN_OFFLOAD_GSO = 2,         /* NFQA_SKB_GSO */
};

/* Return the sum of the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1) of *size* bytes. */
static inline uint64_t fn_offload_pseudo_sum(const struct fn_view *view, const uint8_t *data, uint32_t size)
{
	return (uint64_t)fn_checksum_ones_sum(data + fn_packet_addresses_at(view->family),
					      fn_packet_addresses_size(view->family)) +
	       size + view->protocol;
}

/*
 * Whether a packet cannot be rewritten whole: it is to be passed on, as it came, to a queue in front
 * of which the kernel segments.  So is a GSO packet that was truncated, whatever else it is.
 */
static inline bool fn_offload_needs_segments(const struct fn_view *view, uint8_t offload, bool local)
{
	return offload & FN_OFFLOAD_GSO && local && view->protocol == FN_UDP;
}

/*
 * Make the transport checksum right, after every other change to the packet.
 *
 * *view* was parsed from *data* before it was rewritten, and is not malformed.  What has no ports, or
 * is a fragment, never has its checksum left to a device.  *local*: delivered to this host.
 */
static inline void fn_offload_complete(const struct fn_view *view, uint8_t offload, bool local, uint8_t *data)
{
	bool is_udp = view->protocol == FN_UDP;
	uint8_t *segment = data + view->l4;
	uint8_t *check = segment + (is_udp ? 6 : 16);
	uint32_t size = is_udp ? fn_bytes_load16(segment + 4) : view->length - view->l4;
	uint16_t sum;

	if (!(offload & (FN_OFFLOAD_NOT_READY | FN_OFFLOAD_GSO)))
		return;
	if (!view->key_size || view->fragment.datagram_size)
		return;
	if (offload & FN_OFFLOAD_GSO && !local) {
		if (is_udp)
			fn_bytes_store16(check, fn_checksum_fold(fn_offload_pseudo_sum(view, data, size)));
		return;
	}
	fn_bytes_store16(check, 0);
	sum = fn_checksum_of(fn_offload_pseudo_sum(view, data, size) + fn_checksum_ones_sum(segment, size));
	fn_bytes_store16(check, !sum && is_udp ? 0xFFFF : sum);   /* 0 would say there is none (RFC 768) */
}

#endif
