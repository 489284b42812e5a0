# SPDX-License-Identifier: Apache-2.0
"""The text format of Prometheus (exposition formats, 0.0.4): families of samples as lines; pure.

Written here because it is a page, and the client library's is about counters it keeps itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Number = int | float


@dataclass(slots=True)
class Family:
    """One metric: its name, what it means, and its samples."""

    name: str
    kind: str  # counter or gauge
    meaning: str
    samples: list[tuple[Mapping[str, str], Number]] = field(default_factory=list)

    def add(self, value: Number, **labels: str) -> None:
        """Have it be *value* where the labels are these."""
        self.samples.append((labels, value))

    def lines(self) -> Iterable[str]:
        """Yield it as text; nothing without samples."""
        if not self.samples:
            return
        yield f"# HELP {self.name} {_escaped(self.meaning)}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.samples:
            pairs = ",".join(f'{key}="{_escaped(text, quote=True)}"' for key, text in labels.items())
            yield f"{self.name}{{{pairs}}} {_number(value)}" if pairs else f"{self.name} {_number(value)}"


def render(families: Iterable[Family]) -> str:
    """Return all of *families*."""
    return "".join(f"{line}\n" for family in families for line in family.lines())


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: Number) -> str:
    return str(value) if isinstance(value, int) else repr(value)
