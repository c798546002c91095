"""The command line of one command: its parser, numbers with bounds, and what was probably meant."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

ELSEWHERE = {  # what other tools call it
    "--array": "--sweep",
    "--cpus-per-task": "--cpu",
    "--dependency": "--after, --afterany, --afternotok",
    "--depends-on": "--after",
    "--gpus-per-node": "--gpu",
    "--gres": "--gpu",
    "--job-name": "--name",
    "--label": "--name",
    "--lines": "--tail",
    "--mem-per-cpu": "--memory",
    "--nice": "--priority",
    "--num-gpus": "--gpu",
    "--stashed": "--hold",
}
LIKELY, SURE = 0.6, 0.8  # of difflib: how alike


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where help is unless the line helps by itself."""

    def error(self, message: str) -> NoReturn:
        where = "" if "; " in message else f"; {self.prog} --help says what there is"
        self.exit(2, f"{self.prog}: {message}{where}\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        from difflib import get_close_matches

        choices = [str(choice) for choice in action.choices]
        near = get_close_matches(str(value), choices, 2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise argparse.ArgumentError(action, f"expected {', '.join(choices)}, found {value!r}{hint}")

    def unknown(self, words: list[str], hint: str = "") -> NoReturn:
        """Refuse arguments that there are not. `hint`: what else than an option may have been meant."""
        near = meant(words[0], list(self._option_string_actions), SURE if hint else LIKELY)
        self.error(f"unknown: {' '.join(words)}" + (f"; did you mean {near}?" if near else hint))


def whole(least: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number, `least` or more."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text[:19]) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more, found {text!r}")
        return int(text[:19])

    return read


def meant(word: str, known: list[str], alike: float = LIKELY) -> str:
    """The option that was probably meant by one that there is not; empty for none."""
    option = word.partition("=")[0]
    if not option.startswith("--"):
        return ""
    other = ELSEWHERE.get(option, "")
    if other and other.split(",")[0] in known:
        return other
    from difflib import get_close_matches

    names = [name for name in known if name.startswith("--")]
    return next(iter(get_close_matches(option, names, 1, alike)), "")
