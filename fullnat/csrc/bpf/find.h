// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* Finding the flow of a packet, in the memory the engine keeps it in: see flow_record.h. */
#ifndef FULLNAT_BPF_FIND_H
#define FULLNAT_BPF_FIND_H

#include "../core/fastpath_maps.h"
#include "../core/flow_record.h"
#include "packet.h"

enum { PROBES = 16 };   /* entries looked at: at half full, one search in many thousand wants more */

/* Alone in their section, so that who loads the program finds them at its start. */
const volatile struct fn_fastpath_settings settings SEC(".rodata.settings");

/* The maps; sizes are set by who loads the program. */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct fn_flow_entry);
} entries SEC(".maps");

struct chunk4 {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FN_FLOW_CHUNK);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, FN_FLOW_STRIDE4);
};

struct chunk6 {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FN_FLOW_CHUNK);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, FN_FLOW_STRIDE6);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct chunk4);
} chunks4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct chunk6);
} chunks6 SEC(".maps");

/* A flow that was found. */
struct found {
	struct fn_flow *flow;
	enum fn_direction direction;
	__u32 index;                    /* among those of its family */
	__u32 reference;                /* of its entry: flow, family and direction */
};

static __always_inline struct fn_flow *flow_at(__u8 family, __u32 index)
{
	__u32 chunk = index >> FN_FLOW_CHUNK_BITS, place = index & (FN_FLOW_CHUNK - 1);
	void *flows = family == IPV4 ? bpf_map_lookup_elem(&chunks4, &chunk) : bpf_map_lookup_elem(&chunks6, &chunk);

	return flows ? bpf_map_lookup_elem(flows, &place) : NULL;
}

static __always_inline bool has_key(const struct fn_flow *flow, enum fn_direction direction,
				    const struct packet *packet, __u32 size)
{
	const __u32 *key = (const __u32 *)(flow->keys + (direction == FN_INBOUND ? 0 : size));
	__u32 difference = flow->protocol ^ packet->protocol;

	for (__u32 at = 0; at < size / 4; at++)
		difference |= key[at] ^ packet->key[at];
	return !difference;
}

static __always_inline bool find(const struct packet *packet, __u8 family, struct found *found)
{
	const __u32 size = family == IPV4 ? FN_FLOW_KEY4 : FN_FLOW_KEY6;
	struct fn_hash_key secret = { { settings.hash_key[0], settings.hash_key[1] } };
	__u32 tag = fn_flow_tag(fn_flow_hash(&secret, packet->protocol, (const __u8 *)packet->key, size));

	for (__u32 probe = 0; probe < PROBES; probe++) {
		__u32 at = (tag + probe) & settings.entries_mask, kind;
		const volatile __u64 *place = bpf_map_lookup_elem(&entries, &at);
		struct fn_flow_entry entry;
		__u64 word;

		if (!place)
			return false;
		word = *place;   /* in one step, as it is written */
		__builtin_memcpy(&entry, &word, sizeof(entry));
		if (!entry.reference)
			return false;
		kind = entry.reference >> FN_FLOW_KIND_SHIFT;
		if (entry.tag != tag || kind == FN_FLOW_ONE_PACKET ||
		    !(entry.reference & FN_FLOW_IS_V6) != (family == IPV4))
			continue;
		found->reference = entry.reference;
		found->index = entry.reference & FN_FLOW_INDEX_MASK;
		found->direction = kind == FN_FLOW_INBOUND ? FN_INBOUND : FN_OUTBOUND;
		found->flow = flow_at(family, found->index);
		if (found->flow && has_key(found->flow, found->direction, packet, size))
			return true;
	}
	return false;
}

#endif
