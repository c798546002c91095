"""`trainforged`: the daemon in the foreground. Options, then `trainforged.daemon.run`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import trainforge
from trainforge.client.sockets import user_socket
from trainforge.jobfile.units import parse_size
from trainforged.config import ConfigError, web_address


def size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    if not text.isdecimal() or int(text) > 1024:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1024, found {text!r}")
    return int(text)


def cores(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65536:
        raise argparse.ArgumentTypeError(f"expected a number of cores, 1 or more, found {text!r}")
    return int(text)


def web(text: str) -> str:
    try:
        web_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/trainforge`, or where that would be."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "trainforge"


def default_config() -> Path:
    """The user's configuration file, which may be written later: SIGHUP looks for it again."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "trainforge" / "trainforged.yaml"


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="trainforged", description="The GPU service of this machine.")
    out.add_argument("--version", action="version", version=f"trainforged {trainforge.__version__}")
    out.add_argument("--config", type=Path, metavar="FILE", help="settings (default: the user's, if any)")
    out.add_argument("--state-dir", type=Path, metavar="DIR", help="where everything is kept")
    out.add_argument("--socket", type=Path, metavar="PATH", help="where to listen")
    out.add_argument("--simulate-gpus", type=count, metavar="N", help="offer N made-up GPUs")
    out.add_argument("--simulate-cpu", type=cores, metavar="N", help="with that many cores (8 for each)")
    out.add_argument("--simulate-memory", type=size, metavar="SIZE", help="and memory (32Gi for each)")
    out.add_argument("--web", type=web, metavar="HOST:PORT|off", help="the web page (127.0.0.1:3001)")
    return out


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.simulate_gpus is None and (args.simulate_cpu or args.simulate_memory):
        parser().error("--simulate-cpu and --simulate-memory need --simulate-gpus")
    from trainforged.daemon import CannotStart, Options, run

    options = Options(
        config=args.config or default_config(),
        config_needed=args.config is not None,
        state_dir=(args.state_dir or default_state_dir()).absolute(),
        socket=(args.socket or user_socket()).absolute(),
        simulate_gpus=args.simulate_gpus,
        simulate_cpu=args.simulate_cpu,
        simulate_memory=args.simulate_memory,
        web=args.web,
    )
    try:
        return run(options)
    except (CannotStart, ConfigError) as error:
        print(f"trainforged: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
