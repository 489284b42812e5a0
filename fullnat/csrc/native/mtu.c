// SPDX-License-Identifier: Apache-2.0
/*
 * Path MTUs.  See mtu.h for the contract.
 *
 * One array, sorted by family, then from the longest prefix to the shortest, then by network; a
 * lookup searches the stretch of each length that there is.
 */
#include "mtu.h"

#include <stdlib.h>

/* The routes of one family and prefix length. */
struct stretch {
	uint8_t size;   /* of an address */
	uint8_t prefix_length;
	uint32_t first;
	uint32_t count;
};

struct fn_path_mtu {
	struct fn_route *routes;
	struct stretch *stretches;
	uint32_t stretch_count;
};

/* A route and the place it was given in, which decides between routes of one prefix. */
struct candidate {
	struct fn_route route;
	uint32_t order;
};

static int compare_networks(const struct fn_route *one, const struct fn_route *other)
{
	if (one->network.size != other->network.size)
		return one->network.size - other->network.size;
	if (one->prefix_length != other->prefix_length)
		return other->prefix_length - one->prefix_length;
	return memcmp(one->network.bytes, other->network.bytes, sizeof(one->network.bytes));
}

static int compare_candidates(const void *left, const void *right)
{
	const struct candidate *one = left, *other = right;
	int result = compare_networks(&one->route, &other->route);

	return result ? result : (one->order > other->order) - (one->order < other->order);
}

/* Keep the first route of each prefix and note where each length begins; *candidates* is sorted. */
static void take_routes(struct fn_path_mtu *path_mtu, const struct candidate *candidates, uint32_t count)
{
	const struct fn_route *last = NULL;
	uint32_t kept = 0;

	for (uint32_t at = 0; at < count; at++) {
		const struct fn_route *route = &candidates[at].route;

		if (last && !compare_networks(last, route))
			continue;
		if (!last || last->network.size != route->network.size || last->prefix_length != route->prefix_length)
			path_mtu->stretches[path_mtu->stretch_count++] =
				(struct stretch){ route->network.size, route->prefix_length, kept, 0 };
		path_mtu->stretches[path_mtu->stretch_count - 1].count++;
		path_mtu->routes[kept++] = *route;
		last = route;
	}
}

struct fn_path_mtu *fn_path_mtu_create(const struct fn_route *routes, uint32_t count)
{
	struct fn_path_mtu *path_mtu = calloc(1, sizeof(*path_mtu));
	struct candidate *candidates = calloc((size_t)count + 1, sizeof(*candidates));

	if (path_mtu) {
		path_mtu->routes = calloc((size_t)count + 1, sizeof(*path_mtu->routes));
		path_mtu->stretches = calloc((size_t)count + 1, sizeof(*path_mtu->stretches));
	}
	if (!path_mtu || !candidates || !path_mtu->routes || !path_mtu->stretches) {
		fn_path_mtu_destroy(path_mtu);
		free(candidates);
		return NULL;
	}
	for (uint32_t at = 0; at < count; at++)
		candidates[at] = (struct candidate){ routes[at], at };
	qsort(candidates, count, sizeof(*candidates), compare_candidates);
	take_routes(path_mtu, candidates, count);
	free(candidates);
	return path_mtu;
}

void fn_path_mtu_destroy(struct fn_path_mtu *path_mtu)
{
	if (!path_mtu)
		return;
	free(path_mtu->routes);
	free(path_mtu->stretches);
	free(path_mtu);
}

static int compare_route(const void *wanted, const void *route)
{
	return compare_networks(wanted, route);
}

uint32_t fn_path_mtu_find(const struct fn_path_mtu *path_mtu, const uint8_t *address, uint32_t size)
{
	for (uint32_t at = 0; at < path_mtu->stretch_count; at++) {
		const struct stretch *stretch = &path_mtu->stretches[at];
		struct fn_route wanted = { .prefix_length = stretch->prefix_length };
		const struct fn_route *found;

		if (stretch->size != size)
			continue;
		wanted.network = fn_address_network(address, size, stretch->prefix_length);
		found = bsearch(&wanted, path_mtu->routes + stretch->first, stretch->count, sizeof(*found),
				compare_route);
		if (found)
			return found->mtu;
	}
	return FN_DEFAULT_MTU;
}
