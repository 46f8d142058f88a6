"""``pbxctl completion``: scripts for bash and zsh, made of the command line's own description."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

SHELLS = ("bash", "zsh")

#: The words so far say where in the command line the cursor is: /user/add, or /user/add/. after
#: a word that names no further command.
_BASH = """\
# Completion of pbxctl for bash:  eval "$(pbxctl completion bash)"
_pbxctl() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} place="" word i
    local -a config=() found=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        case $word in
            -c|--config) config=(-c "${{COMP_WORDS[i+1]}}"); ((i++)) ;;
            -*) ;;
            *)
                case $place/$word in
                    {places}) place=$place/$word ;;
                    *) place=$place/. ;;
                esac ;;
        esac
    done
    case ${{COMP_WORDS[COMP_CWORD-1]}} in
        {files}) compopt -o default 2>/dev/null; return ;;
    esac
    case $place in
{cases}
    esac
    COMPREPLY=($(compgen -W "${{found[*]}}" -- "$current"))
}}
complete -F _pbxctl pbxctl
"""
_ZSH = """\
# Completion of pbxctl for zsh:  eval "$(pbxctl completion zsh)"
_pbxctl() {{
    local place="" word i
    local -a config found
    for ((i = 2; i < CURRENT; i++)); do
        word=$words[i]
        case $word in
            -c|--config) config=(-c $words[i+1]); ((i++)) ;;
            -*) ;;
            *)
                case $place/$word in
                    {places}) place=$place/$word ;;
                    *) place=$place/. ;;
                esac ;;
        esac
    done
    case $words[CURRENT-1] in
        {files}) _files; return ;;
    esac
    case $place in
{cases}
    esac
    compadd -- $found
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef _pbxctl pbxctl
"""

#: Options that take a file.
_FILES = "-c|--config|--save|-o|--output"
#: What may follow besides words of the command line itself: asked of the PBX and of the database.
_METHODS = """$(pbxctl "${config[@]}" mi which 2>/dev/null | tr -d '[]," ')"""
_USERS = """$(pbxctl "${config[@]}" user list 2>/dev/null | awk 'NR > 1 { print $1 "@" $2 }')"""
_DEFAULT = {"bash": "compopt -o default 2>/dev/null", "zsh": "_files"}


def add_options(command: argparse.ArgumentParser) -> None:
    """Which shell."""
    command.add_argument("shell", choices=SHELLS)


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """What the shell is to evaluate."""
    cases, places = [], []
    for place, words in _places(parser, ""):
        places.append(place)
        then = f"; {_DEFAULT[shell]}" if place == "/import" else ""
        more = ""
        if place == "/mi":
            more = f" {_METHODS}"
        elif place.startswith("/user/") and place not in ("/user/list", "/user/add"):
            more = f" {_USERS}"
        cases.append(f'        "{place}") found=({" ".join(words)}{more}){then} ;;')
    text = _BASH if shell == "bash" else _ZSH
    return text.format(places="|".join(filter(None, places)), files=_FILES, cases="\n".join(cases))


def _places(parser: argparse.ArgumentParser, place: str) -> Iterator[tuple[str, list[str]]]:
    """Each place in the command line, and the words that may follow there."""
    words: list[str] = []
    inner: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            inner = action.choices
            words += inner
        elif action.choices is not None:
            words += map(str, action.choices)
        words += action.option_strings
    yield place, words
    for name, parser_ in inner.items():
        yield from _places(parser_, f"{place}/{name}")
