# SPDX-License-Identifier: Apache-2.0
"""Many UDP flows from one program: udp_flows.py ADDRESS PORT FIRST COUNT, from ports FIRST and on.

Prints `up` when the sockets are there.  For each line `send A B` on standard input, sends a datagram from
the sockets A to B-1, as fast as it can, and prints how many that were; for each line `answers SECONDS`,
prints how many of the sockets that sent since the last such line had their answer, when all have or
that time is over.
"""

import resource
import select
import socket
import sys
import time

address, port, first, count = sys.argv[1], *map(int, sys.argv[2:])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
sockets = []
poll = select.epoll()
for number in range(count):
    flow = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        flow.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    flow.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", first + number))
    flow.connect((address, port))
    flow.setblocking(False)
    poll.register(flow, select.EPOLLIN)
    sockets.append(flow)
by_descriptor = {flow.fileno(): flow for flow in sockets}
asked: dict[int, bytes] = {}  # by descriptor, what was sent last
answered: set[int] = set()


def collect(timeout: float) -> None:
    """Take what has come within *timeout*."""
    for descriptor, _ in poll.poll(timeout, 4096):
        try:
            if by_descriptor[descriptor].recv(65535) == asked.get(descriptor):
                answered.add(descriptor)
        except OSError:  # an ICMP error: no answer
            pass


print("up", flush=True)
for turn, line in enumerate(sys.stdin):
    word, *arguments = line.split()
    if word == "send":
        begin, end = map(int, arguments)
        for number in range(begin, end):
            flow, data = sockets[number], b"%d of turn %d" % (number, turn)
            asked[flow.fileno()] = data
            try:
                flow.send(data)
            except OSError:  # an ICMP error that came for the one before
                flow.send(data)
            if number % 64 == 0:
                collect(0)
        print(end - begin, flush=True)
    else:
        deadline = time.monotonic() + float(arguments[0])
        while len(answered) < len(asked) and (left := deadline - time.monotonic()) > 0:
            collect(left)
        print(len(answered), flush=True)
        asked.clear()
        answered.clear()
