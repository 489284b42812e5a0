// SPDX-License-Identifier: Apache-2.0
/*
 * The local port pool.  See lport.h for the contract and fullnat/core/lport.py for the rules.
 *
 * A port of the range is in one place of its queue at any time:
 *
 *     fresh --take--> in use --release--> resting --time--> rested --take--> in use
 *
 * or left out, when its turn came while it was excluded; from there it is rested once it no longer is.
 */
#include "lport.h"

#include <stdlib.h>

/* Knuth's multiplier spreads neighbouring client addresses over the local ones (TAOCP 6.4). */
#define SPREAD UINT64_C(2654435761)

/* A queue of things of one size, which grows by doubling. */
struct ring {
	uint8_t *items;
	uint32_t capacity;   /* a power of two, or 0 */
	uint32_t first;
	uint32_t count;
};

/* Packed, because there may be one for every flow of the last minute. */
struct resting {
	int64_t ready;
	uint16_t port;
} __attribute__((packed));

/* The ports of one local address towards one server. */
struct queue {
	const struct fn_ports *ports;
	uint16_t lip;
	uint32_t fresh;          /* how many of the range were taken for the first time */
	uint32_t start;
	uint32_t stride;
	uint32_t in_use;
	uint64_t *apart;         /* a bit a port that claim() took out of its turn; NULL: none */
	struct ring rested;      /* ports */
	struct ring resting;     /* struct resting, in the order they will be ready */
	struct ring left_out;    /* ports */
};

struct fn_ports {
	struct fn_endpoint real;
	uint8_t protocol;
	struct queue *queues[];   /* by local address; NULL before the first flow */
};

/* The numbers of the local addresses of one family. */
struct family {
	uint16_t *lips;
	uint32_t count;
};

struct fn_lport_pool {
	struct fn_address *addresses;
	uint32_t count;
	struct family families[2];   /* IPv4, IPv6 */
	uint16_t low;
	uint32_t size;               /* of the range */
	int64_t rest;
	struct fn_prng prng;
	uint32_t *excluded;          /* local address << 16 | port, sorted */
	uint32_t excluded_count;
	struct queue **queues;       /* in the order they were made */
	uint32_t queue_count;
	uint32_t queue_room;
	struct fn_ports **ports;     /* open addressing, at most half full */
	uint32_t ports_count;
	uint32_t ports_room;
};

/* Rings. */

static uint8_t *ring_item(const struct ring *ring, uint32_t at, size_t size)
{
	return ring->items + ((ring->first + at) & (ring->capacity - 1)) * size;
}

static bool ring_grow(struct ring *ring, size_t size)
{
	uint32_t capacity = ring->capacity ? 2 * ring->capacity : 8;
	uint8_t *items = malloc(capacity * size);

	if (!items)
		return false;
	for (uint32_t at = 0; at < ring->count; at++)
		memcpy(items + at * size, ring_item(ring, at, size), size);
	free(ring->items);
	ring->items = items;
	ring->capacity = capacity;
	ring->first = 0;
	return true;
}

/* Append *item*; false when memory ran out. */
static bool ring_push(struct ring *ring, const void *item, size_t size)
{
	if (ring->count == ring->capacity && !ring_grow(ring, size))
		return false;
	memcpy(ring_item(ring, ring->count++, size), item, size);
	return true;
}

static void ring_drop_first(struct ring *ring)
{
	ring->first = (ring->first + 1) & (ring->capacity - 1);
	ring->count--;
}

/* Take the first item off; false when there is none. */
static bool ring_pop(struct ring *ring, void *item, size_t size)
{
	if (!ring->count)
		return false;
	memcpy(item, ring_item(ring, 0, size), size);
	ring_drop_first(ring);
	return true;
}

/* Endpoints left out. */

static uint32_t exclusion(uint32_t lip, uint16_t port)
{
	return lip << 16 | port;
}

static int compare_exclusions(const void *left, const void *right)
{
	uint32_t one = *(const uint32_t *)left, other = *(const uint32_t *)right;

	return (one > other) - (one < other);
}

static bool is_excluded(const struct fn_lport_pool *pool, uint16_t lip, uint16_t port)
{
	uint32_t wanted = exclusion(lip, port);

	return pool->excluded_count &&
	       bsearch(&wanted, pool->excluded, pool->excluded_count, sizeof(wanted), compare_exclusions);
}

static uint32_t count_excluded(const struct fn_lport_pool *pool, uint16_t lip)
{
	uint32_t count = 0;

	for (uint32_t at = 0; at < pool->excluded_count; at++)
		count += pool->excluded[at] >> 16 == lip;
	return count;
}

