# SPDX-License-Identifier: Apache-2.0
"""keepalived.conf(5), with the words of DPVS's fork.

    text --lines--> lines --blocks--> tree --services--> services --assemble--> document
             include, $VAR, @id          groups, checks

Of the file only what LVS does is taken: virtual servers, their groups and checks, the timeouts, the
local addresses.  Each other block is told in one line, with what takes its place if anything does.
"""

from __future__ import annotations

from fullnat.importers.document import Document, Service
from fullnat.importers.keepalived.blocks import read_blocks
from fullnat.importers.keepalived.globals import read_globals
from fullnat.importers.keepalived.lines import Include, read_lines
from fullnat.importers.keepalived.services import read_service

__all__ = ["Include", "read"]


def read(
    document: Document, text: str, include: Include, config_id: str, keep_forwarding: bool
) -> list[Service]:
    """Return the services of *text*; what is global goes to *document* at once."""
    top = read_blocks(read_lines(document.path, text, include, config_id, document.notes))
    known = read_globals(top, document)
    services = []
    for setting in top:
        if setting.keyword == "virtual_server":
            services += read_service(setting, known, document, keep_forwarding)
    return services
