// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * ICMP errors: find whom they concern, translate both layers; and the answers that are our own.
 *
 * Twin of fullnat/core/icmp.py, which has the drawing.  Views given here are neither malformed nor
 * fragments.  An answer is built in a buffer of the caller's; its size is returned.
 */
#ifndef FULLNAT_CORE_ICMP_H
#define FULLNAT_CORE_ICMP_H

#include "checksum.h"
#include "packet.h"
#include "rewrite.h"

enum {
	FN_HOP_LIMIT = 64,
	/* The longest error we send: RFC 1812, section 4.3.2.3; RFC 4443, section 2.4. */
	FN_MAX_ERROR_V4 = 576,
	FN_MAX_ERROR_V6 = 1280,
};

/* The packet inside an ICMP error. */
struct fn_quoted {
	uint8_t key[FN_KEY_MAX];   /* as quoted */
	uint8_t key_size;
	uint8_t protocol;
	uint32_t ip;               /* where the quoted IP header is */
	uint32_t l4;               /* where the quoted transport header is */
};

/* Whether *view* is an ICMP error message of the kinds that are relayed. */
static inline bool fn_icmp_is_error(const struct fn_view *view, const uint8_t *data)
{
	uint8_t kind;

	if (view->length <= view->l4)
		return false;
	kind = data[view->l4];
	/* RFC 792 without redirect, which is for this host; RFC 4443. */
	if (view->protocol == FN_ICMP && view->family == 4)
		return kind == 3 || kind == 11 || kind == 12;
	return view->protocol == FN_ICMPV6 && view->family == 6 && kind >= 1 && kind <= 4;
}

/* Whether *view* is about a packet that nobody should act on: source quench (RFC 6633). */
static inline bool fn_icmp_is_unwanted(const struct fn_view *view, const uint8_t *data)
{
	return view->protocol == FN_ICMP && view->length > view->l4 && data[view->l4] == 4;
}

/* Whether *view* is a ping. */
static inline bool fn_icmp_is_echo_request(const struct fn_view *view, const uint8_t *data)
{
	return view->protocol == (view->family == 4 ? FN_ICMP : FN_ICMPV6) && view->length >= view->l4 + 8 &&
	       data[view->l4] == (view->family == 4 ? 8 : 128);
}

/* Return the sum of the pseudo header of RFC 9293 section 3.1 and RFC 8200 section 8.1. */
static inline uint64_t fn_icmp_pseudo_sum(const uint8_t *addresses, uint32_t size, uint32_t length,
					  uint8_t protocol)
{
	return (uint64_t)fn_checksum_ones_sum(addresses, size) + length + protocol;
}

/* Return the sum of the ICMP message of *length* bytes at *l4* in a packet of *family*. */
static inline uint64_t fn_icmp_message_sum(const uint8_t *data, uint8_t family, uint32_t l4, uint32_t length)
{
	uint64_t sum = fn_checksum_ones_sum(data + l4, length);

	return family == 4 ? sum : sum + fn_icmp_pseudo_sum(data + 8, 32, length, FN_ICMPV6);
}

/* Compute the checksum of the ICMP message that goes from *l4* to the end of a packet of *size*. */
static inline void fn_icmp_set_checksum(uint8_t *data, uint8_t family, uint32_t l4, uint32_t size)
{
	fn_bytes_store16(data + l4 + 2, 0);
	fn_bytes_store16(data + l4 + 2, fn_checksum_of(fn_icmp_message_sum(data, family, l4, size - l4)));
}

/* Compute the checksum of an IPv4 header of *size* bytes. */
static inline void fn_icmp_set_ip_checksum(uint8_t *data, uint32_t size)
{
	fn_bytes_store16(data + 10, 0);
	fn_bytes_store16(data + 10, fn_checksum_of(fn_checksum_ones_sum(data, size)));
}

/*
 * Find the packet quoted in the ICMP error *view*: fill *quoted* and return FN_REASON_NONE, or
 * return why there is none to be used.
 */
static inline enum fn_reason fn_icmp_parse_error(const struct fn_view *view, const uint8_t *data,
						 struct fn_quoted *quoted)
{
	uint32_t at = view->l4 + 8, l4, size = fn_packet_addresses_size(view->family);
	uint8_t protocol;

