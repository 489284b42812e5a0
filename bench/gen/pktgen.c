// SPDX-License-Identifier: Apache-2.0
/*
 * pktgen: offer UDP frames of N flows to a device at a steady rate and say what was really offered.
 *
 * One thread, one AF_PACKET socket past the qdisc, sendmmsg() of BURST frames built beforehand.
 * Flow i has address client + i % clients and port sport + i / clients; flows take turns, in order
 * or, with --shuffle, in one that the seed determines: a director that keeps its flows in the order
 * they were opened in would otherwise find the next one beside the last.
 *
 * Pacing: a burst leaves when the clock reaches start + sent / rate, so a late burst is followed
 * by an early one.  A generator that lost its core for longer than CATCH_UP moves its schedule
 * instead: to make up for it at once would be a burst the asked rate never has, and would be
 * counted as the director's loss.  The real rate then falls short and is what gets reported.
 *
 * A frame the device refuses (ENOBUFS: the far end's backlog is full) was offered and is lost, so
 * it counts as sent.
 *
 * Prints one line of JSON: sent, refused, stalls, seconds, pps.
 */
#define _GNU_SOURCE   /* sendmmsg() */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "command.h"

enum { BURST = 64, CATCH_UP = 4 * BURST, MAX_FRAME = 1514 };

struct options {
	const char *device;
	uint8_t src_mac[ETH_ALEN], dst_mac[ETH_ALEN];
	int family;
	uint8_t client[16], server[16];   /* network order; 4 or 16 bytes used */
	unsigned sport, dport;
	unsigned clients, flows, size;
	uint64_t shuffle;   /* seed of the order of the flows, 0 for none */
	uint64_t count;     /* frames to stop after, up to a burst more; 0 for no such limit */
	double rate, seconds;
};

struct result {
	uint64_t sent, refused, stalls;
	double seconds;
};

/* ---- frames ---- */

static size_t address_bytes(int family)
{
	return family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
}

static size_t headers_bytes(int family)
{
	size_t ip = family == AF_INET ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);

	return ETH_HLEN + ip + sizeof(struct udphdr);
}

/* RFC 1071 over @length bytes, not folded and not inverted. */
static uint32_t sum16(const void *data, size_t length, uint32_t sum)
{
	const uint8_t *byte = data;

	for (; length > 1; byte += 2, length -= 2)
		sum += (uint32_t)byte[0] << 8 | byte[1];
	return length ? sum + ((uint32_t)byte[0] << 8) : sum;
}

