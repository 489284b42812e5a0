# SPDX-License-Identifier: Apache-2.0
"""What a terminal sends, as keys: a character stands for itself, the others have names."""

from __future__ import annotations

import codecs
import re

_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O[A-Za-z])")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*|O)\Z")
_NAMES = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
}


class Decoder:
    """Turns bytes into keys; what a read cut in two is kept until the rest is there."""

    def __init__(self) -> None:
        self._text = ""
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="ignore")

    def feed(self, data: bytes) -> list[str]:
        """Return the keys in *data*; a key nobody has a name for is left out."""
        text, self._text, keys = self._text + self._utf8.decode(data), "", []
        place = 0
        while place < len(text):
            if _UNFINISHED.match(text, place):
                self._text = text[place:]
                break
            match = _SEQUENCE.match(text, place)
            word = match[0] if match else text[place]
            place += len(word)
            if word in _NAMES:
                keys.append(_NAMES[word])
            elif not match and word.isprintable():
                keys.append(word)
        return keys
