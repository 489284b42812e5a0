// SPDX-License-Identifier: Apache-2.0
/*
 * One NFQUEUE number: packets from the kernel in batches, and the verdicts on them.
 *
 *     received   [ headroom | nlmsghdr nfgenmsg attributes... | IP packet ]     one slot of the buffer
 *     sent                              [ verdict of 44 bytes | IP packet ]     one iovec
 *
 * A verdict is built where the packet lies, in the bytes before it, so what was received and
 * rewritten in place goes back without being copied by us, and a batch is two system calls.
 *
 * Rules.
 *   1. Packets come whole and as the kernel has them: GSO packets unsegmented, checksums perhaps
 *      not computed yet (see offload.h, which must have the last word on a rewritten packet).
 *   2. A packet without a rewrite gets a verdict without payload: the kernel keeps what it knows of it.
 *   3. What the kernel could not hand over whole is never sent back, only accepted or dropped.
 *   4. Each packet of a batch gets one verdict, before the next batch is received.  Data that is
 *      needed longer must be copied; such a packet's verdict is sent with fn_queue_verdict().
 *   5. A GSO packet that cannot be handled whole (too large, or see offload.h) is passed on, as it
 *      came, to a second queue that is opened `segmented`, and comes back from there in pieces.
 *   6. One thread receives, adds verdicts and flushes.  fn_queue_verdict() and
 *      fn_queue_statistics() may be called by any.
 *
 * Refused.  Fail-open: a packet that is not translated would reach the local stack, which resets
 *           the connection.
 *           NFQNL_MSG_VERDICT_BATCH: it has no payload, and the packets we keep would get it too.
 */
#ifndef FULLNAT_NATIVE_QUEUE_H
#define FULLNAT_NATIVE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
	FN_QUEUE_BATCH = 64,             /* packets */
	FN_QUEUE_PACKET_MAX = 65531,     /* NFQNL_MAX_COPY_RANGE, linux/netfilter/nfnetlink_queue.c */
	FN_QUEUE_LENGTH_MAX = 65536,     /* packets; the kernel's hash of them takes no more */
	FN_QUEUE_SEND_MAX = 256 << 10,   /* bytes: the kernel takes one buffer for all that is sent at once */
	FN_QUEUE_VERDICT = 44,           /* bytes that a verdict needs before the packet */
};

/* One packet of a batch. */
struct fn_packet {
	uint8_t *data;     /* the IP packet; verdicts overwrite FN_QUEUE_VERDICT bytes before it */
	uint32_t size;
	uint32_t id;       /* by which the kernel knows it */
	uint32_t mark;
	uint8_t hook;      /* NF_INET_PRE_ROUTING, ... */
	uint8_t offload;   /* FN_OFFLOAD_*, offload.h */
	bool truncated;    /* not all of it is here */
};

/* What is asked of the kernel; 0 is the default. */
struct fn_queue_limits {
	uint32_t length;           /* packets it keeps for us: 8192, at most FN_QUEUE_LENGTH_MAX */
	uint32_t receive_buffer;   /* bytes: 64 MiB; a small packet is charged with about 1 KiB */
	uint32_t send_buffer;      /* bytes: 8 MiB */
	bool segmented;            /* let the kernel segment GSO packets and complete checksums first */
};

/* Why a queue cannot be had. */
struct fn_queue_error {
	int code;                  /* errno; EPROTONOSUPPORT: the kernel has no NFQUEUE */
	char text[256];            /* one line for people */
};

struct fn_queue_statistics {
	uint64_t packets;           /* received */
	uint64_t bytes;             /* of these packets */
	uint64_t batches;
	uint64_t truncated;         /* packets not handed over whole */
	uint64_t malformed;         /* messages of the kernel that say nothing we could act on */
	uint64_t errors;            /* verdicts refused: the packet was gone already */
	uint64_t receive_errors;
	uint64_t send_errors;       /* verdicts not taken for lack of memory: their packets were dropped */
};

struct fn_queue {
	int fd;                                       /* to poll */
	uint16_t number;
	uint32_t send_max;                            /* bytes at once, if there is more than one verdict */
	uint32_t pending;                             /* verdicts */
	struct fn_packet packets[FN_QUEUE_BATCH];     /* the batch */
	struct iovec verdicts[FN_QUEUE_BATCH];
	struct fn_queue_buffer *buffer;
	struct fn_queue_statistics statistics;
};

/*
 * Bind queue *number* in the network namespace of the calling thread; return 0, or an errno with
 * *error* filled when the host cannot.
 */
int fn_queue_open(struct fn_queue *queue, uint16_t number, const struct fn_queue_limits *limits,
		  struct fn_queue_error *error);

/* Unbind.  What waits in the kernel is dropped by it. */
void fn_queue_close(struct fn_queue *queue);

/*
 * Receive what is there, at most FN_QUEUE_BATCH packets: fill *packets* and return how many.  With
 * *wait* sleep until there is a message; of those that come some are no packets, so it may be 0.
 */
int fn_queue_receive(struct fn_queue *queue, bool wait);

/* Have fn_queue_receive(), which waits on another thread or soon will, return: the kernel sends it a message. */
void fn_queue_wake(struct fn_queue *queue);

/* Let *packet* of this batch go on with *mark*, as it lies in its buffer now if it was *rewritten*. */
void fn_queue_accept(struct fn_queue *queue, const struct fn_packet *packet, uint32_t mark, bool rewritten);
/* Let *packet*, which was rewritten, begin the hook again with *mark*. */
void fn_queue_repeat(struct fn_queue *queue, const struct fn_packet *packet, uint32_t mark);
void fn_queue_drop(struct fn_queue *queue, const struct fn_packet *packet);
/* Pass *packet*, which was not rewritten, on to queue *number*. */
void fn_queue_pass_on(struct fn_queue *queue, const struct fn_packet *packet, uint16_t number);

/* Send the verdicts added since the last time. */
void fn_queue_flush(struct fn_queue *queue);

/*
 * Send one verdict (NF_ACCEPT, NF_REPEAT, NF_DROP) on a packet of an earlier batch: 0, or -errno.
 * *payload*, unless NULL, replaces the packet; never for one that was truncated.
 */
int fn_queue_verdict(struct fn_queue *queue, uint32_t id, uint32_t verdict, uint32_t mark,
		     const uint8_t *payload, uint32_t size);

/* Copy the counters. */
void fn_queue_statistics(const struct fn_queue *queue, struct fn_queue_statistics *statistics);

/* What a message from the kernel is. */
enum fn_queue_message {
	FN_QUEUE_PACKET,      /* *packet* is filled */
	FN_QUEUE_REFUSAL,     /* a verdict came too late */
	FN_QUEUE_MALFORMED,
	FN_QUEUE_OTHER,       /* nothing to act on */
};

/* Parse *message* of *size* bytes where it lies.  Nothing beyond it is read. */
enum fn_queue_message fn_queue_parse(uint8_t *message, uint32_t size, struct fn_packet *packet);

#endif
