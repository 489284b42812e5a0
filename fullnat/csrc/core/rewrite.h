// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Rewrites: what to change in a packet, computed when a flow opens, applied to each of its packets.
 *
 * Twin of fullnat/core/rewrite.py.  There a rewrite returns a new packet; here it changes the
 * packet where it lies, and never its length.  Checksums are brought up to date by differences
 * that are known in advance (RFC 1624), so the cost does not depend on the size of the packet.
 */
#ifndef FULLNAT_CORE_REWRITE_H
#define FULLNAT_CORE_REWRITE_H

#include "checksum.h"
#include "packet.h"

/* Turn packets of one key into packets of another. */
struct fn_rewrite {
	uint8_t new_key[FN_KEY_MAX];
	uint8_t key_size;             /* of both keys: 12 or 36 */
	uint16_t ip_delta;            /* difference() of the addresses */
	uint16_t transport_delta;     /* difference() of the whole keys */
};

/* Prepare the rewrite of packets of *old_key* into those of *new_key*, both of *size* bytes. */
static inline void fn_rewrite_init(struct fn_rewrite *rewrite, const uint8_t *old_key,
				   const uint8_t *new_key, uint32_t size)
{
	fn_bytes_clear(rewrite, sizeof(*rewrite));
	fn_bytes_copy(rewrite->new_key, new_key, size);
	rewrite->key_size = (uint8_t)size;
	rewrite->ip_delta = fn_checksum_difference(old_key, new_key, size - 4);
	rewrite->transport_delta = fn_checksum_difference(old_key, new_key, size);
}

/*
 * Update the transport checksum at *at* by *delta*.
 *
 * A UDP checksum of 0 says there is none, so a computed 0 is written as 0xffff (RFC 768).
 */
static inline void fn_rewrite_transport_check(uint8_t *at, uint8_t protocol, uint16_t delta)
{
	uint16_t check = fn_bytes_load16(at);

	if (!check && protocol == FN_UDP)
		return;
	check = fn_checksum_update(check, delta);
	if (!check && protocol == FN_UDP)
		check = 0xFFFF;
	fn_bytes_store16(at, check);
}

/*
 * Change the addresses: all there is to do in a later fragment.
 *
 * *view* was parsed from *data*, has no reason to be malformed, and is of the family of the keys.
 */
static inline void fn_rewrite_apply_addresses(const struct fn_rewrite *rewrite, const struct fn_view *view,
					      uint8_t *data)
{
	uint32_t at = fn_packet_addresses_at(view->family);

	if (view->family == 4)
		fn_bytes_store16(data + 10, fn_checksum_update(fn_bytes_load16(data + 10), rewrite->ip_delta));
	fn_bytes_copy(data + at, rewrite->new_key, fn_packet_addresses_size(view->family));
}

/* Change addresses, ports and checksums.  As apply_addresses(), and *view* has a key. */
static inline void fn_rewrite_apply(const struct fn_rewrite *rewrite, const struct fn_view *view,
				    uint8_t *data)
{
	uint8_t *transport = data + view->l4;

	fn_rewrite_apply_addresses(rewrite, view, data);
	fn_bytes_copy(transport, rewrite->new_key + rewrite->key_size - 4, 4);
	fn_rewrite_transport_check(transport + (view->protocol == FN_TCP ? 16 : 6), view->protocol,
				   rewrite->transport_delta);
}

/* Return where the MSS value stands in the TCP header at *l4*, or 0.  The header is in the packet. */
static inline uint32_t fn_rewrite_find_mss(const uint8_t *data, uint32_t l4)
{
	uint32_t end = l4 + fn_packet_tcp_header(data, l4), at = l4 + 20;

	for (int seen = 0; seen < FN_MAX_OPTIONS && at + 1 < end; seen++) {
		uint8_t kind = data[at], length = data[at + 1];

		if (kind == 0)
			return 0;
		if (kind == 1)
			at += 1;
		else if (length < 2)
			return 0;
		else if (kind == 2)
			return length == 4 && at + 4 <= end ? at + 2 : 0;   /* RFC 9293, section 3.2 */
		else
			at += length;
	}
	return 0;
}

/*
 * Lower the MSS of a TCP segment to *limit*, if it has one that is larger.
 *
 * After apply().  *view* has a key and is TCP.
 */
static inline void fn_rewrite_clamp_mss(const struct fn_view *view, uint8_t *data, uint32_t limit)
{
	uint32_t at = fn_rewrite_find_mss(data, view->l4), odd;
	uint8_t *check = data + view->l4 + 16;
	uint8_t old[4];

	if (!at || fn_bytes_load16(data + at) <= limit)
		return;
	/* The option may start at an odd offset: take the difference of the words that hold it. */
	odd = (at - view->l4) % 2;
	fn_bytes_copy(old, data + at - odd, 2 + 2 * odd);
	fn_bytes_store16(data + at, (uint16_t)limit);
	fn_bytes_store16(check, fn_checksum_update(fn_bytes_load16(check),
						   fn_checksum_difference(old, data + at - odd, 2 + 2 * odd)));
}

/*
 * Give a datagram that is, or may become, fragments a new identification: 32 bits, of which IPv4
 * takes the low 16.
 *
 * After apply() or apply_addresses().  IPv6 has a place for it only in fragments.
 */
static inline void fn_rewrite_identify(const struct fn_view *view, uint8_t *data, uint32_t identification)
{
	uint8_t old[2];

	if (view->family == 6) {
		fn_bytes_store32(data + view->fragment.header + 4, identification);
		return;
	}
	fn_bytes_copy(old, data + 4, 2);
	fn_bytes_store16(data + 4, (uint16_t)identification);
	fn_bytes_store16(data + 10, fn_checksum_update(fn_bytes_load16(data + 10),
						       fn_checksum_difference(old, data + 4, 2)));
}

#endif
