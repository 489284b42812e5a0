# SPDX-License-Identifier: Apache-2.0
"""`fullnat top`: a running instance, live in a terminal, with keys to operate its servers.

meter: counters become rates · states: one word for how it is · picture: what is shown, of what was
answered · keys: bytes become keys · controls: keys become choices and commands · render: all of it as
lines · terminal: the screen, and back as it was · session: the loop.  All but the last two are pure.
"""
