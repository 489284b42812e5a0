// SPDX-License-Identifier: Apache-2.0
/* The functions of fullnat/csrc/core/ under names that a test can call. */
#ifndef CORE_LIBRARY_H
#define CORE_LIBRARY_H

#include "icmp.h"
#include "tcp.h"

uint16_t core_ones_sum(const uint8_t *data, uint32_t size);
uint16_t core_checksum(const uint8_t *head, uint32_t head_size, const uint8_t *tail, uint32_t tail_size);
uint16_t core_difference(const uint8_t *old, const uint8_t *new, uint32_t size);
uint16_t core_update(uint16_t check, uint16_t delta);

uint32_t core_reasons(void);
uint32_t core_reason_verdict(uint32_t reason);

uint32_t core_next_state(uint32_t state, uint8_t flags, bool inbound);
bool core_is_opening_syn(uint8_t flags);
bool core_is_reopenable(uint32_t state);
uint32_t core_state_timeout(uint32_t state);

uint32_t core_view_size(void);
void core_parse(const uint8_t *data, uint32_t size, struct fn_view *view);
void core_reverse_key(uint8_t *reverse, const uint8_t *key, uint32_t size);

void core_apply(const uint8_t *old, const uint8_t *new, uint32_t size, const struct fn_view *view,
		uint8_t *data);
void core_apply_addresses(const uint8_t *old, const uint8_t *new, uint32_t size, const struct fn_view *view,
			  uint8_t *data);
void core_clamp_mss(const struct fn_view *view, uint8_t *data, uint32_t limit);
void core_identify(const struct fn_view *view, uint8_t *data, uint32_t identification);

bool core_is_error(const struct fn_view *view, const uint8_t *data);
bool core_is_unwanted(const struct fn_view *view, const uint8_t *data);
bool core_is_echo_request(const struct fn_view *view, const uint8_t *data);
uint32_t core_quoted_size(void);
uint32_t core_parse_error(const struct fn_view *view, const uint8_t *data, struct fn_quoted *quoted);
void core_relay_error(const struct fn_view *view, const struct fn_quoted *quoted, const uint8_t *new_key,
		      uint8_t *data);
uint32_t core_build_echo_reply(const struct fn_view *view, const uint8_t *data, uint8_t *out);
uint32_t core_build_unreachable(const struct fn_view *view, const uint8_t *data, uint8_t type, uint8_t code,
				uint8_t *out);
uint32_t core_build_reset(const struct fn_view *view, const uint8_t *data, uint8_t *out);

#endif
