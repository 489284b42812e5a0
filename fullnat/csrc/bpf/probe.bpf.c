// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* What this kernel's helper can do: run once on a made-up packet, before the program is loaded. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "../core/fastpath_maps.h"

char _license[] SEC("license") = "GPL";

enum { CHECKSUM_AT = 14 + 40 + 6 };

/* Return whether the checksum helper knows the flag for IPv6. */
SEC("tc")
int probe(struct __sk_buff *skb)
{
	return !bpf_l4_csum_replace(skb, CHECKSUM_AT, 0, 0, BPF_F_PSEUDO_HDR | FN_FASTPATH_IPV6_FLAG);
}
