# SPDX-License-Identifier: Apache-2.0
"""fullnat: full NAT load balancing; a client's CIP->VIP leaves as LIP->RIP, and back."""

__version__ = "0.1.0"
