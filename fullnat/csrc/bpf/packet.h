// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* One packet, as the program sees it: its frame and what the headers say. */
#ifndef FULLNAT_BPF_PACKET_H
#define FULLNAT_BPF_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_helpers.h>

#include "../core/packet.h"

enum {
	IPV4 = 4,
	IPV6 = 6,
	MSS_OPTION = 0x0204,     /* kind and length */
	UNKNOWN_MSS = 0xFFFF,
};

/* One packet: what the headers say. */
struct packet {
	__u8 family;
	__u8 protocol;
	__u8 tcp_flags;
	__u32 l4;                       /* offset of the transport header in the frame */
	__u32 length;                   /* of the IP packet */
	__u32 headers;                  /* bytes of it that each segment has */
	__u16 mss;                      /* that a SYN offers: 0 if it has none, UNKNOWN_MSS if it is not where it usually is */
	bool is_divisible;              /* IPv4, DF clear, long enough to be fragmented further on */
	__u32 key[FN_KEY_MAX / 4];
};

/* The frame as far as it has been checked to be there; helpers that change the packet end its validity. */
struct frame {
	__u8 *data;
	__u8 *end;
};

static __always_inline struct frame frame_of(struct __sk_buff *skb)
{
	return (struct frame){ (__u8 *)(long)skb->data, (__u8 *)(long)skb->data_end };
}

/* Make the first *size* bytes of the frame readable, if they are not; false if there are none. */
static __always_inline bool has(struct __sk_buff *skb, struct frame *frame, __u32 size)
{
	if (frame->data + size <= frame->end)
		return true;
	bpf_skb_pull_data(skb, size);   /* if it fails, what there is shows it */
	*frame = frame_of(skb);
	return frame->data + size <= frame->end;
}

/*
 * Read the transport header behind an IP header of *header* bytes, both of fixed size but for TCP's
 * options; false when it is none that can be carried.
 */
static __always_inline bool parse_transport(struct __sk_buff *skb, struct frame *frame, struct packet *packet,
					    const __u32 header)
{
	const __u32 at = ETH_HLEN + header;
	__u32 room = packet->length - header;

	packet->l4 = at;
	if (packet->protocol == FN_UDP) {
		if (room < 8 || !has(skb, frame, at + 8))
			return false;
		packet->headers = header + 8;
		room -= fn_bytes_load16(frame->data + at + 4);   /* negative is huge */
		return fn_bytes_load16(frame->data + at + 4) >= 8 && room <= packet->length;
	}
	if (room < 20 || !has(skb, frame, at + 20))
		return false;
	packet->headers = header + (frame->data[at + 12] >> 4) * 4;
	packet->tcp_flags = frame->data[at + 13];
	if (packet->headers < header + 20 || packet->headers > packet->length)
		return false;
	if (packet->tcp_flags & FN_SYN && packet->headers > header + 20) {
		packet->mss = UNKNOWN_MSS;
		if (has(skb, frame, at + 24) && fn_bytes_load16(frame->data + at + 20) == MSS_OPTION)
			packet->mss = fn_bytes_load16(frame->data + at + 22);
	}
	return true;
}

#endif
