// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* Protocol numbers.  Twin of fullnat/core/addr.py, whose addresses and endpoints are for people. */
#ifndef FULLNAT_CORE_ADDR_H
#define FULLNAT_CORE_ADDR_H

enum fn_protocol {
	FN_ICMP = 1,
	FN_TCP = 6,
	FN_UDP = 17,
	FN_ICMPV6 = 58,
};

#endif
