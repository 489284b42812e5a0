# SPDX-License-Identifier: Apache-2.0
"""The hash of dh, sh and mh: a pure function of address and port, the same in every process.

No seed on purpose: two balancers, or one before and after a restart, must send a client to the
same server.  A client can therefore choose its server by choosing its address, as with IPVS.

Each 64-bit word is folded in by the finaliser of SplitMix64 (see core/prng.py), a bijection that
spreads every input bit over all output bits.  IPVS folds an IPv6 address to 32 bits and multiplies
once; neighbouring addresses then land in patterns, hence not the same function here.
"""

from __future__ import annotations

from fullnat.core.addr import IPAddress

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_GOLDEN = 0x9E37_79B9_7F4A_7C15


def mix64(value: int) -> int:
    """Return *value* (64 bits) with every bit spread over all 64."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
    return value ^ (value >> 31)


def hash_endpoint(address: IPAddress, port: int, salt: int = 0) -> int:
    """Return 64 bits that depend on all of *address*, *port* and *salt*."""
    number = int(address)
    state = mix64(_GOLDEN ^ salt)
    if address.version == 6:
        state = mix64(state ^ (number >> 64))
    state = mix64(state ^ (number & _MASK))
    return mix64(state ^ port)


def rehash(value: int, attempt: int) -> int:
    """Return the *attempt*-th further hash of *value*."""
    return mix64(value + attempt * _GOLDEN)