static uint16_t checksum(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* @address plus @offset, as the big-endian number it is. */
static void add_to_address(uint8_t *address, size_t length, unsigned offset)
{
	for (size_t i = length; i-- > 0 && offset; offset >>= 8) {
		offset += address[i];
		address[i] = (uint8_t)offset;
	}
}

static void build_ip(uint8_t *at, const struct options *o, const uint8_t *source, uint16_t payload)
{
	if (o->family == AF_INET) {
		struct iphdr ip = {
			.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP,
			.tot_len = htons((uint16_t)(sizeof(ip) + payload)),
			.frag_off = htons(IP_DF),   /* as a UDP socket of Linux sends (ip(7), IP_MTU_DISCOVER) */
		};

		memcpy(&ip.saddr, source, sizeof(ip.saddr));
		memcpy(&ip.daddr, o->server, sizeof(ip.daddr));
		ip.check = checksum(sum16(&ip, sizeof(ip), 0));
		memcpy(at, &ip, sizeof(ip));
	} else {
		struct ip6_hdr ip = { 0 };

		ip.ip6_flow = htonl(6u << 28);
		ip.ip6_plen = htons(payload);
		ip.ip6_nxt = IPPROTO_UDP;
		ip.ip6_hlim = 64;
		memcpy(&ip.ip6_src, source, sizeof(ip.ip6_src));
		memcpy(&ip.ip6_dst, o->server, sizeof(ip.ip6_dst));
		memcpy(at, &ip, sizeof(ip));
	}
}

static void build_udp(uint8_t *at, const struct options *o, const uint8_t *source, uint16_t sport,
		      uint16_t length)
{
	struct udphdr udp = {
		.source = htons(sport), .dest = htons((uint16_t)o->dport), .len = htons(length),
	};
	uint32_t pseudo = IPPROTO_UDP + length;

	pseudo = sum16(source, address_bytes(o->family), pseudo);
	pseudo = sum16(o->server, address_bytes(o->family), pseudo);
	memcpy(at, &udp, sizeof(udp));
	udp.check = checksum(sum16(at, length, pseudo));
	if (!udp.check)
		udp.check = 0xffff;
	memcpy(at, &udp, sizeof(udp));
}

static void build_frame(uint8_t *frame, const struct options *o, unsigned flow)
{
	struct ether_header eth = { .ether_type = htons(o->family == AF_INET ? ETHERTYPE_IP : ETHERTYPE_IPV6) };
	uint16_t udp_bytes = (uint16_t)(o->size - headers_bytes(o->family) + sizeof(struct udphdr));
	uint8_t *udp = frame + o->size - udp_bytes;
	uint8_t source[16];

	memcpy(eth.ether_shost, o->src_mac, ETH_ALEN);
	memcpy(eth.ether_dhost, o->dst_mac, ETH_ALEN);
	memcpy(frame, &eth, sizeof(eth));
	memcpy(source, o->client, sizeof(source));
	add_to_address(source, address_bytes(o->family), flow % o->clients);
	build_ip(frame + ETH_HLEN, o, source, udp_bytes);
	build_udp(udp, o, source, (uint16_t)(o->sport + flow / o->clients), udp_bytes);
}

/* SplitMix64 (Steele, Lea and Flood 2014). */
static uint64_t random64(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* The flows in the order their frames are sent in: Fisher and Yates' shuffle. */
static unsigned *order_flows(const struct options *o)
{
	unsigned *order = calloc(o->flows, sizeof(*order));
	uint64_t state = o->shuffle;

	if (!order)
		die("no memory for %u flows", o->flows);
	for (unsigned i = 0; i < o->flows; i++) {
		unsigned place = o->shuffle ? (unsigned)(random64(&state) % (i + 1)) : i;

		order[i] = order[place];
		order[place] = i;
	}
	return order;
}

static uint8_t *build_frames(const struct options *o)
{
	unsigned *order = order_flows(o);
	uint8_t *frames = calloc(o->flows, o->size);

	if (!frames)
		die("no memory for %u frames", o->flows);
	for (unsigned i = 0; i < o->flows; i++)
		build_frame(frames + (size_t)i * o->size, o, order[i]);
	free(order);
	return frames;
}

/* ---- sending ---- */

static int open_device(const char *device)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(device),
	};
	int fd = socket(AF_PACKET, SOCK_RAW, 0);   /* protocol 0: receives nothing */
	int one = 1, room = 64 << 20;

	if (fd < 0)
		die("AF_PACKET socket: %s", strerror(errno));
	if (!address.sll_ifindex)
		die("no device %s", device);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die("bind to %s: %s", device, strerror(errno));
	if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)))
		die("PACKET_QDISC_BYPASS: %s", strerror(errno));
	/*
	 * veth leaves a frame on the sender's account until the far end's IP layer has it.  With the
	 * default buffer the generator would wait for the director and no rate could ever be too high.
	 */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)))
		die("SO_SNDBUFFORCE: %s", strerror(errno));
	return fd;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Offer each frame once.  sendmmsg() stops short at a refused frame, and hides the error unless it was the first. */
static void send_burst(int fd, struct mmsghdr *burst, struct result *result)
{
	unsigned done = 0;

	while (done < BURST) {
		int sent = sendmmsg(fd, burst + done, BURST - done, 0);

		if (sent < 0 && errno != ENOBUFS)
			die("sendmmsg: %s", strerror(errno));
		done += sent > 0 ? (unsigned)sent : 0;
		if (done < BURST) {
			done++;
			result->refused++;
		}
	}
	result->sent += BURST;
}

static struct result run(int fd, const struct options *o, uint8_t *frames)
{
	struct iovec parts[BURST];
	struct mmsghdr burst[BURST] = { 0 };
	struct result result = { 0 };
	unsigned next = 0;
	double start = now(), due = start, time;

	for (unsigned i = 0; i < BURST; i++) {
		parts[i].iov_len = o->size;
		burst[i].msg_hdr.msg_iov = &parts[i];
		burst[i].msg_hdr.msg_iovlen = 1;
	}
	while ((time = now()) - start < o->seconds && !(o->count && result.sent >= o->count)) {
		if (time < due)
			continue;
		if (time - due > CATCH_UP / o->rate) {
			due = time;
			result.stalls++;
		}
		for (unsigned i = 0; i < BURST; i++) {
			parts[i].iov_base = frames + (size_t)next * o->size;
			next = next + 1 == o->flows ? 0 : next + 1;
		}
		send_burst(fd, burst, &result);
		due += BURST / o->rate;
	}
	result.seconds = time - start;
	return result;
}

