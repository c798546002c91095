"""Print a completion script. bash: source <(tfctl completion bash) in ~/.bashrc; the others alike.

It completes commands, their options, and the numbers of jobs and GPUs.
"""

from __future__ import annotations

import argparse

from tfctl.__main__ import ALIASES, COMMANDS

TAKES_JOB = (
    "status", "logs", "metrics", "compare", "cancel", "hold", "release", "update", "retry", "wait", "why",
    "events", "path", "rm",
)  # fmt: skip
TAKES_GPU = ("drain", "undrain")
WORDS = {"daemon": "start stop status install uninstall", "completion": "bash zsh fish"}

BASH = """\
_tfctl() {
    local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} found
    if [ "$COMP_CWORD" -eq 1 ]; then
        found="@COMMANDS@"
    elif [[ "$word" == -* ]]; then
        found=$(tfctl "$command" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]+')
    else
        case $command in
            @JOBS@) found="@ $(tfctl status --no-autostart 2>/dev/null | awk 'NR>1{print $1}')" ;;
            @GPUS@) found=$(tfctl gpus --no-autostart 2>/dev/null | awk 'NR>1{print $1}') ;;
            daemon) found="@DAEMON@" ;;
            completion) found="@SHELLS@" ;;
            *) COMPREPLY=($(compgen -f -- "$word")); return ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$found" -- "$word"))
}
complete -o filenames -F _tfctl tfctl trainforge
"""
ZSH = """\
#compdef tfctl trainforge
_tfctl() {
    if (( CURRENT == 2 )); then
        compadd -- @COMMANDS@
    elif [[ ${words[CURRENT]} == -* ]]; then
        compadd -- ${(f)"$(tfctl ${words[2]} --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]+')"}
    else
        case ${words[2]} in
            @JOBS@) compadd -- @ ${(f)"$(tfctl status --no-autostart 2>/dev/null | awk 'NR>1{print $1}')"} ;;
            @GPUS@) compadd -- ${(f)"$(tfctl gpus --no-autostart 2>/dev/null | awk 'NR>1{print $1}')"} ;;
            daemon) compadd -- @DAEMON@ ;;
            completion) compadd -- @SHELLS@ ;;
            *) _files ;;
        esac
    fi
}
compdef _tfctl tfctl trainforge
"""
FISH = """\
function __tfctl_options
    set -l command (commandline -opc)[2]
    tfctl $command --help 2>/dev/null | string match -ar -- '--[a-z][a-z-]+'
end
complete -c tfctl -f -n __fish_use_subcommand -a "@COMMANDS@"
complete -c tfctl -n "string match -q -- '-*' (commandline -ct)" -a "(__tfctl_options)"
complete -c tfctl -f -n "__fish_seen_subcommand_from @JOBS@" \\
    -a "(tfctl status --no-autostart 2>/dev/null | awk 'NR>1{print \\$1}')"
complete -c tfctl -f -n "__fish_seen_subcommand_from @GPUS@" \\
    -a "(tfctl gpus --no-autostart 2>/dev/null | awk 'NR>1{print \\$1}')"
complete -c tfctl -f -n "__fish_seen_subcommand_from daemon" -a "@DAEMON@"
complete -c tfctl -f -n "__fish_seen_subcommand_from completion" -a "@SHELLS@"
"""
SCRIPTS = {"bash": (BASH, "|"), "zsh": (ZSH, "|"), "fish": (FISH, " ")}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(SCRIPTS))


def run(args: argparse.Namespace) -> int:
    script, between = SCRIPTS[args.shell]
    jobs = [*TAKES_JOB, *(other for other, command in ALIASES.items() if command in TAKES_JOB)]
    names = {
        "COMMANDS": " ".join(sorted([*COMMANDS, *ALIASES])),
        "JOBS": between.join(jobs),
        "GPUS": between.join(TAKES_GPU),
        "DAEMON": WORDS["daemon"],
        "SHELLS": WORDS["completion"],
    }
    for name, value in names.items():
        script = script.replace(f"@{name}@", value)
    print(script, end="")
    return 0
