"""Ranks under the real launcher: started, told apart, stopped, and ended when one of them dies."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.shell.attempts import Supervised
from tests.support import until
from trainforge.api import ShellState
from trainforge.spec import Environment, JobSpec, Project, Recovery, Training
from trainforged.core import messages as m
from trainforged.execution.starting import host, library
from trainforged.execution.starting.ports import free_port

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

LONGEST = 200.0  # seconds: importing torch on a busy machine takes long


class Scripts:
    """Jobs of one script in one folder, through the whole of the execution part."""

    def __init__(self, tmp_path: Path, supervised: Supervised) -> None:
        self.work = tmp_path / "work"
        self.work.mkdir()
        self.supervised = supervised
        self.job = 0
        self.library = library.ensure(tmp_path / "state")

    def start(self, source: str, ranks: int, **fields: Any) -> None:
        """As another job each time."""
        self.job += 1
        (self.work / "train.py").write_text(source)
        folder = self.supervised.folder(self.job)
        setting = host.Setting(
            order=m.StartAttempt(job=self.job, attempt=1, gpus=(), cpu=ranks, memory=0),
            spec=JobSpec(
                project=Project(name="ranks"),
                training=Training(script="train.py", args=("--a", "--", "$b c")),
                environment=Environment(env={"DISTRIBUTED": "true" if ranks > 1 else "false"}),
                recovery=Recovery(grace=30.0),
            ),
            shell=ShellState(env={"PATH": os.environ["PATH"], "RANK": "7", "TORCHELASTIC_RUN_ID": "old"}),
            python=sys.executable,
            cwd=str(self.work),
            job_dir=str(folder.parent.parent),
            attempt_dir=str(folder),
            checkpoint_dir=str(self.work),
            library=str(self.library),
            run_id="r",
            port=free_port(),
            cores=os.cpu_count() or 1,
            **fields,
        )
        self.supervised.start(self.job, host.launch(setting))

    async def says(self, *lines: str) -> None:
        log = self.supervised.folder(self.job) / "output.log"
        await until(lambda: log.exists() and all(f"{line}\n" in log.read_text() for line in lines), LONGEST)

    def text(self, name: str = "output.log") -> str:
        return (self.supervised.folder(self.job) / name).read_text()


@pytest.fixture
def scripts(tmp_path: Path, supervised: Supervised) -> Scripts:
    return Scripts(tmp_path, supervised)


async def test_two_ranks_meet_and_are_told_apart(scripts: Scripts) -> None:
    scripts.start(
        "import os, sys, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "sum = torch.tensor([dist.get_rank() + 1]); dist.all_reduce(sum)\n"
        "print('sum', int(sum), sys.argv[1:], os.environ['OMP_NUM_THREADS'])\n"
        "dist.destroy_process_group()\n",
        ranks=2,
    )
    end = (await scripts.supervised.told(m.AttemptEnded, 1, LONGEST)).end
    assert end.exit_code == 0
    assert sorted((rank.rank, rank.exit_code) for rank in end.ranks) == [(0, 0), (1, 0)]
    line = "sum 3 ['--a', '--', '$b c'] 1\n"
    assert scripts.text("rank-0.log") == scripts.text("rank-1.log") == line
    merged = [text for text in scripts.text().splitlines(keepends=True) if "sum" in text]
    assert sorted(merged) == [f"[rank0] {line}", f"[rank1] {line}"]


async def test_a_killed_rank_ends_the_attempt_in_two_seconds(scripts: Scripts) -> None:
    source = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "print('pid', os.getpid(), flush=True)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    for _ in range(3):  # where somebody else had the machine, again
        scripts.start(source, ranks=2)
        await scripts.says("[rank0] ready", "[rank1] ready")
        os.kill(int(scripts.text("rank-1.log").split()[1]), signal.SIGKILL)
        began = time.monotonic()
        end = await scripts.supervised.end(scripts.job)
        took = time.monotonic() - began
        assert [(rank.rank, rank.signal) for rank in end.ranks] == [(1, 9), (0, 9)]
        assert end.signal == 9
        assert scripts.supervised.left(scripts.job) == []
        if took < 2:
            break
    assert took < 2


async def test_ranks_are_stopped_with_time_to_save(scripts: Scripts) -> None:
    scripts.start(
        "import time, trainforge\n"
        "trainforge.should_stop()\n"
        "print('ready', flush=True)\n"
        "while not trainforge.should_stop(): time.sleep(0.01)\n"
        "time.sleep(0.5)\n"
        "print('saved', flush=True)\n",
        ranks=2,
    )
    await scripts.says("[rank0] ready", "[rank1] ready")
    scripts.supervised.stop(1)
    end = await scripts.supervised.end(1)
    assert (end.stopped, end.exit_code) == (True, 0)
    assert scripts.text("rank-0.log").endswith("saved\n")
    assert scripts.text("rank-1.log").endswith("saved\n")
