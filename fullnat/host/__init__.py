# SPDX-License-Identifier: Apache-2.0
"""What fullnat changes on the host: rules, sysctls and addresses; set, verified and put back.

host.py composes the parts.  Imports fullnat.core only; programs (ip, ipset, iptables-restore) run
when something is set, verified or put back, never for a packet.
"""
