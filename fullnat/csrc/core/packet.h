// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Views of packets: where the headers are, and the key flows are found by.
 *
 * The key of a TCP or UDP packet is saddr, daddr, sport and dport as they stand in the packet: 12
 * bytes for IPv4, 36 for IPv6.  Twin of fullnat/core/packet.py.  A view does not point to its
 * packet: every function that needs the bytes takes them beside the view they were parsed into.
 */
#ifndef FULLNAT_CORE_PACKET_H
#define FULLNAT_CORE_PACKET_H

#include "addr.h"
#include "bytes.h"
#include "reason.h"

enum fn_tcp_flag { FN_FIN = 1, FN_SYN = 2, FN_RST = 4, FN_PSH = 8, FN_ACK = 16 };

enum {
	FN_KEY_MAX = 36,
	FN_DATAGRAM_MAX = 37,
	FN_MAX_EXTENSIONS = 8,
	FN_MAX_OPTIONS = 40,      /* bytes that IPv4 and TCP headers have for options */
	/* Every host must take a datagram of this size whole (RFC 791, section 3.1). */
	FN_NEVER_DIVIDED = 576,
};

/* IPv6 extension headers that may stand before the transport header (RFC 8200, section 4.1). */
enum fn_extension { FN_HOP_BY_HOP = 0, FN_ROUTING = 43, FN_FRAGMENT = 44, FN_DESTINATION = 60 };

/* What makes a packet a fragment. */
struct fn_fragment {
	uint8_t datagram[FN_DATAGRAM_MAX];   /* saddr, daddr, protocol, identification */
	uint8_t datagram_size;               /* 11 or 37; 0 = no fragment */
	bool more;
	uint16_t offset;                     /* bytes */
	uint32_t header;                     /* IPv6: where the fragment header is; IPv4: 0 */
};

/* One parsed packet. */
struct fn_view {
	uint32_t length;             /* what the IP header gives; bytes behind it are not the packet's */
	uint32_t l4;                 /* where the transport header is */
	uint8_t family;              /* 4 or 6 */
	uint8_t protocol;            /* of the transport header */
	uint8_t flags;               /* of TCP */
	bool divisible;              /* IPv4, DF clear, long enough to be fragmented further on */
	uint8_t malformed;           /* why it cannot be translated, or FN_REASON_NONE */
	uint8_t key_size;            /* 0 when there are no ports to read */
	uint8_t key[FN_KEY_MAX];
	struct fn_fragment fragment;
};

/* Return where the addresses of a packet of *family* are: saddr, then daddr. */
static inline uint32_t fn_packet_addresses_at(uint8_t family)
{
	return family == 4 ? 12 : 8;
}

/* Return the size of saddr and daddr together. */
static inline uint32_t fn_packet_addresses_size(uint8_t family)
{
	return family == 4 ? 8 : 32;
}

/* Return the length of the TCP header at *l4*.  Its first 20 bytes are in the packet. */
static inline uint32_t fn_packet_tcp_header(const uint8_t *data, uint32_t l4)
{
	return (uint32_t)(data[l4 + 12] >> 4) * 4;
}

/* Read the key; family and l4 are set, and four bytes are behind l4. */
static inline void fn_packet_read_key(struct fn_view *view, const uint8_t *data)
{
	uint32_t size = fn_packet_addresses_size(view->family);

	fn_bytes_copy(view->key, data + fn_packet_addresses_at(view->family), size);
	fn_bytes_copy(view->key + size, data + view->l4, 4);
	view->key_size = (uint8_t)(size + 4);
}

