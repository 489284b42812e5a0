# SPDX-License-Identifier: Apache-2.0
"""The pure core: decides what happens to a packet.  No I/O, no clock, no randomness, no logging."""
