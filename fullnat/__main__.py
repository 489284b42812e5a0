# SPDX-License-Identifier: Apache-2.0
"""`python -m fullnat` is `fullnat`."""

from fullnat.cli import main

main()
