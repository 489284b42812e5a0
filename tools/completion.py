# SPDX-License-Identifier: Apache-2.0
"""Scripts that have a shell ask fullnat how a word may go on."""

from __future__ import annotations

from click import shell_completion

from fullnat.cli import commands

# click's own splits words at colons, of which addresses are full; bash-completion, which loads this
# file, has what it takes not to.
_BASH = """\
# {comment}
_fullnat_completion() {{
    local cur words cword kind value
    _get_comp_words_by_ref -n : cur words cword
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_WORDS="${{words[*]}}" COMP_CWORD=$cword _FULLNAT_COMPLETE=bash_complete "$1" 2>/dev/null)
    __ltrimcolon_completions "$cur"
}}

complete -o nosort -F _fullnat_completion fullnat
"""


def bash(comment: str) -> str:
    """Return the script for bash."""
    return _BASH.format(comment=comment)


def zsh(comment: str) -> str:
    """Return the script for zsh, which looks for #compdef in the first line."""
    compdef, rest = _of_click(shell_completion.ZshComplete).split("\n", 1)
    return f"{compdef}\n# {comment}\n{rest}"


def fish(comment: str) -> str:
    """Return the script for fish."""
    return f"# {comment}\n{_of_click(shell_completion.FishComplete)}"


def _of_click(shell: type[shell_completion.ShellComplete]) -> str:
    return shell(commands, {}, "fullnat", "_FULLNAT_COMPLETE").source().strip() + "\n"
