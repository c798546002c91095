"""Real faults over a mixed queue, and then everything is counted: `python -m tests.torture [--faults N]`.

A seed repeats the order of faults and jobs (not their moments: processes are not that obedient).
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tests.daemon.real import RealDaemon, wait_until
from tests.shell.nvml_standin import Standin, Values, gpu
from tests.torture import beside, box
from tests.torture.box import BoxedDaemon
from tests.torture.faults import Faults
from tests.torture.jobs import Planned, plan, read_ledger, request, wrong
from tests.torture.scene import Scene
from trainforge.api import JobView
from trainforge.client.client import ApiError, NoDaemon
from trainforge.states import JobState

DISK = "96m"
LONGEST_JOB = 600.0  # seconds in which one ends, also on a machine that has other things to do
LOG_LINES = 60
FORCED = "the stop did not come to an end"
GPUS = 4


class Count(msgspec.Struct, kw_only=True):
    """What came of it. All but the first two must be empty; on a slow machine a stop may be forced."""

    acknowledged: int = 0
    faults: dict[str, int] = {}
    lost: list[str] = []
    doubled: list[str] = []
    wrong: list[str] = []
    processes: list[str] = []
    gpus: list[str] = []
    forced: list[str] = []  # stops that took so long that the daemon left as it was, and where they hung

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.processes or self.gpus)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=60, help="that are unfinished at any moment, about")
    parser.add_argument(
        "--beside", type=int, default=0, metavar="KILLS", help="so many of other programs too"
    )
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}: {args.faults} faults", flush=True)
    began = time.monotonic()
    count = torture(args.faults, args.jobs, seed, say=lambda line: print(line, flush=True))
    print(f"\nafter {time.monotonic() - began:.0f} s:")
    for kind, number in sorted(count.faults.items()):
        print(f"  {number:4}  {kind}")
    print(f"  {sum(count.faults.values()):4}  faults in all, {count.acknowledged} jobs acknowledged")
    for name in ("lost", "doubled", "wrong", "processes", "gpus"):
        found: list[str] = getattr(count, name)
        print(f"{name:>10}: {len(found)}")
        for line in found[:20]:
            print(f"            {line}")
    print(f"{'forced':>10}: {len(count.forced)} stops", *count.forced, sep="\n")
    if args.beside:
        print(
            "\n".join(
                ["", f"{args.beside} kills of what every such program has:", *_beside(args.beside, seed)]
            )
        )
    return 0 if count.clean else 1


def _beside(kills: int, seed: int) -> list[str]:
    """The same for us and for what people queue with instead, where that is installed."""
    steps, outcomes, missing = beside.plan(random.Random(seed), kills), {}, []
    with tempfile.TemporaryDirectory(prefix="tf-beside-") as folder:
        for program in beside.programs(Path(folder)):
            reason = program.missing()
            if reason is None:
                outcomes[program.name] = beside.suffer(program, steps)
            else:
                missing.append(f"{program.name} is not beside it: {reason}")
    return [*beside.table(outcomes), *missing]


def torture(
    faults: int, jobs: int, seed: int, say: Callable[[str], None] = lambda line: None, *, last: str = ""
) -> Count:
    """Run it in a folder of its own. As root the state folder has a disk of its own, to be filled; with a C
    compiler the GPUs are those of a stand-in driver, read by the process that reads real ones. `last`: one
    fault more, which the seed does not choose."""
    chance = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="tf-"))
    gpus = [gpu(index, uuid=f"GPU-{uuid.uuid4()}") for index in range(GPUS)]  # others here may be at the same
    driver = _driver(folder, gpus)
    daemon = _daemon(folder, driver, say)
    disk = _own_disk(daemon.state_dir)
    try:
        (folder / "locks").mkdir()
        if isinstance(daemon, BoxedDaemon):
            daemon.boot()
        daemon.start()
        run = _Run(Scene(daemon, chance, disk, driver, gpus), folder)
        for number in range(faults):
            run.top_up(jobs)
            time.sleep(chance.uniform(0.0, 0.3))
            run.faults.commit()
            if (number + 1) % 25 == 0:
                say(f"{number + 1} faults, {len(run.planned)} jobs")
        run.faults.commit_one_of(last)
        return run.finish()
    finally:
        daemon.close()
        if disk is not None:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _daemon(folder: Path, driver: Standin | None, say: Callable[[str], None]) -> RealDaemon:
    """In a container of its own, where that can be."""
    gpus, env = (None, driver.env) if driver else (GPUS, None)
    if box.possible():
        daemon: RealDaemon = BoxedDaemon(folder, gpus, env=env)
    else:
        say("no power is cut here: that takes root, and namespaces of processes")
        daemon = RealDaemon(folder, gpus, env=env)
    daemon.module = "tests.torture.mortal"
    return daemon


def _own_disk(path: Path) -> Path | None:
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(path)]
    return path if subprocess.run(mount, capture_output=True).returncode == 0 else None


def _driver(folder: Path, gpus: Sequence[Values]) -> Standin | None:
    if shutil.which("gcc") is None:
        return None
    (folder / "driver").mkdir()
    driver = Standin(folder / "driver")
    driver.say(*gpus)
    return driver


class _Run:
    def __init__(self, scene: Scene, folder: Path) -> None:
        self._scene = scene
        self._daemon = scene.daemon
        self._chance = scene.chance
        self._folder = folder
        self.faults = Faults(scene)
        self.planned: dict[int, Planned] = {}  # by the number that the daemon gave
        self._submitted = 0
        self._count = Count()

    def top_up(self, jobs: int) -> None:
        """Submit until about so many are unfinished; an answer that is lost is asked for again."""
        with self._daemon.client() as client:
            status = client.status().jobs
        unfinished = status.queued + status.running + status.starting + status.held + status.backoff
        for planned in plan(self._chance, max(0, jobs - unfinished)):
            self._submitted += 1
            wanted = request(planned, self._submitted, self._folder)
            for _ in range(3):
                with contextlib.suppress(NoDaemon, ApiError), self._daemon.client() as client:
                    job = client.submit(wanted)
                    if job.id in self.planned:
                        self._count.doubled.append(f"number {job.id} was given out twice")
                    self.planned[job.id] = planned
                    break

    def finish(self) -> Count:
        """Let all come to an end; then count."""
        count = self._count
        count.acknowledged, count.faults = len(self.planned), self.faults.done
        for job in self._unended_for_good():
            told = self._daemon.tfctl("why", str(job.id), check=False).stdout
            count.wrong.append(
                f"job {job.id} does not end: {job.state} {job.reason}, try {job.attempt}\n{told}"
            )
        if count.wrong:
            count.wrong.append("\n".join(self._daemon.log.read_text().splitlines()[-LOG_LINES:]))
        with self._daemon.client() as client:
            jobs = {job.id: job for job in client.all_jobs()}
        for number, planned in self.planned.items():
            if number not in jobs:
                count.lost.append(f"job {number} ({planned.kind})")
            elif problem := self._problem(jobs[number], planned):
                count.wrong.append(f"job {number} ({planned.kind}): {problem}")
        count.doubled += [f"job {n} was not asked for" for n in jobs.keys() - self.planned.keys()]
        told = read_ledger(self._folder / "ledger")
        count.doubled += told.doubled
        count.wrong += told.wrong
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._daemon.processes(), "processes to be gone", 40)
        count.processes += [f"process {pid}" for pid in self._daemon.processes()]
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._held_gpus(), "GPUs to be free", 60)
        count.gpus += self._held_gpus()
        count.forced += re.findall(rf"^.*{FORCED}.*(?:\n(?!\d{{4}}-).*)*", self._daemon.log.read_text(), re.M)
        return count

    def _held_gpus(self) -> list[str]:
        with self._daemon.client() as client:
            gpus = client.gpus().gpus
        held = [f"GPU {gpu.index}: {gpu.state} {gpu.reason}" for gpu in gpus if gpu.state != "free"]
        return held + ["GPUs are missing"] * (len(gpus) != GPUS)

    def _unended_for_good(self) -> list[JobView]:
        """Those that are left when none has ended for long."""
        left, ended_at = self._unended(), time.monotonic()
        while left and time.monotonic() - ended_at < LONGEST_JOB:
            time.sleep(0.2)
            before, left = len(left), self._unended()
            if len(left) < before:
                ended_at = time.monotonic()
        return left

    def _unended(self) -> list[JobView]:
        with self._daemon.client() as client:
            left = [job for job in client.all_jobs() if not job.state.ended]
            for job in left:
                if job.state is JobState.HELD:
                    client.release(job.id)
        return left

    def _problem(self, job: JobView, planned: Planned) -> str | None:
        return wrong(planned, job, self._scene.meddled.get(job.id, set()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and so end what was started
    sys.exit(main())
