// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * What the program in the kernel and the engine have in common beside flow records: the maps.
 *
 * A change to any of this, or to flow_record.h, is another layout: raise FN_FASTPATH_LAYOUT, so that
 * an engine does not take over maps that mean something else to it.
 */
#ifndef FULLNAT_CORE_FASTPATH_MAPS_H
#define FULLNAT_CORE_FASTPATH_MAPS_H

#include <stdint.h>

#define FN_FASTPATH_LAYOUT 1

/* A flag of helpers that not every kernel has, from linux/bpf.h, which where this is built may be older. */
#define FN_FASTPATH_IPV6_FLAG 0x80UL      /* BPF_F_IPV6: Linux 6.16 */

/* Why the program left a packet to the engine, or to the host. */
enum fn_fastpath_pass {
	FN_PASS_UNTRANSLATED,    /* neither TCP nor UDP, or a tag, options, extension headers, a fragment */
	FN_PASS_UNKNOWN,         /* of no flow the program may carry */
	FN_PASS_REOPENED,        /* a SYN that opens a closed flow anew */
	FN_PASS_DIVISIBLE,       /* may be fragmented further on, and needs an identification */
	FN_PASS_SEGMENT_SIZE,    /* a SYN whose MSS may be too large */
	FN_PASS_EXPIRED,         /* TTL or hop limit 1: an ICMP error is due */
	FN_PASS_TOO_BIG,         /* for the path: an ICMP error or fragments are due */
	FN_PASS_UNROUTED,        /* no way out, or to this host itself */
	FN_FASTPATH_PASSES,
};

/* What the maps were made for: the one value of the map `identity`, which only engines read. */
struct fn_fastpath_identity {
	uint32_t layout;         /* FN_FASTPATH_LAYOUT */
	uint32_t limit;          /* flows */
	uint8_t hash_key[16];    /* by which flows are found */
};

/* What is told to the program when it is loaded, and frozen then. */
struct fn_fastpath_settings {
	uint64_t hash_key[2];
	uint64_t ipv6_flag;      /* BPF_F_IPV6 where the kernel has it */
	uint32_t entries_mask;   /* entries less one */
	uint32_t keeps_ways;     /* whether all devices have addresses of Ethernet's length */
};

/* What a server's counters have, on each CPU. */
struct fn_traffic {
	uint64_t packets[2];     /* by enum fn_direction */
	uint64_t bytes[2];
};

/* What became of packets, on each CPU: the one value of the map `counts`. */
struct fn_fastpath_counts {
	uint64_t forwarded[2];   /* by enum fn_direction */
	uint64_t passed[FN_FASTPATH_PASSES];
};

#endif
