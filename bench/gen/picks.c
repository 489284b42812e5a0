// SPDX-License-Identifier: Apache-2.0
/*
 * What a pick costs in the native engine: schedule(), and counting the flow as it opens and ends.
 *
 *     picks
 *
 * Prints a line for each scheduler and number of servers: name, servers, nanoseconds a pick.  The
 * sizes take turns, and what is printed is the median of the turns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "limit.h"
#include "sched.h"

enum { SIZES = 3, TURNS = 21, PICKS = 5000, CLIENTS = 4093, ALIVE = 32 };

static const uint32_t sizes[SIZES] = { 10, 100, 1000 };

static void die(const char *what)
{
	fprintf(stderr, "picks: %s\n", what);
	exit(1);
}

static int64_t read_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * FN_SECOND + now.tv_nsec;
}

static struct fn_endpoint endpoint(uint32_t host, uint16_t port)
{
	uint8_t address[4];

	fn_bytes_store32(address, host);
	return (struct fn_endpoint){ fn_address_of(address, 4), port };
}

/* Return a service of *count* servers, their weights from 1 to 7. */
static struct fn_service *build(const char *scheduler, uint32_t count)
{
	struct fn_endpoint vip = endpoint(0xCB00710A, 80);
	struct fn_scheduler *made = fn_scheduler_create(scheduler, 1, 0);
	struct fn_service *service = made ? fn_service_create(1, FN_TCP, &vip, made) : NULL;
	struct fn_server **servers = calloc(count, sizeof(struct fn_server *));

	if (!service || !servers)
		die("no memory");
	for (uint32_t at = 0; at < count; at++) {
		struct fn_server_settings settings = { .weight = 1 + at % 7, .configured_weight = 1 + at % 7 };
		struct fn_endpoint real = endpoint(0xC6130001 + at, 80);

		servers[at] = fn_server_create(service, at, &real, &settings);
		if (!servers[at])
			die("no memory");
	}
	if (!fn_service_set_servers(service, servers, count))
		die("no memory");
	free(servers);
	return service;
}

/* Open PICKS flows, of which ALIVE are established at any time, and return nanoseconds for each. */
static double run(struct fn_service *service)
{
	struct fn_server *alive[ALIVE] = { NULL };
	struct fn_scheduler *scheduler = service->scheduler;
	struct fn_request request = { .virtual = service->listen, .protocol = FN_TCP };
	int64_t begun = read_clock();

	for (uint32_t pick = 0; pick < PICKS; pick++) {
		struct fn_server *server;

		request.client = endpoint(0xC6120000 + pick % CLIENTS, (uint16_t)(1024 + pick));
		request.now = pick;
		server = scheduler->class->schedule(scheduler, &request);
		if (!server)
			die("a pick without a server");
		fn_service_flow_opened(server);
		fn_service_flow_activated(server);
		if (alive[pick % ALIVE])
			fn_service_flow_ended(alive[pick % ALIVE], true);
		alive[pick % ALIVE] = server;
	}
	begun = read_clock() - begun;
	for (int at = 0; at < ALIVE; at++)
		fn_service_flow_ended(alive[at], true);
	return (double)begun / PICKS;
}

static int compare(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;

	return (a > b) - (a < b);
}

static void time_scheduler(const char *name)
{
	double samples[SIZES][TURNS];
	struct fn_service *services[SIZES];

	for (int size = 0; size < SIZES; size++) {
		services[size] = build(name, sizes[size]);
		run(services[size]);   /* what is built on demand is there now */
	}
	for (int turn = 0; turn < TURNS; turn++)
		for (int size = 0; size < SIZES; size++)
			samples[size][turn] = run(services[size]);
	for (int size = 0; size < SIZES; size++) {
		qsort(samples[size], TURNS, sizeof(double), compare);
		printf("%s %u %.1f\n", name, sizes[size], samples[size][TURNS / 2]);
	}
	/* The process ends here: nothing is given back. */
}

int main(void)
{
	for (const struct fn_scheduler_class *const *class = fn_scheduler_classes; *class; class++)
		time_scheduler((*class)->name);
	return 0;
}
