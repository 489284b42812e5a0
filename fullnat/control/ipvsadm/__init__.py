# SPDX-License-Identifier: Apache-2.0
"""ipvsadm(8) spoken to a running instance: its commands carried out, its listings made of what there is.

changes: a command makes another Config of a Config · views: what is listed · shim: one command line.
"""
