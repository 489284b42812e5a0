// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * TCP as the middle of the path sees it: a state per flow, and from it the idle timeout.
 *
 * Twin of fullnat/core/tcp.py, which has the drawing and the rules.
 */
#ifndef FULLNAT_CORE_TCP_H
#define FULLNAT_CORE_TCP_H

#include "packet.h"

/* Where a connection stands. */
enum fn_tcp_state {
	FN_SYN_SENT,
	FN_SYN_RECEIVED,
	FN_ESTABLISHED,
	FN_CLIENT_FIN,
	FN_SERVER_FIN,
	FN_CLOSING,
	FN_CLIENT_RESET,
	FN_SERVER_RESET,
	FN_TCP_STATES,
};

/* Whether a UDP flow was answered yet. */
enum fn_udp_state { FN_UNREPLIED, FN_REPLIED };

/* The idle timeouts of a service, in the order of the fields of Timeouts in fullnat/core/timeouts.py. */
enum fn_timeout {
	FN_TIMEOUT_TCP_OPENING,
	FN_TIMEOUT_TCP_ESTABLISHED,
	FN_TIMEOUT_TCP_CLOSING,
	FN_TIMEOUT_TCP_RESET,
	FN_TIMEOUT_UDP,
	FN_TIMEOUT_UDP_UNREPLIED,
	FN_TIMEOUT_ICMP,
	FN_TIMEOUTS,
};

/* Return the state after a segment with *flags* from the client (*inbound*) or the server. */
static inline enum fn_tcp_state fn_tcp_next_state(enum fn_tcp_state state, uint8_t flags, bool inbound)
{
	enum {
		SS = FN_SYN_SENT, SR = FN_SYN_RECEIVED, ES = FN_ESTABLISHED, CF = FN_CLIENT_FIN,
		SF = FN_SERVER_FIN, CL = FN_CLOSING, CR = FN_CLIENT_RESET, RR = FN_SERVER_RESET,
	};
	static const uint8_t transitions[8][8] = {
		/* client: ACK  FIN  SYN  RST | server: ACK  FIN  SYN  RST */
		[SS] = {    SS,  SS,  SS,  CR,           SS,  SS,  SR,  RR },
		[SR] = {    ES,  CF,  SR,  CR,           SR,  SF,  SR,  RR },
		[ES] = {    ES,  CF,  ES,  CR,           ES,  SF,  ES,  RR },
		[CF] = {    CF,  CF,  CF,  CR,           CF,  CL,  CF,  RR },
		[SF] = {    SF,  CL,  SF,  CR,           SF,  SF,  SF,  RR },
		[CL] = {    CL,  CL,  CL,  CL,           CL,  CL,  CL,  CL },
		[CR] = {    ES,  CF,  CR,  CR,           CR,  CR,  CR,  RR },
		[RR] = {    RR,  RR,  RR,  CR,           ES,  SF,  RR,  RR },
	};
	uint32_t column = flags & FN_RST ? 3 : flags & FN_SYN ? 2 : flags & FN_FIN ? 1 : 0;

	column += inbound ? 0 : 4;
	/* This changes nothing, nor do the masks: the verifier of BPF programs wants to see bounds (Linux 6.1: no OR). */
	__asm__("" : "+r"(column));
	return (enum fn_tcp_state)transitions[state & 7][column & 7];
}

/* Whether a segment asks for a new connection: SYN, and neither ACK, RST nor FIN. */
static inline bool fn_tcp_is_opening_syn(uint8_t flags)
{
	return (flags & (FN_SYN | FN_ACK | FN_RST | FN_FIN)) == FN_SYN;
}

/* Whether a new SYN reopens a flow in *state*. */
static inline bool fn_tcp_is_reopenable(enum fn_tcp_state state)
{
	return state == FN_CLOSING || state == FN_CLIENT_RESET || state == FN_SERVER_RESET;
}

/* Return which of the idle timeouts counts in *state*. */
static inline enum fn_timeout fn_tcp_state_timeout(enum fn_tcp_state state)
{
	if (state == FN_ESTABLISHED || state == FN_CLIENT_FIN || state == FN_SERVER_FIN)
		return FN_TIMEOUT_TCP_ESTABLISHED;
	if (state == FN_SYN_SENT || state == FN_SYN_RECEIVED)
		return FN_TIMEOUT_TCP_OPENING;
	return state == FN_CLOSING ? FN_TIMEOUT_TCP_CLOSING : FN_TIMEOUT_TCP_RESET;
}

#endif
