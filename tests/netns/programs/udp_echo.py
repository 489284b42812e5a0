# SPDX-License-Identifier: Apache-2.0
"""A UDP echo server: udp_echo.py ADDRESS PORT; prints `up`, then every peer it answers."""

import socket
import sys

address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as server:
    server.bind((address, port))
    print("up", flush=True)
    while True:
        data, peer = server.recvfrom(65535)
        print(peer[0], peer[1], len(data), flush=True)
        server.sendto(data, peer)
