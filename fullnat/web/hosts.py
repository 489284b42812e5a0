# SPDX-License-Identifier: Apache-2.0
"""By which names the status page may be called, as the Host header tells them.

Theory.  The page has no password, so a browser of the same host must not be led to it by a page of
somebody else.  Such a page cannot read answers of another origin, but it can make its own name point
at 127.0.0.1 after it was loaded (DNS rebinding), and is the same origin then.  What it cannot do is
change the Host header, which still has its name.

So a name is taken only if it was configured.  An address needs no name, and `localhost` no DNS: both
are taken, whatever port, for behind `ssh -L` the port is another.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address

_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<other>[^\[\]:/?#@\s]+))(?::[0-9]{1,5})?")


def is_own_host(header: str, names: Collection[str]) -> bool:
    """Whether *header*, the Host of a request, is an address, localhost, or one of *names*."""
    match = _HOST.fullmatch(header)
    if match is None:
        return False
    host = (match["v6"] or match["other"]).lower().removesuffix(".")
    return host == "localhost" or host in names or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
