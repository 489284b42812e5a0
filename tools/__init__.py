# SPDX-License-Identifier: Apache-2.0
"""What is run by hand or by make: generators, and recorders of what other programs say."""
