// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * The Internet checksum: the sum of RFC 1071 and the incremental update of RFC 1624.
 *
 * All functions work on numbers and bytes in network order and know nothing of headers.  The
 * theory, and why 0 is written as 0xffff, is told in the twin, fullnat/core/checksum.py.
 */
#ifndef FULLNAT_CORE_CHECKSUM_H
#define FULLNAT_CORE_CHECKSUM_H

#include "bytes.h"

/* Return *total* folded to 16 bits, the carries added back in: 0 only if *total* is 0. */
static inline uint16_t fn_checksum_fold(uint64_t total)
{
	total = (total & 0xFFFFFFFF) + (total >> 32);   /* at most 33 bits */
	total = (total & 0xFFFF) + (total >> 16);       /* at most 18 */
	total = (total & 0xFFFF) + (total >> 16);       /* at most 17 */
	return (uint16_t)((total & 0xFFFF) + (total >> 16));
}

/* Return the *size* bytes at *at*, at most eight, as a number in the order of this machine. */
static inline uint64_t fn_checksum_load(const uint8_t *at, uint32_t size)
{
	uint64_t word = 0;

	fn_bytes_copy((uint8_t *)&word, at, size);
	return word;
}

/* Return the sum of two numbers with the carry added back in. */
static inline uint64_t fn_checksum_add(uint64_t one, uint64_t other)
{
	one += other;
	return one + (one < other);
}

/*
 * Return the one's complement sum of the 16-bit words at *data* (zero-padded to even).
 *
 * It does not matter in which byte order words are added, as long as the sum is read in the same
 * (RFC 1071, section 2.B), nor in which pieces.  Four sums at a time: an addition waits for the
 * carry of the one before it.
 */
static inline uint16_t fn_checksum_ones_sum(const uint8_t *data, uint32_t size)
{
	uint64_t total = 0, second = 0, third = 0, fourth = 0;
	uint32_t at = 0;
	uint16_t sum;

	for (; size - at >= 32; at += 32) {
		total = fn_checksum_add(total, fn_checksum_load(data + at, 8));
		second = fn_checksum_add(second, fn_checksum_load(data + at + 8, 8));
		third = fn_checksum_add(third, fn_checksum_load(data + at + 16, 8));
		fourth = fn_checksum_add(fourth, fn_checksum_load(data + at + 24, 8));
	}
	total = fn_checksum_add(fn_checksum_add(total, second), fn_checksum_add(third, fourth));
	for (; size - at >= 8; at += 8)
		total = fn_checksum_add(total, fn_checksum_load(data + at, 8));
	if (size & 4) {
		total = fn_checksum_add(total, fn_checksum_load(data + at, 4));
		at += 4;
	}
	if (size & 2) {
		total = fn_checksum_add(total, fn_checksum_load(data + at, 2));
		at += 2;
	}
	if (size & 1)
		total = fn_checksum_add(total, fn_checksum_load(data + at, 1));
	sum = fn_checksum_fold(total);
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap16(sum) : sum;
}

/*
 * Return the checksum of parts laid end to end, given the sum of their ones_sum(); all but the
 * last must be of even length.
 */
static inline uint16_t fn_checksum_of(uint64_t sums)
{
	return (uint16_t)(0xFFFF - fn_checksum_fold(sums));
}

/* Return what replacing *old* by *new* adds to a one's complement sum: 0..0xfffe.  *size* is even. */
static inline uint16_t fn_checksum_difference(const uint8_t *old, const uint8_t *new, uint32_t size)
{
	uint32_t total = fn_checksum_ones_sum(new, size) + 0xFFFFU - fn_checksum_ones_sum(old, size);

	return (uint16_t)(total % 0xFFFF);
}

/*
 * Return *check* after a change whose difference() is *delta* (RFC 1624, equation 3).
 *
 * A wrong checksum stays wrong by the same amount: the receiver, not we, must notice it.
 */
static inline uint16_t fn_checksum_update(uint16_t check, uint16_t delta)
{
	uint32_t total = (uint32_t)(check ^ 0xFFFF) + delta;

	return (uint16_t)((total & 0xFFFF) + (total >> 16)) ^ 0xFFFF;
}

#endif