	if (view->length < at + (view->family == 4 ? 28 : 48))
		return FN_REASON_ICMP_UNRELATED;
	if (fn_checksum_of(fn_icmp_message_sum(data, view->family, view->l4, view->length - view->l4)))
		return FN_REASON_ICMP_INVALID;
	if (data[at] >> 4 != view->family)
		return FN_REASON_ICMP_INVALID;
	if (view->family == 4) {
		l4 = at + (data[at] & 0x0FU) * 4;
		if (l4 < at + 20 || view->length < l4 + 8)
			return FN_REASON_ICMP_INVALID;
		if (fn_checksum_ones_sum(data + at, l4 - at) != 0xFFFF)
			return FN_REASON_ICMP_INVALID;
		if (fn_bytes_load16(data + at + 6) & 0x1FFF)
			return FN_REASON_ICMP_UNRELATED;   /* a later fragment has no ports */
		protocol = data[at + 9];
	} else {
		l4 = at + 40;
		protocol = data[at + 6];
		if (protocol == FN_FRAGMENT && view->length >= l4 + 16 &&
		    !(fn_bytes_load16(data + l4 + 2) & 0xFFF8)) {
			protocol = data[l4];   /* the first fragment of a datagram */
			l4 += 8;
		}
	}
	if (protocol != FN_TCP && protocol != FN_UDP)
		return FN_REASON_ICMP_UNRELATED;
	fn_bytes_clear(quoted, sizeof(*quoted));
	fn_bytes_copy(quoted->key, data + at + fn_packet_addresses_at(view->family), size);
	fn_bytes_copy(quoted->key + size, data + l4, 4);
	quoted->key_size = (uint8_t)(size + 4);
	quoted->protocol = protocol;
	quoted->ip = at;
	quoted->l4 = l4;
	return FN_REASON_NONE;
}

/* Rewrite the quoted packet into what it was before it was translated: the reverse of *new_key*. */
static inline void fn_icmp_rewrite_quoted(const struct fn_view *view, const struct fn_quoted *quoted,
					  const uint8_t *new_key, uint8_t *data)
{
	uint32_t size = quoted->key_size;
	uint32_t check_at = quoted->l4 + (quoted->protocol == FN_TCP ? 16 : 6);
	uint8_t *ip = data + quoted->ip, key[FN_KEY_MAX];

	fn_packet_reverse_key(key, new_key, size);
	if (view->family == 4)
		fn_bytes_store16(ip + 10, fn_checksum_update(fn_bytes_load16(ip + 10),
							     fn_checksum_difference(quoted->key, key, 8)));
	fn_bytes_copy(ip + fn_packet_addresses_at(view->family), key, size - 4);
	fn_bytes_copy(data + quoted->l4, key + size - 4, 4);
	if (view->length >= check_at + 2)
		fn_rewrite_transport_check(data + check_at, quoted->protocol,
					   fn_checksum_difference(quoted->key, key, size));
}

/*
 * Rewrite an ICMP error, where it lies, into what its true receiver must see.
 *
 * It goes as packets of *new_key* go; the quoted packet went the other way.  *quoted* is what
 * parse_error() found in it, and *new_key* has the size of the quoted key.
 */
static inline void fn_icmp_relay_error(const struct fn_view *view, const struct fn_quoted *quoted,
				       const uint8_t *new_key, uint8_t *data)
{
	fn_icmp_rewrite_quoted(view, quoted, new_key, data);
	fn_bytes_copy(data + fn_packet_addresses_at(view->family), new_key, quoted->key_size - 4U);
	if (view->family == 4)
		fn_icmp_set_ip_checksum(data, view->l4);
	fn_icmp_set_checksum(data, view->family, view->l4, view->length);
}

/* What we say ourselves.  All take the packet they answer, and answer from its destination. */

/*
 * Write the IP header of an answer to *view* that has *size* bytes of body; return where the body
 * begins.
 */
