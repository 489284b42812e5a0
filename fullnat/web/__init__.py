# SPDX-License-Identifier: Apache-2.0
"""The status page: what an instance is doing, in a browser, and nothing that changes it."""
