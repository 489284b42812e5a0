// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Ways: through which device a packet leaves, and to which neighbour.
 *
 *     packet -> kept way of its flow, fresh and wide enough? -> its Ethernet header, its device
 *                    |
 *                    `-> the host's routes, policy and neighbours, asked anew -> kept for the next
 *
 * Theory.  The host decides where packets go.  Asking it is the largest part of a packet's work
 * here, so each CPU keeps the answer for a flow and direction, for WAY_LIFETIME: a change of routes,
 * neighbours or devices takes effect that much later, as if packets had been under way for so long.
 *
 * The packet that asks goes through bpf_redirect_neigh(), which resolves the neighbour and, being
 * asked again every WAY_LIFETIME, keeps finding out whether it is still there.  So only what a
 * neighbour already has an address for is kept.
 */
#ifndef FULLNAT_BPF_WAY_H
#define FULLNAT_BPF_WAY_H

#include <linux/pkt_cls.h>

#include "find.h"

enum {
	WAY_LIFETIME = 10 * 1000 * 1000,   /* ns: less than a client waits before it sends again */
	WAYS = 4096,                       /* a power of 2: flows that one CPU carries at the same time */
	ADDRESS_FAMILY_IPV4 = 2,           /* AF_INET */
	ADDRESS_FAMILY_IPV6 = 10,          /* AF_INET6 */
};

/* What was found for a flow and direction: whole cache lines of one CPU. */
struct kept_way {
	__u64 until;             /* bpf_ktime_get_coarse_ns() */
	__s64 created;           /* of the flow: its place may have another by now */
	__u32 reference;         /* of the entry: flow, family and direction */
	__u32 from;              /* ifindex, which rules may ask for */
	__u32 device;
	__u32 mtu;
	__u32 header[2 * ETH_ALEN / 4];   /* destination and source */
} __attribute__((aligned(64)));

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WAYS);
	__type(key, __u32);
	__type(value, struct kept_way);
} ways SEC(".maps");

/* Where a packet goes out, and to which neighbour. */
struct way {
	const struct kept_way *kept;           /* NULL: by *device* and *neighbour* */
	__u32 device;
	struct bpf_redir_neigh neighbour;
};

static __always_inline struct kept_way *place_of_way(__u32 reference)
{
	/* Neighbouring flows, and the two directions of each, have places of their own. */
	__u32 place = (reference << 1 | reference >> FN_FLOW_KIND_SHIFT >> 1) & (WAYS - 1);

	return bpf_map_lookup_elem(&ways, &place);
}

/* Whether what is kept holds for a packet of *length* bytes that came in through device *from* at *now*. */
static __always_inline bool is_way_of(const struct kept_way *kept, const struct found *found, __u32 from,
				      __u32 length, __u64 now)
{
	return kept->until > now && kept->reference == found->reference && kept->created == found->flow->created &&
	       kept->from == from && length <= kept->mtu;
}

static __always_inline void keep_way(struct kept_way *kept, const struct found *found, __u32 from,
				     const struct bpf_fib_lookup *fib, __u64 now)
{
	kept->until = now + WAY_LIFETIME;
	kept->created = found->flow->created;
	kept->reference = found->reference;
	kept->from = from;
	kept->device = fib->ifindex;
	kept->mtu = fib->mtu_result;   /* an old kernel leaves the length that stood there, which fits too */
	__builtin_memcpy(kept->header, fib->dmac, ETH_ALEN);
	__builtin_memcpy((__u8 *)kept->header + ETH_ALEN, fib->smac, ETH_ALEN);
}

/* Whether the lookup found an Ethernet neighbour: on devices without addresses it finds zeros. */
static __always_inline bool has_neighbour(const struct bpf_fib_lookup *fib)
{
	return fib->dmac[0] | fib->dmac[1] | fib->dmac[2] | fib->dmac[3] | fib->dmac[4] | fib->dmac[5];
}

static __always_inline enum fn_fastpath_pass ask_for_way(struct __sk_buff *skb, const struct packet *packet,
							 __u8 family, const __u32 *key, __u32 length,
							 struct bpf_fib_lookup *fib)
{
	fib->family = family == IPV4 ? ADDRESS_FAMILY_IPV4 : ADDRESS_FAMILY_IPV6;
	fib->l4_protocol = packet->protocol;
	fib->tot_len = length;
	fib->ifindex = skb->ifindex;
	if (family == IPV4) {
		fib->ipv4_src = key[0];
		fib->ipv4_dst = key[1];
		__builtin_memcpy(&fib->sport, &key[2], 4);
	} else {
		__builtin_memcpy(fib->ipv6_src, &key[0], 16);
		__builtin_memcpy(fib->ipv6_dst, &key[4], 16);
		__builtin_memcpy(&fib->sport, &key[8], 4);
	}
	switch (bpf_fib_lookup(skb, fib, sizeof(*fib), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return FN_FASTPATH_PASSES;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return FN_PASS_TOO_BIG;
	default:
		return FN_PASS_UNROUTED;
	}
}

/*
 * Find the way of the packet as it will be, whose key is *key*; return FN_FASTPATH_PASSES, or
 * why it is to be left alone.
 */
static __always_inline enum fn_fastpath_pass find_way(struct __sk_buff *skb, const struct packet *packet,
						      __u8 family, const struct found *found, const __u32 *key,
						      __u64 now, struct way *way)
{
	__u32 length = skb->gso_size ? packet->headers + skb->gso_size : packet->length;
	struct kept_way *kept = place_of_way(found->reference);
	struct bpf_fib_lookup fib = {};
	enum fn_fastpath_pass why;

	if (kept && is_way_of(kept, found, skb->ifindex, length, now)) {
		way->kept = kept;
		return FN_FASTPATH_PASSES;
	}
	why = ask_for_way(skb, packet, family, key, length, &fib);
	if (why != FN_FASTPATH_PASSES)
		return why;
	if (kept && settings.keeps_ways && has_neighbour(&fib))
		keep_way(kept, found, skb->ifindex, &fib, now);
	way->device = fib.ifindex;
	way->neighbour.nh_family = fib.family;
	if (fib.family == ADDRESS_FAMILY_IPV4)
		way->neighbour.ipv4_nh = fib.ipv4_dst;
	else
		__builtin_memcpy(way->neighbour.ipv6_nh, fib.ipv6_dst, 16);
	return FN_FASTPATH_PASSES;
}

/* Send the frame on its way. */
static __always_inline int send_on(struct __sk_buff *skb, const struct way *way)
{
	__u32 *frame;

	if (!way->kept)
		return bpf_redirect_neigh(way->device, (struct bpf_redir_neigh *)&way->neighbour, sizeof(way->neighbour), 0);
	frame = (__u32 *)(long)skb->data;
	if (frame + 3 > (__u32 *)(long)skb->data_end)
		return TC_ACT_SHOT;   /* never: the verifier cannot know that the headers have been read */
	for (__u32 at = 0; at < 3; at++)
		frame[at] = way->kept->header[at];
	return bpf_redirect(way->kept->device, 0);
}

#endif