/* Read the ports behind an IP header that ends at l4 in a packet of *length* bytes. */
static inline void fn_packet_parse_transport(struct fn_view *view, const uint8_t *data, uint32_t length)
{
	uint32_t l4 = view->l4;

	if (length > view->length) {
		view->malformed = FN_REASON_TRUNCATED;
		return;
	}
	if (length < view->length && length < l4) {
		view->malformed = FN_REASON_BAD_HEADER;
		return;
	}
	view->length = length;
	if (view->protocol == FN_TCP) {
		if (length < l4 + 20 || fn_packet_tcp_header(data, l4) < 20 ||
		    fn_packet_tcp_header(data, l4) > length - l4) {
			view->malformed = FN_REASON_BAD_TRANSPORT;
			return;
		}
		view->flags = data[l4 + 13];
	} else if (view->protocol == FN_UDP) {
		if (length < l4 + 8 || fn_bytes_load16(data + l4 + 4) < 8 ||
		    fn_bytes_load16(data + l4 + 4) > length - l4) {
			view->malformed = FN_REASON_BAD_TRANSPORT;
			return;
		}
	} else {
		return;
	}
	fn_packet_read_key(view, data);
	view->divisible = view->family == 4 && length > FN_NEVER_DIVIDED && !(data[6] & 0x40);
}

/*
 * Read a fragment; only the first has ports, and must have the whole transport header.
 *
 * A TCP fragment at offset 8 could overwrite the flags of the first (RFC 1858, section 4.2).
 */
static inline void fn_packet_parse_fragment(struct fn_view *view, const uint8_t *data)
{
	uint32_t l4 = view->l4;
	bool is_tcp = view->protocol == FN_TCP;

	if (view->fragment.offset) {
		if (is_tcp && view->fragment.offset < 20)
			view->malformed = FN_REASON_FRAGMENT_TINY;
		return;
	}
	if (!is_tcp && view->protocol != FN_UDP)
		return;
	if (view->length < l4 + (is_tcp ? 20 : 8)) {
		view->malformed = FN_REASON_FRAGMENT_TINY;
		return;
	}
	if (is_tcp) {
		if (fn_packet_tcp_header(data, l4) < 20 || fn_packet_tcp_header(data, l4) > view->length - l4) {
			view->malformed = FN_REASON_FRAGMENT_TINY;
			return;
		}
		view->flags = data[l4 + 13];
	}
	fn_packet_read_key(view, data);
}

/* Whether IPv4 options send a packet round by way of others (RFC 791, section 3.1). */
static inline bool fn_packet_is_source_routed(const uint8_t *options, uint32_t size)
{
	uint32_t at = 0;

	for (int seen = 0; seen < FN_MAX_OPTIONS && at < size; seen++) {
		if (options[at] == 131 || options[at] == 137)
			return true;
		if (options[at] == 0)
			return false;
		if (options[at] == 1)
			at += 1;
		else if (at + 1 < size && options[at + 1] >= 2)
			at += options[at + 1];
		else
			return false;
	}
	return false;
}

/* Read an IPv4 packet that has options, is a fragment, or is too short for either to be known. */
static inline void fn_packet_parse_ipv4(struct fn_view *view, const uint8_t *data)
{
	struct fn_fragment *fragment = &view->fragment;
	uint32_t l4, length;

	if (view->length < 20) {
		view->malformed = FN_REASON_TRUNCATED;
		return;
	}
	l4 = (data[0] & 0x0FU) * 4;
	length = fn_bytes_load16(data + 2);
	if (l4 < 20 || length < l4) {
		view->malformed = FN_REASON_BAD_HEADER;
		return;
	}
	if (length > view->length) {
		view->malformed = FN_REASON_TRUNCATED;
		return;
	}
	if (fn_packet_is_source_routed(data + 20, l4 - 20)) {
		view->malformed = FN_REASON_SOURCE_ROUTED;
		return;
	}
	view->protocol = data[9];
	view->l4 = l4;
	fragment->offset = (uint16_t)((fn_bytes_load16(data + 6) & 0x1FFF) * 8);
	fragment->more = data[6] & 0x20;
	if (!fragment->offset && !fragment->more) {
		fn_packet_parse_transport(view, data, length);
		return;
	}
	view->length = length;
	fn_bytes_copy(fragment->datagram, data + 12, 8);
	fragment->datagram[8] = data[9];
	fn_bytes_copy(fragment->datagram + 9, data + 4, 2);
	fragment->datagram_size = 11;
	fn_packet_parse_fragment(view, data);
}