/* Sort the exclusions and drop those given twice. */
static uint32_t sort_exclusions(uint32_t *excluded, uint32_t count)
{
	uint32_t kept = 0;

	qsort(excluded, count, sizeof(*excluded), compare_exclusions);
	for (uint32_t at = 0; at < count; at++)
		if (!kept || excluded[kept - 1] != excluded[at])
			excluded[kept++] = excluded[at];
	return kept;
}

/* Return the number of *address*, or the count of addresses when it is not in the pool. */
static uint32_t find_address(const struct fn_lport_pool *pool, const struct fn_address *address)
{
	uint32_t lip = 0;

	while (lip < pool->count && !fn_address_equal(&pool->addresses[lip], address))
		lip++;
	return lip;
}

/* Have ports that are no longer excluded wait behind those that are rested. */
static void readmit(const struct fn_lport_pool *pool, struct queue *queue)
{
	uint32_t left = queue->left_out.count;
	uint16_t port;

	while (left-- > 0 && ring_pop(&queue->left_out, &port, sizeof(port)))
		if (!ring_push(is_excluded(pool, queue->lip, port) ? &queue->left_out : &queue->rested, &port,
			       sizeof(port)))
			queue->in_use++;
}

bool fn_lport_pool_exclude(struct fn_lport_pool *pool, const struct fn_endpoint *excluded, uint32_t count)
{
	uint32_t *numbers = malloc(((size_t)count + 1) * sizeof(*numbers)), found = 0;

	if (!numbers)
		return false;
	for (uint32_t at = 0; at < count; at++) {
		uint32_t lip = find_address(pool, &excluded[at].address);
		uint32_t offset = (uint32_t)excluded[at].port - pool->low;   /* below the range it wraps round */

		if (lip < pool->count && offset < pool->size)
			numbers[found++] = exclusion(lip, excluded[at].port);
	}
	free(pool->excluded);
	pool->excluded = numbers;
	pool->excluded_count = sort_exclusions(numbers, found);
	for (uint32_t at = 0; at < pool->queue_count; at++)
		readmit(pool, pool->queues[at]);
	return true;
}

/* Queues. */

static uint32_t greatest_common_divisor(uint32_t one, uint32_t other)
{
	while (other) {
		uint32_t remainder = one % other;

		one = other;
		other = remainder;
	}
	return one;
}

static bool reserve_queue(struct fn_lport_pool *pool)
{
	uint32_t room = pool->queue_room ? 2 * pool->queue_room : 16;
	struct queue **queues;

	if (pool->queue_count < pool->queue_room)
		return true;
	queues = realloc(pool->queues, room * sizeof(struct queue *));
	if (!queues)
		return false;
	pool->queues = queues;
	pool->queue_room = room;
	return true;
}

/* Return the queue of local address *lip* towards the server of *ports*, or NULL when memory ran out. */
static struct queue *queue_of(struct fn_lport_pool *pool, struct fn_ports *ports, uint16_t lip)
{
	struct queue *queue = ports->queues[lip];

	if (queue)
		return queue;
	if (!reserve_queue(pool))
		return NULL;
	queue = calloc(1, sizeof(*queue));
	if (!queue)
		return NULL;
	queue->ports = ports;
	queue->lip = lip;
	queue->start = (uint32_t)fn_prng_below(&pool->prng, pool->size);
	queue->stride = (uint32_t)fn_prng_below(&pool->prng, pool->size) | 1;
	while (greatest_common_divisor(queue->stride, pool->size) != 1)
		queue->stride += 2;
	ports->queues[lip] = queue;
	pool->queues[pool->queue_count++] = queue;
	return queue;
}

static void free_queue(struct queue *queue)
{
	free(queue->apart);
	free(queue->rested.items);
	free(queue->resting.items);
	free(queue->left_out.items);
	free(queue);
}

/* Whether *port*, taken from its place, may be used now; if not, it is left out. */
static bool admit(const struct fn_lport_pool *pool, struct queue *queue, uint16_t port)
{
	bool is_free = !is_excluded(pool, queue->lip, port);

	/* Lost ones count as in use as well: lport.h. */
	if (is_free || !ring_push(&queue->left_out, &port, sizeof(port)))
		queue->in_use++;
	return is_free;
}

static void move_rested(struct queue *queue, int64_t now)
{
	struct resting first;

	while (queue->resting.count) {
		memcpy(&first, ring_item(&queue->resting, 0, sizeof(first)), sizeof(first));
		if (first.ready > now || !ring_push(&queue->rested, &(uint16_t){ first.port }, sizeof(first.port)))
			return;
		ring_drop_first(&queue->resting);
	}
}

