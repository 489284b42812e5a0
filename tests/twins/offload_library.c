// SPDX-License-Identifier: Apache-2.0
/* offload.h as a library for tests. */
#include "../../fullnat/csrc/core/rewrite.h"
#include "../../fullnat/csrc/native/offload.h"

uint32_t offload_rewrite(const uint8_t *new_key, uint8_t offload, bool local, uint8_t *data, uint32_t size);

/* Rewrite the packet *data* into one of *new_key* and complete it; return where its transport header is. */
uint32_t offload_rewrite(const uint8_t *new_key, uint8_t offload, bool local, uint8_t *data, uint32_t size)
{
	struct fn_rewrite rewrite;
	struct fn_view view;

	fn_packet_parse(&view, data, size);
	fn_rewrite_init(&rewrite, view.key, new_key, view.key_size);
	fn_rewrite_apply(&rewrite, &view, data);
	fn_offload_complete(&view, offload, local, data);
	return view.l4;
}
