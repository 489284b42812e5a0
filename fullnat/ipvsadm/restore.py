# SPDX-License-Identifier: Apache-2.0
"""The lines of `ipvsadm -R`: a command each, as -S writes them.

Rules.
  1. Words are what white space parts; there are no quotes.  The word ipvsadm is passed over.
  2. Lines without words are passed over, and so are those that start with #.
  3. A line that is refused ends the restore, unless Refused.is_final says otherwise; what the lines before
     it did stays.  The exit status is that of the last line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def split_lines(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the words of each line that has a command."""
    for line in lines:
        words = [word for word in line.split() if word != "ipvsadm"]
        if words and not words[0].startswith("#"):
            yield words
