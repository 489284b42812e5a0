# SPDX-License-Identifier: Apache-2.0
"""The interface of a running instance: HTTP and JSON, as docs/api.md has it.

read: GET · change: POST · openapi: its description · answer: how it says no · server: the unix socket.
"""
