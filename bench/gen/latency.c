// SPDX-License-Identifier: Apache-2.0
/*
 * latency: ask for an HTTP page at a steady rate over kept-alive connections, and say how long answers took.
 *
 * One thread, epoll.  Request i is due at start + i / rate, whatever became of those before it, and
 * belongs to connection i % connections.  Its latency is counted from when it was due to when its
 * answer was complete.  A request whose connection still waits for an answer waits behind it, and so does
 * one that this program is too late for, and that time counts: a director that stands still for
 * a while delays all that would have been asked meanwhile, not just the one request that met it.  (Asking
 * only after each answer would leave those out: coordinated omission.)
 *
 * Every latency is kept, in memory that is there before the first request, so percentiles are exact:
 * nearest rank.  Requests of the warm-up are asked and not counted.  One without an answer when the wait
 * for stragglers ends counts as having taken until then.
 *
 * An answer other than 200 with a body of the expected length, or more than was asked for, ends the
 * program, as does a lost connection.
 *
 * Prints one line of JSON: asked, unanswered, rate, and in nanoseconds p50, p90, p99, p99.9 of the
 * latency and late: the p99 of how long after its time this program came to a request.
 */
#define _GNU_SOURCE   /* epoll_pwait2(), memmem() */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "command.h"

enum { MAX_CONNECTIONS = 1024, ANSWER_ROOM = 4096, EVENTS = 64 };

static const int64_t SECOND = 1000000000;

struct options {
	const char *host;
	struct sockaddr_storage server;
	socklen_t server_size;
	unsigned port, connections, body_bytes;
	double rate, seconds, warmup_seconds, wait_seconds;
};

struct connection {
	int fd;
	bool waits;             /* for the answer to `request` */
	uint64_t request;       /* the one asked last, or else the next to ask */
	size_t received;        /* bytes of the answer */
	char answer[ANSWER_ROOM];
};

struct run {
	const struct options *options;
	int epoll;
	int64_t start;
	uint64_t requests, warmup;   /* in all; of these not counted */
	uint64_t due, answered;      /* requests up to now */
	int64_t *latency, *lateness; /* of each request, nanoseconds; latency 0: no answer yet */
	char question[256];
	size_t question_bytes;
	struct connection connections[MAX_CONNECTIONS];
};

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

/* ---- requests ---- */

static int64_t due_time(const struct run *run, uint64_t request)
{
	return run->start + (int64_t)((double)request * (double)SECOND / run->options->rate);
}

static void ask(struct run *run, struct connection *connection)
{
	ssize_t sent = send(connection->fd, run->question, run->question_bytes, MSG_NOSIGNAL);

	if (sent < 0)
		die("send: %s", strerror(errno));
	if ((size_t)sent != run->question_bytes)
		die("a request did not fit into an empty send buffer");
	connection->waits = true;
	connection->received = 0;
}

/* Let the requests whose time has come be asked, by those of their connections that wait for nothing. */
static void ask_due(struct run *run)
{
	for (int64_t time = now(); run->due < run->requests && due_time(run, run->due) <= time; time = now()) {
		struct connection *connection = &run->connections[run->due % run->options->connections];

		run->lateness[run->due] = time - due_time(run, run->due);
		run->due++;
		if (!connection->waits)
			ask(run, connection);
	}
}

/* ---- answers ---- */

/* Return the bytes of the answer that begins with @length bytes at @text, 0 when its head is not complete. */
static size_t answer_bytes(const char *text, size_t length, unsigned body_bytes)
{
	static const char status[] = "HTTP/1.1 200 ", field[] = "\r\nContent-Length: ", blank[] = "\r\n\r\n";
	const char *end = memmem(text, length, blank, sizeof(blank) - 1), *found;
	size_t head;

	if (!end)
		return 0;
	head = (size_t)(end - text) + sizeof(blank) - 1;
	if (memcmp(text, status, sizeof(status) - 1))
		die("answered \"%.*s\" instead of 200", (int)strcspn(text, "\r"), text);
	found = memmem(text, head, field, sizeof(field) - 1);
	if (!found)
		die("an answer without Content-Length");
	if (strtoul(found + sizeof(field) - 1, NULL, 10) != body_bytes)
		die("an answer of another length than %u bytes", body_bytes);
	return head + body_bytes;
}

