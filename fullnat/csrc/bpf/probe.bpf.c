// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* What this kernel's helpers can do: run once on a made-up packet, before the program is loaded. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "../core/fastpath_maps.h"

char _license[] SEC("license") = "GPL";

enum { CHECKSUM_AT = 14 + 40 + 6, ADDRESS_FAMILY_IPV6 = 10, LOOPBACK = 1, EINVAL = 22 };

/* Return the capabilities as a set of enum fn_fastpath_capability. */
SEC("tc")
int probe(struct __sk_buff *skb)
{
	struct bpf_fib_lookup fib = { .family = ADDRESS_FAMILY_IPV6, .ifindex = LOOPBACK };
	int found = 0;

	if (!bpf_l4_csum_replace(skb, CHECKSUM_AT, 0, 0, BPF_F_PSEUDO_HDR | FN_FASTPATH_IPV6_FLAG))
		found |= FN_FASTPATH_HAS_IPV6_FLAG;
	if (bpf_fib_lookup(skb, &fib, sizeof(fib), FN_FASTPATH_SKIP_NEIGHBOUR) != -EINVAL)
		found |= FN_FASTPATH_HAS_SKIP_NEIGHBOUR;
	return found;
}
