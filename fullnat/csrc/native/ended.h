// SPDX-License-Identifier: Apache-2.0
/*
 * TCP flows that were ended on request, remembered for a moment so that both ends can be told.
 *
 * Twin of fullnat/core/ended.py, which has the theory and the rules.
 */
#ifndef FULLNAT_NATIVE_ENDED_H
#define FULLNAT_NATIVE_ENDED_H

#include <stdbool.h>

#include "../core/flow_record.h"

enum { FN_ENDED_LIMIT = 1 << 18 };   /* keys, two a flow */

struct fn_ended_table;

/* Return an empty table for at most *limit* keys, of which the kernel backs what is used, or NULL. */
struct fn_ended_table *fn_ended_table_create(uint32_t limit, const struct fn_hash_key *key);
void fn_ended_table_destroy(struct fn_ended_table *table);
uint32_t fn_ended_table_count(const struct fn_ended_table *table);

/* Remember *flow*, which is TCP. */
void fn_ended_table_add(struct fn_ended_table *table, const struct fn_flow *flow, int64_t now);
/* Whether *key* is of a flow here; *is_first* says that no packet with it was answered before. */
bool fn_ended_table_tell(struct fn_ended_table *table, const uint8_t *key, uint32_t key_size, int64_t now,
			 bool *is_first);
/* Forget those whose time is up. */
void fn_ended_table_expire(struct fn_ended_table *table, int64_t now);

#endif
