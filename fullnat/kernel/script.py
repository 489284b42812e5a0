# SPDX-License-Identifier: Apache-2.0
"""Shell that puts rules of an instance in place of those it has: each family's in one step, and all or none.

iptables-restore takes a table at once, so what is there goes and what is wanted comes in the same step;
what is there is found by its names.  It is kept as well, and put back when anything after it fails.
"""

from __future__ import annotations

from collections.abc import Iterable

from fullnat.kernel.iptables import Rules
from fullnat.kernel.names import chain_name

PROGRAMS = {4: "iptables", 6: "ip6tables"}
_TABLES = ("filter", "nat")

_FUNCTIONS = r"""
# ours PROGRAM TABLE: chains and rules of instance @INSTANCE@, as PROGRAM-save prints them
ours() {
	"$1-save" 2>/dev/null | sed -n "/^\*$2\$/,/^COMMIT/p" | sed -n \
		-e 's/^\(:@CHAIN@\.[^ ]*\) .*/\1 - [0:0]/p' \
		-e '/^-A @CHAIN@\./{p;d;}' \
		-e '/ -j @CHAIN@\.[a-z0-9]*$/p'
}

# saved PROGRAM: all of them, as input of load
saved() {
	for table in @TABLES@; do
		echo "*$table"
		ours "$1" "$table" | sed 's/^-A \([A-Z]*\) /-I \1 1 /'
		echo COMMIT
	done
}

# load PROGRAM: the rules on stdin, in place of ours, in one step
load() {
	while IFS= read -r line; do
		printf '%s\n' "$line"
		case $line in
		\**)
			old=$(ours "$1" "${line#?}")
			printf '%s\n' "$old" | sed -n -e '/^:/p'
			printf '%s\n' "$old" | sed -n -e '/^-A @CHAIN@\./!s/^-A /-D /p'
			printf '%s\n' "$old" | sed -n -e 's/^:\([^ ]*\) .*/-X \1/p'
			;;
		esac
	done | "$1-restore" --noflush
}

# have PROGRAM RULES: the same, unless they are there
have() {
	[ "$(saved "$1")" = "$2" ] || printf '%s\n' "$2" | load "$1"
}
"""


def functions(instance: str) -> list[str]:
    """Return the shell functions `ours`, `saved`, `load` and `have`, for the rules of *instance*."""
    replacements = {"INSTANCE": instance, "CHAIN": chain_name(instance), "TABLES": " ".join(_TABLES)}
    text = _FUNCTIONS
    for name, value in replacements.items():
        text = text.replace(f"@{name}@", value)
    return text.rstrip("\n").splitlines()


def refusal(instance: str) -> list[str]:
    """Return the lines that end the script where fullnat itself has rules of *instance*."""
    chain = chain_name(instance)
    return [
        "if { iptables-save; ip6tables-save; } 2>/dev/null | " + f"grep -q '^:{chain} '; then",
        f"\techo 'fullnat runs here as instance {instance}, or has left its rules:'"
        f" 'fullnat stop --instance {instance}' >&2",
        "\texit 1",
        "fi",
    ]


def put_back(first: Iterable[str] = ()) -> list[str]:
    """Return the lines from which on a failure puts all back; *first* is done before the rules."""
    return [
        "",
        *(f"{program}=$(saved {program})" for program in PROGRAMS.values()),
        "put_back() {",
        *(f"\t{line}" for line in first),
        *(f'\thave {program} "${program}"' for program in PROGRAMS.values()),
        '\techo "$0: failed; all is as it was before" >&2',
        "}",
        "trap '[ $? = 0 ] || put_back' EXIT",
        "trap 'exit 1' HUP INT TERM",
        "",
    ]


def load(rules: Rules, family: int) -> list[str]:
    """Return the lines that have *rules* in place of those that are there."""
    return [f"load {PROGRAMS[family]} <<'EOF'", rules.text().rstrip("\n"), "EOF"]


def unload(family: int) -> list[str]:
    """Return the line that takes out what rules of *family* there are."""
    nothing = "".join(rf"*{table}\nCOMMIT\n" for table in _TABLES)
    return [f"have {PROGRAMS[family]} \"$(printf '{nothing}')\""]