/* Read the IPv6 fragment whose fragment header is at *at*, eight bytes of it in the packet. */
static inline void fn_packet_parse_fragment_header(struct fn_view *view, const uint8_t *data, uint32_t at)
{
	struct fn_fragment *fragment = &view->fragment;

	view->protocol = data[at];
	view->l4 = at + 8;
	fragment->offset = fn_bytes_load16(data + at + 2) & 0xFFF8;
	fragment->more = data[at + 3] & 1;
	fragment->header = at;
	fn_bytes_copy(fragment->datagram, data + 8, 32);
	fragment->datagram[32] = data[at];
	fn_bytes_copy(fragment->datagram + 33, data + at + 4, 4);
	fragment->datagram_size = 37;
	fn_packet_parse_fragment(view, data);
}

/* Read an IPv6 packet: its extension headers, and what is behind them. */
static inline void fn_packet_parse_ipv6(struct fn_view *view, const uint8_t *data)
{
	uint32_t l4 = 40, length;
	uint8_t protocol;

	if (view->length < 40) {
		view->malformed = FN_REASON_TRUNCATED;
		return;
	}
	length = 40U + fn_bytes_load16(data + 4);
	if (length > view->length) {
		view->malformed = FN_REASON_TRUNCATED;
		return;
	}
	view->length = length;
	protocol = data[6];
	for (int extension = 0; extension < FN_MAX_EXTENSIONS; extension++) {
		if (protocol != FN_HOP_BY_HOP && protocol != FN_ROUTING && protocol != FN_FRAGMENT &&
		    protocol != FN_DESTINATION) {
			view->protocol = protocol;
			view->l4 = l4;
			fn_packet_parse_transport(view, data, length);
			return;
		}
		if (l4 + 8 > length) {
			view->malformed = FN_REASON_TRUNCATED;
			return;
		}
		if (protocol == FN_FRAGMENT) {
			/* Offset 0 and no more: an atomic fragment (RFC 6946), which is a whole packet. */
			if (fn_bytes_load16(data + l4 + 2) & 0xFFF9) {
				fn_packet_parse_fragment_header(view, data, l4);
				return;
			}
			protocol = data[l4];
			l4 += 8;
			continue;
		}
		if (protocol == FN_ROUTING && data[l4 + 3]) {
			/* Segments left: type 0 is forbidden (RFC 5095), others have a destination to come. */
			view->malformed = FN_REASON_SOURCE_ROUTED;
			return;
		}
		protocol = data[l4];
		l4 += 8 + data[l4 + 1] * 8U;
	}
	view->malformed = FN_REASON_BAD_HEADER;
}

/* Fill *view* from the IP packet of *size* bytes at *data*.  Nothing beyond them is read. */
static inline void fn_packet_parse(struct fn_view *view, const uint8_t *data, uint32_t size)
{
	fn_bytes_clear(view, sizeof(*view));
	view->length = size;
	view->malformed = FN_REASON_NONE;
	if (!size) {
		view->malformed = FN_REASON_TRUNCATED;
		return;
	}
	/* The common case first, in one test: IPv4, no options, no fragment. */
	if (size >= 28 && data[0] == 0x45 && !(fn_bytes_load16(data + 6) & 0x3FFF)) {
		view->family = 4;
		view->protocol = data[9];
		view->l4 = 20;
		fn_packet_parse_transport(view, data, fn_bytes_load16(data + 2));
		return;
	}
	switch (data[0] >> 4) {
	case 4:
		view->family = 4;
		fn_packet_parse_ipv4(view, data);
		return;
	case 6:
		view->family = 6;
		fn_packet_parse_ipv6(view, data);
		return;
	default:
		view->malformed = FN_REASON_BAD_HEADER;
	}
}

/* Write to *reverse* the key of the packets that answer those of *key*; both of *size* bytes. */
static inline void fn_packet_reverse_key(uint8_t *reverse, const uint8_t *key, uint32_t size)
{
	uint32_t half = (size - 4) / 2;

	fn_bytes_copy(reverse, key + half, half);
	fn_bytes_copy(reverse + half, key, half);
	fn_bytes_copy(reverse + 2 * half, key + 2 * half + 2, 2);
	fn_bytes_copy(reverse + 2 * half + 2, key + 2 * half, 2);
}

#endif
