// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Numbers and bytes as they stand in a packet: network order, any alignment.
 *
 * The only file here without a twin: Python slices.  Included by all the others.
 *
 * Rules of this folder.  Freestanding C11: no libc but memcpy and memset, which every compiler
 * provides or inlines, no allocation, no floating point, no recursion, and every loop has a bound
 * that can be read off it, so that the same text can also be compiled for BPF.  Each file is the
 * twin of the module of its name in fullnat/core/ and decides the same, bit for bit; tests/twins/
 * compares them.
 */
#ifndef FULLNAT_CORE_BYTES_H
#define FULLNAT_CORE_BYTES_H

#include <stdbool.h>
#include <stdint.h>

/* Return the two bytes at *at* as a number.  The caller has checked that they are there. */
static inline uint16_t fn_bytes_load16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

/* Return the four bytes at *at* as a number.  The caller has checked that they are there. */
static inline uint32_t fn_bytes_load32(const uint8_t *at)
{
	return (uint32_t)fn_bytes_load16(at) << 16 | fn_bytes_load16(at + 2);
}

/* Write *value* to the two bytes at *at*.  The caller has checked that they are there. */
static inline void fn_bytes_store16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* Write *value* to the four bytes at *at*.  The caller has checked that they are there. */
static inline void fn_bytes_store32(uint8_t *at, uint32_t value)
{
	fn_bytes_store16(at, (uint16_t)(value >> 16));
	fn_bytes_store16(at + 2, (uint16_t)value);
}

/* Copy *size* bytes between buffers that do not overlap. */
static inline void fn_bytes_copy(uint8_t *to, const uint8_t *from, uint32_t size)
{
	__builtin_memcpy(to, from, size);
}

/* Set *size* bytes to zero. */
static inline void fn_bytes_clear(void *at, uint32_t size)
{
	__builtin_memset(at, 0, size);
}

#endif