/* Whether a port, by its distance from the lowest, was taken out of its turn, and is no longer fresh. */
static bool is_apart(const struct queue *queue, uint32_t offset)
{
	return queue->apart && queue->apart[offset / 64] >> offset % 64 & 1;
}

static bool take(const struct fn_lport_pool *pool, struct queue *queue, int64_t now, uint16_t *port)
{
	while (queue->fresh < pool->size) {
		uint64_t step = (uint64_t)queue->fresh++ * queue->stride;
		uint32_t offset = (uint32_t)((queue->start + step) % pool->size);

		*port = (uint16_t)(pool->low + offset);
		if (!is_apart(queue, offset) && admit(pool, queue, *port))
			return true;
	}
	move_rested(queue, now);
	while (ring_pop(&queue->rested, port, sizeof(*port)))
		if (admit(pool, queue, *port))
			return true;
	return false;
}

static void put(struct queue *queue, uint16_t port, int64_t now, int64_t rest, int64_t idle)
{
	struct resting resting = { now + rest, port };

	if (idle >= rest ? ring_push(&queue->rested, &port, sizeof(port)) :
			   ring_push(&queue->resting, &resting, sizeof(resting)))
		queue->in_use--;
}

static uint32_t count_resting(const struct queue *queue, int64_t now)
{
	struct resting resting;
	uint32_t count = 0;

	for (uint32_t at = 0; at < queue->resting.count; at++) {
		memcpy(&resting, ring_item(&queue->resting, at, sizeof(resting)), sizeof(resting));
		count += resting.ready > now;
	}
	return count;
}

/* Servers. */

/* Return where the ports towards *real* are, or are to be.  There is a free place. */
static struct fn_ports **find_ports(struct fn_ports **places, uint32_t room, uint8_t protocol,
				    const struct fn_endpoint *real)
{
	/* Not keyed: servers are the operator's. */
	const struct fn_hash_key key = { { 0, 0 } };
	uint32_t at = (uint32_t)fn_hash(&key, real->address.bytes, sizeof(real->address.bytes),
					(uint32_t)protocol << 16 | real->port);

	for (;; at++) {
		struct fn_ports *ports = places[at & (room - 1)];

		if (!ports || (ports->protocol == protocol && fn_endpoint_equal(&ports->real, real)))
			return &places[at & (room - 1)];
	}
}

static bool reserve_ports(struct fn_lport_pool *pool)
{
	uint32_t room = pool->ports_room ? 2 * pool->ports_room : 16;
	struct fn_ports **places;

	if (2 * pool->ports_count < pool->ports_room)
		return true;
	places = calloc(room, sizeof(struct fn_ports *));
	if (!places)
		return false;
	for (uint32_t at = 0; at < pool->ports_room; at++) {
		struct fn_ports *ports = pool->ports[at];

		if (ports)
			*find_ports(places, room, ports->protocol, &ports->real) = ports;
	}
	free(pool->ports);
	pool->ports = places;
	pool->ports_room = room;
	return true;
}

struct fn_ports *fn_lport_pool_ports(struct fn_lport_pool *pool, uint8_t protocol, const struct fn_endpoint *real)
{
	struct fn_ports **place, *ports;

	if (!reserve_ports(pool))
		return NULL;
	place = find_ports(pool->ports, pool->ports_room, protocol, real);
	if (*place)
		return *place;
	ports = calloc(1, sizeof(*ports) + pool->count * sizeof(struct queue *));
	if (!ports)
		return NULL;
	ports->protocol = protocol;
	ports->real = *real;
	*place = ports;
	pool->ports_count++;
	return ports;
}

/* The pool as a whole. */

static bool take_addresses(struct fn_lport_pool *pool, const struct fn_address *addresses, uint32_t count)
{
	pool->addresses = calloc((size_t)count + 1, sizeof(*addresses));
	pool->families[0].lips = calloc((size_t)count + 1, sizeof(uint16_t));
	pool->families[1].lips = calloc((size_t)count + 1, sizeof(uint16_t));
	if (!pool->addresses || !pool->families[0].lips || !pool->families[1].lips)
		return false;
	for (uint32_t lip = 0; lip < count; lip++) {
		struct family *family = &pool->families[addresses[lip].size == 16];

		pool->addresses[lip] = addresses[lip];
		family->lips[family->count++] = (uint16_t)lip;
	}
	pool->count = count;
	return true;
}

