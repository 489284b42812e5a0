// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * SipHash-1-3: the keyed hash of every table an outsider can put keys into.
 *
 * Who does not know the key cannot choose addresses and ports that meet in one place, so a table
 * stays as fast under attack as at rest.  One compression round and three to finish, as the hash
 * tables of several languages have it; the two and four of the original are for authentication.
 * Without a twin: dictionaries in Python are keyed already.
 * Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012.
 */
#ifndef FULLNAT_CORE_HASH_H
#define FULLNAT_CORE_HASH_H

#include "bytes.h"

struct fn_hash_key {
	uint64_t words[2];
};

struct fn_hash_state {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t fn_hash_rotate(uint64_t value, unsigned int bits)
{
	return value << bits | value >> (64 - bits);
}

static inline void fn_hash_round(struct fn_hash_state *s)
{
	s->v0 += s->v1;
	s->v1 = fn_hash_rotate(s->v1, 13) ^ s->v0;
	s->v0 = fn_hash_rotate(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = fn_hash_rotate(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = fn_hash_rotate(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = fn_hash_rotate(s->v1, 17) ^ s->v2;
	s->v2 = fn_hash_rotate(s->v2, 32);
}

static inline void fn_hash_absorb(struct fn_hash_state *s, uint64_t word)
{
	s->v3 ^= word;
	fn_hash_round(s);
	s->v0 ^= word;
}

/* Return the hash of the *size* bytes at *data*, a multiple of 4, and of *salt*. */
static inline uint64_t fn_hash(const struct fn_hash_key *key, const uint8_t *data, uint32_t size, uint32_t salt)
{
	struct fn_hash_state s = {
		key->words[0] ^ 0x736f6d6570736575U, key->words[1] ^ 0x646f72616e646f6dU,
		key->words[0] ^ 0x6c7967656e657261U, key->words[1] ^ 0x7465646279746573U,
	};
	uint32_t at = 0, rest = 0;
	uint64_t word;

	for (; size - at >= 8; at += 8) {
		fn_bytes_copy((uint8_t *)&word, data + at, 8);
		fn_hash_absorb(&s, word);
	}
	if (at < size)
		fn_bytes_copy((uint8_t *)&rest, data + at, 4);
	/* The salt stands where the original has the length: here lengths differ by family, and so do tables. */
	fn_hash_absorb(&s, (uint64_t)salt << 32 | rest);
	s.v2 ^= 0xff;
	fn_hash_round(&s);
	fn_hash_round(&s);
	fn_hash_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

#endif
