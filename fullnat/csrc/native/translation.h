// SPDX-License-Identifier: Apache-2.0
/*
 * A translation: everything that is to be changed in one packet.
 *
 * What in Python is a rewrite wrapped in others (ClampMss, Identify, RelayError) is here one plain
 * value that outlives the flow it came from, so that an engine may apply it after it has let go of
 * the director's lock.
 */
#ifndef FULLNAT_NATIVE_TRANSLATION_H
#define FULLNAT_NATIVE_TRANSLATION_H

#include "../core/icmp.h"
#include "../core/rewrite.h"

enum fn_translation_kind {
	FN_TRANSLATE_ALL,         /* addresses, ports, checksums */
	FN_TRANSLATE_ADDRESSES,   /* a later fragment */
	FN_TRANSLATE_ERROR,       /* an ICMP error, and the packet it quotes */
};

struct fn_translation {
	struct fn_rewrite rewrite;
	uint8_t kind;
	bool identify;             /* give it the identification below */
	uint16_t mss;              /* not to be exceeded by a SYN; 0: leave it */
	uint32_t identification;
};

/* Change the packet *data* that *view* was parsed from, where it lies. */
static inline void fn_translation_apply(const struct fn_translation *translation, const struct fn_view *view,
					uint8_t *data)
{
	struct fn_quoted quoted;

	switch (translation->kind) {
	case FN_TRANSLATE_ALL:
		fn_rewrite_apply(&translation->rewrite, view, data);
		break;
	case FN_TRANSLATE_ADDRESSES:
		fn_rewrite_apply_addresses(&translation->rewrite, view, data);
		break;
	case FN_TRANSLATE_ERROR:
		/* Found once when it was decided; rare enough to be found again rather than kept. */
		if (fn_icmp_parse_error(view, data, &quoted) == FN_REASON_NONE)
			fn_icmp_relay_error(view, &quoted, translation->rewrite.new_key, data);
		return;
	}
	if (translation->mss)
		fn_rewrite_clamp_mss(view, data, translation->mss);
	if (translation->identify)
		fn_rewrite_identify(view, data, translation->identification);
}

#endif