struct fn_lport_pool *fn_lport_pool_create(const struct fn_address *addresses, uint32_t count, uint16_t low,
					   uint16_t high, int64_t rest, uint64_t seed,
					   const struct fn_endpoint *excluded, uint32_t excluded_count)
{
	struct fn_lport_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	pool->low = low;
	pool->size = (uint32_t)high - low + 1;
	pool->rest = rest;
	pool->prng.state = seed;
	if (!take_addresses(pool, addresses, count) || !fn_lport_pool_exclude(pool, excluded, excluded_count)) {
		fn_lport_pool_destroy(pool);
		return NULL;
	}
	return pool;
}

void fn_lport_pool_destroy(struct fn_lport_pool *pool)
{
	if (!pool)
		return;
	for (uint32_t at = 0; at < pool->queue_count; at++)
		free_queue(pool->queues[at]);
	for (uint32_t at = 0; at < pool->ports_room; at++)
		free(pool->ports[at]);
	free(pool->queues);
	free(pool->ports);
	free(pool->addresses);
	free(pool->families[0].lips);
	free(pool->families[1].lips);
	free(pool->excluded);
	free(pool);
}

bool fn_lport_pool_has(const struct fn_lport_pool *pool, const struct fn_address *address)
{
	return find_address(pool, address) < pool->count;
}

const struct fn_address *fn_lport_pool_address(const struct fn_lport_pool *pool, uint16_t lip)
{
	return &pool->addresses[lip];
}

/*
 * Return client * SPREAD >> 16 modulo *count*, the address being one number of 32 or 128 bits:
 * multiplied in digits of 16 bits, of which the last is then left off.
 */
static uint32_t spread(const struct fn_address *client, uint32_t count)
{
	uint16_t digits[8];
	uint64_t product = 0, remainder;

	for (int at = client->size / 2 - 1; at >= 0; at--) {
		product += fn_bytes_load16(client->bytes + 2 * at) * SPREAD;
		digits[at] = (uint16_t)product;
		product >>= 16;
	}
	remainder = product % count;
	for (int at = 0; at < client->size / 2 - 1; at++)
		remainder = (remainder << 16 | digits[at]) % count;
	return (uint32_t)remainder;
}

bool fn_lport_pool_allocate(struct fn_lport_pool *pool, struct fn_ports *ports, const struct fn_address *client,
			    int64_t now, uint16_t *lip, uint16_t *port)
{
	const struct family *family = &pool->families[ports->real.address.size == 16];
	uint32_t first = family->count ? spread(client, family->count) : 0;

	for (uint32_t step = 0; step < family->count; step++) {
		struct queue *queue;

		*lip = family->lips[(first + step) % family->count];
		queue = queue_of(pool, ports, *lip);
		if (queue && take(pool, queue, now, port))
			return true;
	}
	return false;
}

bool fn_lport_pool_claim(struct fn_lport_pool *pool, struct fn_ports *ports, const struct fn_address *address,
			 uint16_t port, uint16_t *lip)
{
	uint32_t number = find_address(pool, address), offset = (uint32_t)port - pool->low;
	struct queue *queue;

	if (number >= pool->count || offset >= pool->size || is_excluded(pool, (uint16_t)number, port))
		return false;
	*lip = (uint16_t)number;
	queue = queue_of(pool, ports, *lip);
	if (!queue || queue->fresh || is_apart(queue, offset))
		return false;
	if (!queue->apart)
		queue->apart = calloc(pool->size / 64 + 1, sizeof(*queue->apart));
	if (!queue->apart)
		return false;
	queue->apart[offset / 64] |= UINT64_C(1) << offset % 64;
	queue->in_use++;
	return true;
}

void fn_lport_pool_release(struct fn_lport_pool *pool, struct fn_ports *ports, uint16_t lip, uint16_t port,
			   int64_t now, int64_t last_seen)
{
	put(ports->queues[lip], port, now, pool->rest, now - last_seen);
}

bool fn_lport_pool_usage(const struct fn_lport_pool *pool, uint64_t *cursor, int64_t now, struct fn_port_use *use)
{
	const struct queue *queue;

	if (*cursor >= pool->queue_count)
		return false;
	queue = pool->queues[(*cursor)++];
	*use = (struct fn_port_use){
		.protocol = queue->ports->protocol,
		.lip = pool->addresses[queue->lip],
		.real = queue->ports->real,
		.in_use = queue->in_use,
		.resting = count_resting(queue, now),
		.capacity = pool->size - count_excluded(pool, queue->lip),
	};
	return true;
}
