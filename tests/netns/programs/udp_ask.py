# SPDX-License-Identifier: Apache-2.0
"""A UDP client: udp_ask.py ADDRESS PORT SIZE...; for each size one datagram of random bytes.

Prints a line for each: `same`, `different`, `timeout`, or the name of the error.  The socket is
connected, so that ICMP errors come back as errors.
"""

import errno
import os
import socket
import sys

address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as client:
    client.settimeout(2)
    client.connect((address, port))
    for size in map(int, sys.argv[3:]):
        data = os.urandom(size)
        try:
            client.send(data)
            print("same" if client.recv(65535) == data else "different", flush=True)
        except TimeoutError:
            print("timeout", flush=True)
        except OSError as error:
            print(errno.errorcode[error.errno or 0], flush=True)
