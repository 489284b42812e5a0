# SPDX-License-Identifier: Apache-2.0
"""Send whole IP packets, given in hexadecimal on standard input, one a line: send_raw.py DESTINATION."""

import socket
import sys

destination = sys.argv[1]
family = socket.AF_INET6 if ":" in destination else socket.AF_INET
with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    for line in sys.stdin:
        raw.sendto(bytes.fromhex(line.strip()), (destination, 0))