static void note_answer(struct run *run, struct connection *connection)
{
	run->latency[connection->request] = now() - due_time(run, connection->request);
	run->answered++;
	connection->waits = false;
	connection->request += run->options->connections;
	if (connection->request < run->due)   /* it waited behind this one */
		ask(run, connection);
}

static void receive(struct run *run, struct connection *connection)
{
	size_t room = ANSWER_ROOM - connection->received, wanted;
	ssize_t got = recv(connection->fd, connection->answer + connection->received, room, 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got < 0)
		die("recv: %s", strerror(errno));
	if (!got)
		die("a connection was closed");
	connection->received += (size_t)got;
	wanted = answer_bytes(connection->answer, connection->received, run->options->body_bytes);
	if (!connection->waits || (wanted && connection->received > wanted))
		die("more was answered than asked for");
	if (connection->received == wanted)
		note_answer(run, connection);
	else if (connection->received == ANSWER_ROOM)
		die("an answer of more than %d bytes", ANSWER_ROOM);
}

/* ---- the run ---- */

/* Return when answers are there, or @until. */
static void serve(struct run *run, int64_t until)
{
	struct epoll_event events[EVENTS];
	int64_t left = until - now();
	struct timespec timeout = { 0 };
	int ready;

	if (left > 0) {
		timeout.tv_sec = left / SECOND;
		timeout.tv_nsec = left % SECOND;
	}
	ready = epoll_pwait2(run->epoll, events, EVENTS, &timeout, NULL);
	if (ready < 0 && errno != EINTR)
		die("epoll_pwait2: %s", strerror(errno));
	for (int i = 0; i < ready; i++)
		receive(run, events[i].data.ptr);
}

static void ask_all(struct run *run)
{
	int64_t end;

	run->start = now();
	end = due_time(run, run->requests - 1) + (int64_t)(run->options->wait_seconds * (double)SECOND);
	while (run->answered < run->requests && now() < end) {
		ask_due(run);
		serve(run, run->due < run->requests ? due_time(run, run->due) : end);
	}
}

static void open_connection(struct run *run, unsigned number)
{
	const struct options *o = run->options;
	struct connection *connection = &run->connections[number];
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
	int one = 1;

	connection->request = number;
	connection->fd = socket(o->server.ss_family, SOCK_STREAM, 0);
	if (connection->fd < 0)
		die("socket: %s", strerror(errno));
	if (connect(connection->fd, (const struct sockaddr *)&o->server, o->server_size))
		die("connect: %s", strerror(errno));
	if (setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
		die("TCP_NODELAY: %s", strerror(errno));
	if (fcntl(connection->fd, F_SETFL, O_NONBLOCK))
		die("O_NONBLOCK: %s", strerror(errno));
	if (epoll_ctl(run->epoll, EPOLL_CTL_ADD, connection->fd, &event))
		die("epoll_ctl: %s", strerror(errno));
}

/* Return memory for a number a request, touched so that no page is missing later. */
static int64_t *make_samples(uint64_t count)
{
	int64_t *samples = malloc(count * sizeof(*samples));

	if (!samples)
		die("no memory for %llu requests", (unsigned long long)count);
	memset(samples, 0, count * sizeof(*samples));
	return samples;
}

static struct run *prepare(const struct options *o)
{
	struct run *run = calloc(1, sizeof(*run));
	bool is_v6 = o->server.ss_family == AF_INET6;

	if (!run)
		die("no memory");
	run->options = o;
	run->warmup = (uint64_t)(o->rate * o->warmup_seconds);
	run->requests = run->warmup + (uint64_t)(o->rate * o->seconds);
	if (run->requests == run->warmup)
		die("--rate and --seconds make no request");
	run->latency = make_samples(run->requests);
	run->lateness = make_samples(run->requests);
	run->question_bytes = (size_t)snprintf(run->question, sizeof(run->question), "GET / HTTP/1.1\r\nHost: %s%s%s\r\n\r\n",
					       is_v6 ? "[" : "", o->host, is_v6 ? "]" : "");
	run->epoll = epoll_create1(0);
	if (run->epoll < 0)
		die("epoll_create1: %s", strerror(errno));
	for (unsigned number = 0; number < o->connections; number++)
		open_connection(run, number);
	return run;
}

/* ---- what came of it ---- */

/* Have requests without an answer count as long as they were waited for; return how many there are. */
static uint64_t settle(struct run *run)
{
	int64_t end = now();
	uint64_t unanswered = 0;

	for (uint64_t request = run->warmup; request < run->requests; request++) {
		if (run->latency[request])
			continue;
		run->latency[request] = end - due_time(run, request);
		unanswered++;
	}
	return unanswered;
}

static int compare(const void *one, const void *other)
{
	int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;

	return (a > b) - (a < b);
}

/* Return the least of @sorted that a share of @permille / 1000 does not exceed. */
static long long percentile(const int64_t *sorted, uint64_t count, uint64_t permille)
{
	return sorted[(count * permille + 999) / 1000 - 1];
}

static void report(struct run *run)
{
	uint64_t count = run->requests - run->warmup, unanswered = settle(run);
	int64_t *latency = run->latency + run->warmup, *lateness = run->lateness + run->warmup;

	qsort(latency, count, sizeof(*latency), compare);
	qsort(lateness, count, sizeof(*lateness), compare);
	printf("{\"asked\": %llu, \"unanswered\": %llu, \"rate\": %.1f, \"p50\": %lld, \"p90\": %lld, \"p99\": %lld, "
	       "\"p99.9\": %lld, \"late\": %lld}\n",
	       (unsigned long long)count, (unsigned long long)unanswered, run->options->rate,
	       percentile(latency, count, 500), percentile(latency, count, 900), percentile(latency, count, 990),
	       percentile(latency, count, 999), percentile(lateness, count, 990));
}

/* ---- options ---- */

static void parse_server(struct options *o)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&o->server;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&o->server;

	if (inet_pton(AF_INET, o->host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)o->port);
		o->server_size = sizeof(*v4);
	} else if (inet_pton(AF_INET6, o->host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)o->port);
		o->server_size = sizeof(*v6);
	} else {
		die("not an address: %s", o->host);
	}
}

