# SPDX-License-Identifier: Apache-2.0
"""The bench: every peer measured in one run, in turns, on one lab.  docs/bench.md explains it."""
