"""`tfctl` (and `trainforge`): finds the command's module and runs it.

Only the module of the command at hand is imported: start-up is most of what a command costs. A
module in `tfctl.commands` has `SUMMARY`, `arguments(parser)` and `run(args) -> exit code`.

Exit codes: 0 done; 1 the job did not succeed, or output could not be written; 2 wrong usage or a refused
job file; 3 no daemon to talk to; 4 not allowed; 5 no such job. What was done is 0 even if it could not
be said.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from tfctl.failures import UNSAID, Failure, described, exit_code
from tfctl.output import OutputLost, guarded
from tfctl.parsing import Parser

COMMANDS = {
    "init": "write a project that runs as it stands",
    "submit": "queue a job",
    "export": "print what submit would run as a batch script of Slurm",
    "status": "a table of jobs, or one job whole",
    "top": "the live view: GPUs, jobs, queue",
    "logs": "output of a job",
    "metrics": "series that a job reported",
    "compare": "jobs side by side: settings that differ, last and best values",
    "cancel": "end jobs",
    "hold": "keep jobs from running; a running one saves and stops",
    "release": "let held jobs go on",
    "update": "change settings of a job",
    "retry": "a new job that goes on where an old one stopped",
    "wait": "block until jobs end",
    "why": "why a job waits, or why it failed",
    "events": "what happened, in order",
    "path": "where a job's files lie",
    "rm": "remove ended jobs and their files",
    "prune": "remove jobs that ended long ago",
    "du": "what jobs cost on disk",
    "report": "what GPUs were held for, and what was made of them",
    "gpus": "the devices: health and lease",
    "drain": "give GPUs out no more",
    "undrain": "offer GPUs again",
    "dashboard": "open the web page, signed in",
    "daemon": "start, stop or look at the daemon of this user",
    "doctor": "check the installation and say what to fix",
    "completion": "print a completion script for the shell",
}
ALIASES = {"push": "submit", "ps": "status", "ls": "status", "list": "status", "show": "status"}
ELSEWHERE = {  # what other tools call it
    "add": "submit",
    "delete": "rm",
    "info": "status",
    "kill": "cancel",
    "queue": "status, or submit",
    "remove": "rm",
    "restart": "retry",
    "resume": "release, or retry",
    "run": "submit",
    "sbatch": "submit",
    "scancel": "cancel",
    "squeue": "status",
    "start": "submit, or daemon start",
    "stop": "cancel, or daemon stop",
    "tail": "logs -f",
}
NOT_YET = ("yield",)


def main(argv: list[str] | None = None) -> int:
    """The program. Returns the exit code."""
    with guarded():
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        except KeyboardInterrupt:
            return 130


def _run(args: list[str]) -> int:
    _load_msgspec()
    try:
        code = _flushed(args)
    except Failure as failure:
        print(f"tfctl: {failure}", file=sys.stderr)
        return failure.code
    except OutputLost as error:
        print(f"tfctl: {error}", file=sys.stderr)
        return UNSAID
    except BrokenPipeError:  # the reader has seen enough: not an error
        return 0
    except Exception as error:
        code_of_error = exit_code(error)
        if code_of_error is None:
            raise
        print("\n".join(f"tfctl: {line}" for line in described(error)), file=sys.stderr)
        return code_of_error
    return code


def _flushed(args: list[str]) -> int:
    try:
        return _dispatch(args)
    finally:  # argparse has written its help when it raises SystemExit
        sys.stdout.flush()


def _load_msgspec() -> None:
    """msgspec asks for typing_extensions where that is installed, and does as well without it; it would
    load inspect and ast, a fifth of a command's start-up."""
    if "typing_extensions" in sys.modules or "msgspec" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help") or args == ["help"]:
        print(overview())
        return 0 if args else 2
    if args[0] == "help":
        return _dispatch([args[1], "--help"])
    if args[0] in ("--version", "version"):
        from trainforge import __version__

        print(f"tfctl {__version__}")
        return 0
    name = ALIASES.get(args[0], args[0])
    if name in NOT_YET:
        raise Failure(f"{name} is not yet built")
    if name not in COMMANDS:
        raise Failure(f"there is no command {args[0]!r}; {_suggestion(args[0])}")
    module = importlib.import_module(f"tfctl.commands.{name}")
    return run(module, args[0], args[1:])


def run(module: Any, name: str, args: list[str]) -> int:
    """Parse the command's arguments and do it. What stands behind `--` is a command's own (`words`)."""
    args, words = module.split(args) if hasattr(module, "split") else (args, [])
    parser = Parser(
        prog=f"tfctl {name}",
        description=(module.__doc__ or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.arguments(parser)
    parser.add_argument("--no-autostart", action="store_true", help="do not start a daemon if there is none")
    parsed, left = parser.parse_known_args(args)
    if words:
        parsed.words = words
    if left:
        parser.unknown(left, module.hint(args, left, parsed) if hasattr(module, "hint") else "")
    result: int = module.run(parsed)
    return result


def overview() -> str:
    """The list of commands."""
    lines = [f"  {name:<11} {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tfctl COMMAND [ARGUMENTS]     (tfctl COMMAND --help says more)",
            "",
            *lines,
            "",
            "A JOB is its number, 12-21, @ for your latest, a name or a quoted name pattern.",
        ]
    )


def _suggestion(word: str) -> str:
    import difflib

    near = (
        [ELSEWHERE[word]] if word in ELSEWHERE else difflib.get_close_matches(word, [*COMMANDS, *ALIASES], 1)
    )
    return f"did you mean {near[0]}?" if near else "see tfctl --help"


if __name__ == "__main__":
    sys.exit(main())
