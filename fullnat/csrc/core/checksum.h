// SPDX-License-Identifier: Apache-2.0
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

/* Return the one's complement sum of the 16-bit words at *data* (zero-padded to even). */
static inline uint16_t fn_checksum_ones_sum(const uint8_t *data, uint32_t size)
{
	uint64_t total = 0;   /* of words of 32 bits: modulo 0xffff their halves weigh the same */
	uint32_t at = 0;

	for (; size - at >= 4; at += 4)
		total += fn_bytes_load32(data + at);
	if (size - at >= 2) {
		total += fn_bytes_load16(data + at);
		at += 2;
	}
	if (at < size)
		total += (uint64_t)data[at] << 8;
	return fn_checksum_fold(total);
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
