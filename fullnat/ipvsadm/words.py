# SPDX-License-Identifier: Apache-2.0
"""How words become options: popt's way, which ipvsadm is built with.

Rules.
  1. Short options stand together (-Lcn), the last with its value (-Lt203.0.113.10:80) or before it.
  2. A value may stand behind `=` with both forms: --weight=3, -w=3.  What takes none refuses it.
  3. A value that is needed may start with a dash; one that may be left out may not.
  4. Other words are kept for later, wherever they stand; behind -- all are.
  5. Names are written in full.  getopt_long takes what is unambiguous, popt does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fullnat.ipvsadm.options import LONG, Option, Takes

UNKNOWN = "unknown option"
NO_VALUE = "missing argument"
UNWANTED = "option does not take an argument"


class BadWord(Exception):
    """A word that is no option, or half of one."""

    def __init__(self, word: str, reason: str) -> None:
        super().__init__(f"{word}: {reason}")


class Words:
    """The words of one command, taken option by option."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv
        self._next = 0
        self._letters = ""  # short options left of the last word
        self._only_rest = False
        self.rest: list[str] = []  # what is neither an option nor a value

    @property
    def last(self) -> str:
        """The word that was taken last: what errors name."""
        return self._argv[self._next - 1]

    def take(self, short: Mapping[str, Option]) -> tuple[Option, str | None] | None:
        """Return the next option and its value, or None at the end; BadWord where it is none.

        *short* are the options by letter, which depend on the command.
        """
        while not self._letters:
            if self._next == len(self._argv):
                return None
            word = self._argv[self._next]
            self._next += 1
            if self._only_rest or not word.startswith("-") or word == "-":
                self.rest.append(word)
            elif word == "--":
                self._only_rest = True
            elif word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                return self._with_value(LONG.get(name), value if equals else None)
            else:
                self._letters = word[1:]
        letter, self._letters = self._letters[0], self._letters[1:]
        option = short.get(letter)
        own: str | None = None
        if self._letters.startswith("=") or (option and self._letters and option.takes is not Takes.NOTHING):
            own, self._letters = self._letters.removeprefix("="), ""
        return self._with_value(option, own)

    def _with_value(self, option: Option | None, value: str | None) -> tuple[Option, str | None]:
        if option is None:
            raise BadWord(self.last, UNKNOWN)
        if option.takes is Takes.NOTHING and value is not None:
            raise BadWord(self.last, UNWANTED)
        if option.takes is not Takes.NOTHING and value is None:
            value = self._next_word(option)
        return option, value

    def _next_word(self, option: Option) -> str | None:
        is_there = self._next < len(self._argv)
        if option.takes is Takes.MAYBE and not (is_there and not self._argv[self._next].startswith("-")):
            return None
        if not is_there:
            raise BadWord(self.last, NO_VALUE)
        self._next += 1
        return self.last
