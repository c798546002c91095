"""What the completion script of bash offers, asked of bash itself."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.daemon import Daemon
from tfctl.__main__ import COMMANDS
from tfctl.commands.completion import SCRIPTS, TAKES_GPU, TAKES_JOB
from trainforge.api import SubmitRequest
from trainforge.client.client import Client

ASK = """\
tfctl() { "$PYTHON" -m tfctl "$@"; }
source <(tfctl completion bash)
while read -r -a COMP_WORDS; do
    COMP_WORDS=("${COMP_WORDS[@]//EMPTY/}")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _tfctl
    echo "${COMPREPLY[*]}"
done
"""


def test_bash_completes_commands_options_and_jobs(tmp_path: Path) -> None:
    cases = {
        "tfctl me": ["metrics"],
        "tfctl logs --t": ["--tail"],
        "tfctl submit --after": ["--after", "--afterany", "--afternotok", "--afterok"],
        "tfctl why EMPTY": ["1", "@"],
        "tfctl show 1": ["1"],
        "tfctl daemon sta": ["start", "status"],
        "tfctl completion f": ["fish"],
    }
    with Daemon(tmp_path / "d.sock") as daemon, Client(daemon.path) as client:
        client.submit(SubmitRequest(spec={"project": {"name": "one"}}, request_id="a", workdir="/w"))
        env = os.environ | {"PYTHON": sys.executable, "TRAINFORGE_SOCKET": str(daemon.path)}
        asked = "".join(f"{line}\n" for line in cases)
        done = subprocess.run(["bash", "-c", ASK], env=env, input=asked, capture_output=True, text=True)
    found = [sorted(set(line.split())) for line in done.stdout.splitlines()]
    assert dict(zip(cases, found, strict=True)) == cases, done.stderr


@pytest.mark.parametrize("shell", SCRIPTS)
def test_no_name_is_left_open(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    from tfctl.__main__ import main

    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert not [name for name in ("COMMANDS", "JOBS", "GPUS", "DAEMON", "SHELLS") if f"@{name}@" in script]


def test_every_command_that_takes_a_job_or_a_gpu_completes_it() -> None:
    modules = {
        name: inspect.getsource(importlib.import_module(f"tfctl.commands.{name}")) for name in COMMANDS
    }
    assert {name for name, text in modules.items() if "job_argument" in text} == set(TAKES_JOB)
    assert {name for name, text in modules.items() if "gpu_argument" in text} == set(TAKES_GPU)