static inline uint32_t fn_icmp_build_ip(const struct fn_view *view, const uint8_t *data, uint8_t protocol,
					uint32_t size, uint8_t *out)
{
	uint32_t at = fn_packet_addresses_at(view->family), half = fn_packet_addresses_size(view->family) / 2;
	uint32_t header = at + 2 * half;

	fn_bytes_clear(out, header);
	fn_bytes_copy(out + at, data + at + half, half);
	fn_bytes_copy(out + at + half, data + at, half);
	if (view->family == 6) {
		out[0] = 0x60;
		fn_bytes_store16(out + 4, (uint16_t)size);
		out[6] = protocol;
		out[7] = FN_HOP_LIMIT;
		return header;
	}
	out[0] = 0x45;
	fn_bytes_store16(out + 2, (uint16_t)(header + size));
	out[6] = 0x40;
	out[8] = FN_HOP_LIMIT;
	out[9] = protocol;
	fn_icmp_set_ip_checksum(out, header);
	return header;
}

/* Answer the ping *view*.  *out* has room for as many bytes as the ping; returns the size. */
static inline uint32_t fn_icmp_build_echo_reply(const struct fn_view *view, const uint8_t *data, uint8_t *out)
{
	uint32_t size = view->length - view->l4;
	uint8_t protocol = view->family == 4 ? FN_ICMP : FN_ICMPV6;
	uint32_t l4 = fn_icmp_build_ip(view, data, protocol, size, out);

	fn_bytes_copy(out + l4, data + view->l4, size);
	out[l4] = view->family == 4 ? 0 : 129;
	out[l4 + 1] = 0;
	fn_icmp_set_checksum(out, view->family, l4, l4 + size);
	return l4 + size;
}

/* Build an error of *type* and *code* that quotes *view*.  *out* has room for FN_MAX_ERROR_V4 or _V6. */
static inline uint32_t fn_icmp_build_unreachable(const struct fn_view *view, const uint8_t *data, uint8_t type,
						 uint8_t code, uint8_t *out)
{
	uint32_t room = view->family == 4 ? FN_MAX_ERROR_V4 - 28 : FN_MAX_ERROR_V6 - 48;
	uint32_t size = view->length < room ? view->length : room;
	uint8_t protocol = view->family == 4 ? FN_ICMP : FN_ICMPV6;
	uint32_t l4 = fn_icmp_build_ip(view, data, protocol, 8 + size, out);

	fn_bytes_clear(out + l4, 8);
	out[l4] = type;
	out[l4 + 1] = code;
	fn_bytes_copy(out + l4 + 8, data, size);
	fn_icmp_set_checksum(out, view->family, l4, l4 + 8 + size);
	return l4 + 8 + size;
}

/*
 * Build the RST that answers the TCP segment *view* (RFC 9293, section 3.5.2), which has a key and
 * may be a first fragment.  *out* has room for 60 bytes.
 */
static inline uint32_t fn_icmp_build_reset(const struct fn_view *view, const uint8_t *data, uint8_t *out)
{
	uint32_t at = fn_packet_addresses_at(view->family), size = fn_packet_addresses_size(view->family);
	uint32_t l4 = fn_icmp_build_ip(view, data, FN_TCP, 20, out);
	const uint8_t *segment = data + view->l4;
	uint8_t *reset = out + l4;

	fn_bytes_clear(reset, 20);
	fn_bytes_copy(reset, segment + 2, 2);
	fn_bytes_copy(reset + 2, segment, 2);
	reset[12] = 0x50;
	if (view->flags & FN_ACK) {
		fn_bytes_copy(reset + 4, segment + 8, 4);
		reset[13] = FN_RST;
	} else {
		uint32_t length = view->length - view->l4 - fn_packet_tcp_header(data, view->l4);

		length += !!(view->flags & FN_SYN) + (uint32_t)!!(view->flags & FN_FIN);
		fn_bytes_store32(reset + 8, fn_bytes_load32(segment + 4) + length);
		reset[13] = FN_RST | FN_ACK;
	}
	fn_bytes_store16(reset + 16, fn_checksum_of(fn_checksum_ones_sum(reset, 20) +
						    fn_icmp_pseudo_sum(out + at, size, 20, FN_TCP)));
	return l4 + 20;
}

#endif
