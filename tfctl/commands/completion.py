"""Print a completion script. bash: source <(tfctl completion bash) in ~/.bashrc; the others alike."""

from __future__ import annotations

import argparse

from tfctl.__main__ import ALIASES, COMMANDS

TAKES_JOB = "status logs metrics cancel hold release update retry wait why events path rm"

BASH = """\
_tfctl() {
    local word=${COMP_WORDS[COMP_CWORD]}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "@COMMANDS@" -- "$word"))
    elif [[ " @JOBS@ " == *" ${COMP_WORDS[1]} "* && "$word" != -* ]]; then
        local ids=$(tfctl status --no-autostart 2>/dev/null | awk 'NR>1{print $1}')
        COMPREPLY=($(compgen -W "@ $ids" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}
complete -o filenames -F _tfctl tfctl trainforge
"""
ZSH = """\
#compdef tfctl trainforge
_tfctl() {
    if (( CURRENT == 2 )); then
        compadd @COMMANDS@
    elif [[ " @JOBS@ " == *" ${words[2]} "* ]]; then
        compadd @ ${(f)"$(tfctl status --no-autostart 2>/dev/null | awk 'NR>1{print $1}')"}
    else
        _files
    fi
}
compdef _tfctl tfctl trainforge
"""
FISH = """\
complete -c tfctl -f -n __fish_use_subcommand -a "@COMMANDS@"
complete -c tfctl -f -n "__fish_seen_subcommand_from @JOBS@" \\
    -a "(tfctl status --no-autostart 2>/dev/null | awk 'NR>1{print \\$1}')"
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(SCRIPTS))


def run(args: argparse.Namespace) -> int:
    commands = " ".join(sorted([*COMMANDS, *ALIASES]))
    print(SCRIPTS[args.shell].replace("@COMMANDS@", commands).replace("@JOBS@", TAKES_JOB), end="")
    return 0
