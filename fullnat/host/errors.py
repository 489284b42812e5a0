# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between fullnat and its host: one line each, naming the remedy."""

from __future__ import annotations


class HostError(Exception):
    """The host lacks something, or refuses it; str() is one line with the remedy."""


class MissingPrivilegeError(HostError):
    """The process may not change the network namespace it is in."""


class InstanceConflictError(HostError):
    """Another live instance in this network namespace has what this one claims."""
