# SPDX-License-Identifier: Apache-2.0
"""Health checks: ask a server whether it works, the way its clients would, and tell who wants to know.

    check     what is to be asked, and what came of it: values, no I/O
    probe     one question within its time; what it ran into becomes a code
    tcp http dns udp icmp smtp script file   one kind of question each
    wire      sockets from a given source address, TLS          reply    HTTP/1.1 answers
    monitor   all questions of a director at their times; core/health.py judges the answers

Rules.
  1. A peer may send anything at any speed: what is read is bounded in bytes, and in time by the timeout.
  2. What a peer does never raises out of a check; it is a Result.  Our own trouble (no descriptors, a
     source address that is not here) is SOCKERR, and says nothing about the server.
  3. Whatever a check opened or started is closed or ended when it returns, cancelled or not.
"""
