// SPDX-License-Identifier: Apache-2.0
/* Thin wrappers: the core is inline, and only what has a symbol can be called from outside. */
#include "core_library.h"

uint16_t core_ones_sum(const uint8_t *data, uint32_t size)
{
	return fn_checksum_ones_sum(data, size);
}

uint16_t core_checksum(const uint8_t *head, uint32_t head_size, const uint8_t *tail, uint32_t tail_size)
{
	return fn_checksum_of((uint64_t)fn_checksum_ones_sum(head, head_size) +
			      fn_checksum_ones_sum(tail, tail_size));
}

uint16_t core_difference(const uint8_t *old, const uint8_t *new, uint32_t size)
{
	return fn_checksum_difference(old, new, size);
}

uint16_t core_update(uint16_t check, uint16_t delta)
{
	return fn_checksum_update(check, delta);
}

uint32_t core_reasons(void)
{
	return FN_REASONS;
}

uint32_t core_reason_verdict(uint32_t reason)
{
	return fn_reason_verdict[reason];
}

uint32_t core_next_state(uint32_t state, uint8_t flags, bool inbound)
{
	return fn_tcp_next_state((enum fn_tcp_state)state, flags, inbound);
}

bool core_is_opening_syn(uint8_t flags)
{
	return fn_tcp_is_opening_syn(flags);
}

bool core_is_reopenable(uint32_t state)
{
	return fn_tcp_is_reopenable((enum fn_tcp_state)state);
}

uint32_t core_state_timeout(uint32_t state)
{
	return fn_tcp_state_timeout((enum fn_tcp_state)state);
}

uint32_t core_view_size(void)
{
	return sizeof(struct fn_view);
}

void core_parse(const uint8_t *data, uint32_t size, struct fn_view *view)
{
	fn_packet_parse(view, data, size);
}

void core_reverse_key(uint8_t *reverse, const uint8_t *key, uint32_t size)
{
	fn_packet_reverse_key(reverse, key, size);
}

void core_apply(const uint8_t *old, const uint8_t *new, uint32_t size, const struct fn_view *view,
		uint8_t *data)
{
	struct fn_rewrite rewrite;

	fn_rewrite_init(&rewrite, old, new, size);
	fn_rewrite_apply(&rewrite, view, data);
}

void core_apply_addresses(const uint8_t *old, const uint8_t *new, uint32_t size, const struct fn_view *view,
			  uint8_t *data)
{
	struct fn_rewrite rewrite;

	fn_rewrite_init(&rewrite, old, new, size);
	fn_rewrite_apply_addresses(&rewrite, view, data);
}

void core_clamp_mss(const struct fn_view *view, uint8_t *data, uint32_t limit)
{
	fn_rewrite_clamp_mss(view, data, limit);
}

void core_identify(const struct fn_view *view, uint8_t *data, uint32_t identification)
{
	fn_rewrite_identify(view, data, identification);
}

bool core_is_error(const struct fn_view *view, const uint8_t *data)
{
	return fn_icmp_is_error(view, data);
}

bool core_is_unwanted(const struct fn_view *view, const uint8_t *data)
{
	return fn_icmp_is_unwanted(view, data);
}

bool core_is_echo_request(const struct fn_view *view, const uint8_t *data)
{
	return fn_icmp_is_echo_request(view, data);
}

uint32_t core_quoted_size(void)
{
	return sizeof(struct fn_quoted);
}

uint32_t core_parse_error(const struct fn_view *view, const uint8_t *data, struct fn_quoted *quoted)
{
	return fn_icmp_parse_error(view, data, quoted);
}

void core_relay_error(const struct fn_view *view, const struct fn_quoted *quoted, const uint8_t *new_key,
		      uint8_t *data)
{
	fn_icmp_relay_error(view, quoted, new_key, data);
}

uint32_t core_build_echo_reply(const struct fn_view *view, const uint8_t *data, uint8_t *out)
{
	return fn_icmp_build_echo_reply(view, data, out);
}

uint32_t core_build_unreachable(const struct fn_view *view, const uint8_t *data, uint8_t type, uint8_t code,
				uint8_t *out)
{
	return fn_icmp_build_unreachable(view, data, type, code, out);
}

uint32_t core_build_reset(const struct fn_view *view, const uint8_t *data, uint8_t *out)
{
	return fn_icmp_build_reset(view, data, out);
}
