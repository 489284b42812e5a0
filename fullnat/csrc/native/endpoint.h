// SPDX-License-Identifier: Apache-2.0
/*
 * Addresses and endpoints outside of packets: of services, servers and local ports.
 *
 * The C side of the types of the same name in fullnat/core/addr.py.
 */
#ifndef FULLNAT_NATIVE_ENDPOINT_H
#define FULLNAT_NATIVE_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../core/bytes.h"

/* An IPv4 or IPv6 address, network order; the bytes it does not use are 0. */
struct fn_address {
	uint8_t bytes[16];
	uint8_t size;   /* 4 or 16 */
};

struct fn_endpoint {
	struct fn_address address;
	uint16_t port;   /* host order */
};

static inline struct fn_address fn_address_of(const uint8_t *bytes, uint32_t size)
{
	struct fn_address address = { .size = (uint8_t)size };

	memcpy(address.bytes, bytes, size);
	return address;
}

/* Return the network of *length* bits that the address of *size* bytes is in: its host bits are 0. */
static inline struct fn_address fn_address_network(const uint8_t *bytes, uint32_t size, uint32_t length)
{
	struct fn_address network = fn_address_of(bytes, length / 8);

	if (length % 8)
		network.bytes[length / 8] = (uint8_t)(bytes[length / 8] & 0xFF00 >> length % 8);
	network.size = (uint8_t)size;
	return network;
}

static inline bool fn_address_equal(const struct fn_address *one, const struct fn_address *other)
{
	return one->size == other->size && !memcmp(one->bytes, other->bytes, sizeof(one->bytes));
}

static inline bool fn_endpoint_equal(const struct fn_endpoint *one, const struct fn_endpoint *other)
{
	return one->port == other->port && fn_address_equal(&one->address, &other->address);
}

/* Return the source (CIP:cport, RIP:rport) of a key of *size* bytes. */
static inline struct fn_endpoint fn_endpoint_source(const uint8_t *key, uint32_t size)
{
	uint32_t half = (size - 4) / 2;
	struct fn_endpoint source = { fn_address_of(key, half), fn_bytes_load16(key + 2 * half) };

	return source;
}

/* Return the destination (VIP:vport, LIP:lport) of a key of *size* bytes. */
static inline struct fn_endpoint fn_endpoint_destination(const uint8_t *key, uint32_t size)
{
	uint32_t half = (size - 4) / 2;
	struct fn_endpoint destination = { fn_address_of(key + half, half), fn_bytes_load16(key + 2 * half + 2) };

	return destination;
}

/* Write to *key* the key of packets from *source* to *destination*; return its size. */
static inline uint32_t fn_endpoint_key(uint8_t *key, const struct fn_endpoint *source,
				       const struct fn_endpoint *destination)
{
	uint32_t half = source->address.size;

	memcpy(key, source->address.bytes, half);
	memcpy(key + half, destination->address.bytes, half);
	fn_bytes_store16(key + 2 * half, source->port);
	fn_bytes_store16(key + 2 * half + 2, destination->port);
	return 2 * half + 4;
}

/*
 * Whether no host can have *address*: the kernel would drop it, had we not replaced it first.
 *
 * 0/8, 127/8, multicast and above; ::, ::1 and ff00::/8 (RFC 6890).
 */
static inline bool fn_address_is_martian(const uint8_t *address, uint32_t size)
{
	static const uint8_t zeros[15];

	if (size == 4)
		return address[0] == 0 || address[0] == 127 || address[0] >= 224;
	return address[0] == 0xFF || (!memcmp(address, zeros, sizeof(zeros)) && address[15] <= 1);
}

#endif