/* ---- options ---- */

static void parse_mac(const char *text, uint8_t *mac)
{
	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
		die("not a MAC address: %s", text);
}

static int parse_address(const char *text, uint8_t *address)
{
	if (inet_pton(AF_INET, text, address) == 1)
		return AF_INET;
	if (inet_pton(AF_INET6, text, address) == 1)
		return AF_INET6;
	die("not an address: %s", text);
}

static const struct option LONG[] = {
	{ "device", required_argument, NULL, 'i' },
	{ "src-mac", required_argument, NULL, 's' },
	{ "dst-mac", required_argument, NULL, 'd' },
	{ "client", required_argument, NULL, 'c' },
	{ "clients", required_argument, NULL, 'C' },
	{ "sport", required_argument, NULL, 'p' },
	{ "server", required_argument, NULL, 'S' },
	{ "dport", required_argument, NULL, 'P' },
	{ "flows", required_argument, NULL, 'f' },
	{ "shuffle", required_argument, NULL, 'x' },
	{ "size", required_argument, NULL, 'z' },
	{ "count", required_argument, NULL, 'n' },
	{ "rate", required_argument, NULL, 'r' },
	{ "seconds", required_argument, NULL, 't' },
	{ NULL, 0, NULL, 0 },
};

static struct options parse_options(int argc, char **argv)
{
	struct options o = {
		.sport = 10000, .clients = 1, .flows = 1000, .size = 60, .rate = 1000, .seconds = 1,
	};
	int server_family = 0;
	bool has_src = false, has_dst = false;
	int c, index = 0;

	while ((c = getopt_long(argc, argv, "", LONG, &index)) != -1) {
		const char *name = c == '?' ? NULL : LONG[index].name;

		switch (c) {
		case 'i': o.device = optarg; break;
		case 's': parse_mac(optarg, o.src_mac); has_src = true; break;
		case 'd': parse_mac(optarg, o.dst_mac); has_dst = true; break;
		case 'c': o.family = parse_address(optarg, o.client); break;
		case 'S': server_family = parse_address(optarg, o.server); break;
		case 'C': o.clients = (unsigned)parse_number(name, optarg, 1, 65536); break;
		case 'p': o.sport = (unsigned)parse_number(name, optarg, 1, 65535); break;
		case 'P': o.dport = (unsigned)parse_number(name, optarg, 1, 65535); break;
		case 'f': o.flows = (unsigned)parse_number(name, optarg, 1, 1 << 22); break;
		case 'x': o.shuffle = (uint64_t)parse_number(name, optarg, 0, 1e9); break;
		case 'n': o.count = (uint64_t)parse_number(name, optarg, 0, 1e12); break;
		case 'z': o.size = (unsigned)parse_number(name, optarg, 42, MAX_FRAME); break;
		case 'r': o.rate = parse_number(name, optarg, 1, 1e8); break;
		case 't': o.seconds = parse_number(name, optarg, 0.001, 86400); break;
		default: exit(2);
		}
	}
	if (!o.device || !has_src || !has_dst || !o.family || !server_family || !o.dport)
		die("needs --device --src-mac --dst-mac --client --server --dport");
	if (o.family != server_family)
		die("--client and --server are of different families");
	if (o.size < headers_bytes(o.family))
		die("--size must be %zu or more for this family", headers_bytes(o.family));
	if (o.sport + (o.flows - 1) / o.clients > 65535)
		die("%u flows do not fit above --sport %u", o.flows, o.sport);
	return o;
}

int main(int argc, char **argv)
{
	struct options o = parse_options(argc, argv);
	uint8_t *frames = build_frames(&o);
	int fd = open_device(o.device);
	struct result result = run(fd, &o, frames);

	printf("{\"sent\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"stalls\": %" PRIu64
	       ", \"seconds\": %.6f, \"pps\": %.0f}\n",
	       result.sent, result.refused, result.stalls, result.seconds,
	       (double)result.sent / result.seconds);
	close(fd);
	free(frames);
	return 0;
}
