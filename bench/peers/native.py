# SPDX-License-Identifier: Apache-2.0
"""Engine `native`: packets go through a loop in C, Python decides nothing but what users wrote."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import ClassVar

from bench.peers.fullnat import Fullnat


class Native(Fullnat):
    """The engine in C, as it comes."""

    name: ClassVar[str] = "native"
    title: ClassVar[str] = "fullnat, engine native"
    datapath: ClassVar[str] = "native"

    @classmethod
    def missing(cls) -> str | None:
        """Say what is the matter with the program, else that the extension was not built."""
        built = find_spec("fullnat._native") is not None
        return super().missing() or (None if built else "fullnat._native was not built: make setup")


class NativeTuned(Native):
    """The engine in C on a host set up for overload."""

    name: ClassVar[str] = "native-tuned"
    title: ClassVar[str] = "fullnat, engine native, [engine] tune = true"
    engine: ClassVar[Mapping[str, object]] = {"tune": True}
