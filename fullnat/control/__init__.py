# SPDX-License-Identifier: Apache-2.0
"""What runs a director: its configuration, its daemon and its control socket."""
