# SPDX-License-Identifier: Apache-2.0
"""Engines: they move packets and obey decisions."""
