// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * The fast path: packets of known flows, rewritten and sent on where they come in.
 *
 *     device --ingress--> parse -> find the flow -> route -> rewrite -> neighbour -> device
 *                           |          |              |
 *                           `----------+--------------+--> untouched, up the host's stack: to the
 *                                                          engine by way of NFQUEUE, or to the host
 *
 * Theory.  The engine decides every flow and writes its record; this program only carries packets
 * of flows it finds, and does to them exactly what the engine would.  What is not plain (fragments,
 * options, ICMP, a last hop, too large for the way, a flow to be opened anew) it leaves alone, so that
 * there is one place that knows such things.  It keeps no table of its own and needs nobody to
 * feed it: while flow records are there (fastpath_maps.h, flow_record.h), it goes on.
 *
 * The host's routes and neighbours decide where a packet goes; what they say is asked again and
 * again (way.h).  Netfilter and conntrack do not see what is carried here.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../core/checksum.h"
#include "find.h"
#include "packet.h"
#include "way.h"

char _license[] SEC("license") = "GPL";   /* the route lookup asks for it */

enum {
	PLAIN_HEADER = 0x45,     /* IPv4, no options */
	DF = 0x4000,
	FRAGMENT = 0x3FFF,       /* more to come, or an offset */
};

struct changed {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FN_FLOW_CHUNK / 64);
	__type(key, __u32);
	__type(value, __u64);
};

struct changed changed4 SEC(".maps");
struct changed changed6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fn_traffic);
} servers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fn_fastpath_counts);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fn_fastpath_identity);
} identity SEC(".maps");

static __always_inline int pass(enum fn_fastpath_pass why)
{
	__u32 zero = 0;
	struct fn_fastpath_counts *counted = bpf_map_lookup_elem(&counts, &zero);

	if (counted)
		counted->passed[why]++;
	return TC_ACT_UNSPEC;   /* what else is attached has its turn */
}

/* What a packet does to its flow. */

static __always_inline void mark_changed(__u8 family, __u32 index)
{
	__u32 word = index / 64;
	__u64 *bits = family == IPV4 ? bpf_map_lookup_elem(&changed4, &word) : bpf_map_lookup_elem(&changed6, &word);

	if (bits)
		__sync_fetch_and_or(bits, 1ULL << (index % 64));
}

static __always_inline void follow(const struct packet *packet, __u8 family, const struct found *found, __u64 now)
{
	struct fn_flow *flow = found->flow;
	bool has_changed = false;

	if (packet->protocol != FN_TCP)
		has_changed = fn_flow_follow_udp(flow, found->direction);
	else if (packet->tcp_flags & (FN_SYN | FN_FIN | FN_RST) || fn_flow_read_state(flow) != FN_ESTABLISHED)
		has_changed = fn_flow_follow_tcp(flow, found->direction, packet->tcp_flags);
	flow->last_seen = (__s64)now;
	if (has_changed)
		mark_changed(family, found->index);
}

/* Count for flow, server and program: packets as they are on the wire, a GSO packet as its segments. */
static __always_inline void count(const struct __sk_buff *skb, const struct packet *packet, const struct found *found)
{
	__u64 packets = skb->gso_segs ? skb->gso_segs : 1;
	__u64 bytes = packet->length + (packets - 1) * packet->headers;
	__u32 server = found->flow->counter, zero = 0;
	struct fn_traffic *traffic = bpf_map_lookup_elem(&servers, &server);
	struct fn_fastpath_counts *counted = bpf_map_lookup_elem(&counts, &zero);
	__u32 direction = found->direction == FN_INBOUND ? FN_INBOUND : FN_OUTBOUND;

	fn_flow_count(found->flow, direction, packets, bytes);
	if (traffic) {
		traffic->packets[direction] += packets;
		traffic->bytes[direction] += bytes;
	}
	if (counted)
		counted->forwarded[direction] += packets;
}

/* Changing the packet. */

/* Return a difference() as the kernel's helpers add it: in the order of the bytes in memory. */
static __always_inline __u64 as_sum(__u16 difference)
{
	return bpf_htons(difference);
}

/* Return the difference of the ports alone. */
static __always_inline __u16 ports_delta(__u16 transport_delta, __u16 ip_delta)
{
	return fn_checksum_fold((__u64)transport_delta + (ip_delta ^ 0xFFFF));
}

/*
 * Bring the transport checksum up to date.  The kernel knows what stands in it: where a device is
 * to finish it, only the addresses are part of it yet, and ports must be left out.
 */
static __always_inline void update_transport_checksum(struct __sk_buff *skb, const struct packet *packet, __u8 family,
						      __u16 ip_delta, __u16 transport_delta)
{
	__u32 at = packet->l4 + (packet->protocol == FN_TCP ? 16 : 6);
	__u64 flags = packet->protocol == FN_TCP ? 0 : BPF_F_MARK_MANGLED_0;

	bpf_l4_csum_replace(skb, at, 0, as_sum(ip_delta),
			    flags | BPF_F_PSEUDO_HDR | (family == IPV4 ? 0 : settings.ipv6_flag));
	bpf_l4_csum_replace(skb, at, 0, as_sum(ports_delta(transport_delta, ip_delta)), flags);
}

/*
 * Bring the sum of the whole packet up to date, which some devices supply.  An IPv4 header balances
 * its own changes, an IPv6 one has no checksum.  A kernel without the flag took it for the former.
 */
static __always_inline void update_packet_sum(struct __sk_buff *skb, __u16 ip_delta)
{
	__u32 hop = 0xFFFF - 1;   /* the hop limit is the lower byte */

	bpf_csum_update(skb, as_sum(fn_checksum_fold(settings.ipv6_flag ? hop : hop + ip_delta)));
}

/* Set *key* to that of the packet as it will be: its flow's other one, turned round. */
static __always_inline void new_key(const struct found *found, __u8 family, __u32 *key)
{
	const __u32 size = family == IPV4 ? FN_FLOW_KEY4 : FN_FLOW_KEY6, half = (size - 4) / 2 / 4;
	const __u32 *back = (const __u32 *)(found->flow->keys + (found->direction == FN_INBOUND ? size : 0));
	__u32 ports = back[2 * half];

	for (__u32 at = 0; at < half; at++) {
		key[at] = back[half + at];
		key[half + at] = back[at];
	}
	key[2 * half] = ports << 16 | ports >> 16;
}

/*
 * Send the packet on in its flow.  *addresses* points to saddr in the frame, *ttl* to TTL or hop
 * limit, *check* to the checksum of the IPv4 header.
 */
static __always_inline int carry(struct __sk_buff *skb, const struct packet *packet, __u8 family,
				 __u32 *addresses, __u8 *ttl, __u8 *check)
{
	const __u32 words = (family == IPV4 ? FN_FLOW_KEY4 : FN_FLOW_KEY6) / 4;
	__u16 ip_delta, transport_delta;
	__u64 now = bpf_ktime_get_coarse_ns();
	__u32 key[FN_KEY_MAX / 4];
	enum fn_fastpath_pass why;
	struct found found;
	struct way way = {};

	if (!find(packet, family, &found) || !found.flow->counter)
		return pass(FN_PASS_UNKNOWN);
	if (packet->protocol == FN_TCP && fn_flow_is_reopened(found.flow, found.direction, packet->tcp_flags))
		return pass(FN_PASS_REOPENED);
	if (packet->tcp_flags & FN_SYN && packet->mss > found.flow->mss)
		return pass(FN_PASS_SEGMENT_SIZE);
	if (packet->is_divisible)
		return pass(FN_PASS_DIVISIBLE);
	new_key(&found, family, key);
	why = find_way(skb, packet, family, &found, key, now, &way);
	if (why != FN_FASTPATH_PASSES)
		return pass(why);
	follow(packet, family, &found, now);
	count(skb, packet, &found);
	ip_delta = found.flow->ip_delta[found.direction == FN_INBOUND ? 0 : 1];
	transport_delta = found.flow->transport_delta[found.direction == FN_INBOUND ? 0 : 1];
	for (__u32 at = 0; at < words; at++)
		addresses[at] = key[at];
	*ttl -= 1;
	if (family == IPV4) {
		__u16 sum = fn_checksum_update(fn_bytes_load16(check), ip_delta);

		fn_bytes_store16(check, fn_checksum_update(sum, 0xFFFF - 0x0100));   /* TTL is the upper byte */
	}
	update_transport_checksum(skb, packet, family, ip_delta, transport_delta);
	if (family == IPV6)
		update_packet_sum(skb, ip_delta);
	return send_on(skb, &way);
}

/* Parsing. */

static __always_inline int carry_ipv4(struct __sk_buff *skb)
{
	const __u32 header = sizeof(struct iphdr), ports = ETH_HLEN + header;
	struct packet packet = { .family = IPV4 };
	struct frame frame = frame_of(skb);
	__u8 *ip;

	if (!has(skb, &frame, ports))
		return pass(FN_PASS_UNTRANSLATED);
	ip = frame.data + ETH_HLEN;
	packet.protocol = ip[9];
	packet.length = fn_bytes_load16(ip + 2);
	if (ip[0] != PLAIN_HEADER || fn_bytes_load16(ip + 6) & FRAGMENT ||
	    (packet.protocol != FN_TCP && packet.protocol != FN_UDP) || packet.length < header ||
	    packet.length + ETH_HLEN > skb->len || !parse_transport(skb, &frame, &packet, header))
		return pass(FN_PASS_UNTRANSLATED);
	if (!has(skb, &frame, ports + 4))
		return pass(FN_PASS_UNTRANSLATED);
	ip = frame.data + ETH_HLEN;
	if (ip[8] <= 1)
		return pass(FN_PASS_EXPIRED);
	packet.is_divisible = packet.length > FN_NEVER_DIVIDED && !(fn_bytes_load16(ip + 6) & DF);
	/* With no options between, addresses and ports are the key as they stand. */
	__builtin_memcpy(packet.key, ip + 12, FN_FLOW_KEY4);
	return carry(skb, &packet, IPV4, (__u32 *)(ip + 12), ip + 8, ip + 10);
}

static __always_inline int carry_ipv6(struct __sk_buff *skb)
{
	const __u32 header = sizeof(struct ipv6hdr), ports = ETH_HLEN + header;
	struct packet packet = { .family = IPV6 };
	struct frame frame = frame_of(skb);
	__u8 *ip;

	if (!has(skb, &frame, ports))
		return pass(FN_PASS_UNTRANSLATED);
	ip = frame.data + ETH_HLEN;
	packet.protocol = ip[6];
	packet.length = header + fn_bytes_load16(ip + 4);
	if (ip[0] >> 4 != IPV6 || (packet.protocol != FN_TCP && packet.protocol != FN_UDP) ||
	    packet.length + ETH_HLEN > skb->len || !parse_transport(skb, &frame, &packet, header))
		return pass(FN_PASS_UNTRANSLATED);
	if (!has(skb, &frame, ports + 4))
		return pass(FN_PASS_UNTRANSLATED);
	ip = frame.data + ETH_HLEN;
	if (ip[7] <= 1)
		return pass(FN_PASS_EXPIRED);
	__builtin_memcpy(packet.key, ip + 8, FN_FLOW_KEY6);
	return carry(skb, &packet, IPV6, (__u32 *)(ip + 8), ip + 7, NULL);
}

SEC("tc")
int fullnat(struct __sk_buff *skb)
{
	/* What is tagged belongs to a device above this one, and what is not for us to whom it is for. */
	if (skb->vlan_present || skb->pkt_type != PACKET_HOST)
		return TC_ACT_UNSPEC;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return carry_ipv4(skb);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return carry_ipv6(skb);
	return TC_ACT_UNSPEC;
}