static const struct option LONG[] = {
	{ "server", required_argument, NULL, 's' },
	{ "port", required_argument, NULL, 'p' },
	{ "connections", required_argument, NULL, 'c' },
	{ "rate", required_argument, NULL, 'r' },
	{ "seconds", required_argument, NULL, 't' },
	{ "warmup", required_argument, NULL, 'w' },
	{ "wait", required_argument, NULL, 'g' },
	{ "body", required_argument, NULL, 'b' },
	{ NULL, 0, NULL, 0 },
};

static struct options parse_options(int argc, char **argv)
{
	struct options o = { .port = 80, .connections = 64, .rate = 1000, .seconds = 1, .wait_seconds = 2 };
	int c, index = 0;

	while ((c = getopt_long(argc, argv, "", LONG, &index)) != -1) {
		const char *name = c == '?' ? NULL : LONG[index].name;

		switch (c) {
		case 's': o.host = optarg; break;
		case 'p': o.port = (unsigned)parse_number(name, optarg, 1, 65535); break;
		case 'c': o.connections = (unsigned)parse_number(name, optarg, 1, MAX_CONNECTIONS); break;
		case 'r': o.rate = parse_number(name, optarg, 1, 1e7); break;
		case 't': o.seconds = parse_number(name, optarg, 0.001, 3600); break;
		case 'w': o.warmup_seconds = parse_number(name, optarg, 0, 3600); break;
		case 'g': o.wait_seconds = parse_number(name, optarg, 0, 3600); break;
		case 'b': o.body_bytes = (unsigned)parse_number(name, optarg, 0, ANSWER_ROOM); break;
		default: exit(2);
		}
	}
	if (!o.host)
		die("needs --server");
	parse_server(&o);
	return o;
}

int main(int argc, char **argv)
{
	struct options o = parse_options(argc, argv);
	struct run *run = prepare(&o);

	if (prctl(PR_SET_TIMERSLACK, 1UL))   /* nanosecond: a request would be 50 microseconds late by default */
		die("PR_SET_TIMERSLACK: %s", strerror(errno));
	ask_all(run);
	report(run);
	return 0;   /* what is open and allocated ends here */
}
