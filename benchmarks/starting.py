"""From submission to the first instruction of a job, and from one job to the next.

The first instruction of a command is told by `date +%s%N` in `sh`, which is the job: what that takes
by itself stands beside it, and is part of both. Times begin before the process of `tfctl submit` is
made, or that of the launcher by hand. Where the time goes is told by the daemon's own records.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks import timing
from benchmarks.figures import Bound, Figure
from benchmarks.scene import Scene, tfctl
from tests.daemon.real import RealDaemon, request

SCRIPT = Path(__file__).parent / "programs" / "first_instruction.py"
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
Spans = dict[str, float]  # milliseconds, in order of time


def measure(scene: Scene) -> list[Figure]:
    daemon = scene.daemon()
    return [
        *_command(scene, daemon),
        _one_after_another(scene, daemon, "one after another, `true` on all GPUs", {"gpu": 2}),
        _one_after_another(scene, daemon, "one after another, `true` on all cores", {"gpu": 0, "cpu": 16}),
        _script(scene, daemon, 1, scene.times(15, 1)),
        *([] if scene.quick else [_script(scene, daemon, 2, 9)]),
    ]


# ---- a command


def _command(scene: Scene, daemon: RealDaemon) -> list[Figure]:
    env = scene.environment(daemon)
    spans: list[Spans] = []
    floor = "the same by hand"

    def by_hand() -> float:
        return _first(scene, env, lambda command: command)

    def submitted() -> float:
        spans.append({})
        submit = tfctl("submit", "--gpu", "0", "--")
        return _first(scene, env, lambda command: [*submit, *command], spans[-1], daemon)

    taken = timing.alternate(scene.times(30, 2), {floor: by_hand, "": submitted})
    whole = Figure(
        what="submission to first instruction of a command",
        value=1000 * timing.median(taken[""]),
        unit="ms",
        others={floor: 1000 * timing.median(taken[floor])},
        bound=Bound(limit=150),
        samples=len(taken[""]),
        spread=_milliseconds(taken[""]),
    )
    return [whole, *_parts(spans[1:])]


def _parts(spans: Sequence[Spans]) -> list[Figure]:
    return [
        Figure(what=f"  of which {name}", value=timing.median([span[name] for span in spans]), unit="ms")
        for name in spans[0]
    ]


def _first(
    scene: Scene,
    env: Mapping[str, str],
    start: Callable[[list[str]], list[str]],
    spans: Spans | None = None,
    daemon: RealDaemon | None = None,
) -> float:
    """Seconds until the command that `start` brings about has told the time."""
    told = scene.folder / "told"
    told.unlink(missing_ok=True)
    began = time.time()
    timing.run(start(["sh", "-c", f"date +%s%N > {told}.new && mv {told}.new {told}"]), env, scene.folder)
    ended = time.time()
    timing.wait_until(told.exists, "the command's first instruction")
    first = int(told.read_text()) / 1e9
    if spans is not None and daemon is not None:
        spans.update(_spans(daemon, began, ended, first))
    return first - began


def _spans(daemon: RealDaemon, began: float, ended: float, first: float) -> Spans:
    """Between the moments that daemon and shim keep of the latest job."""
    with daemon.client() as client:
        job = client.wait(client.jobs(limit=1).jobs[0].id, 30)
    attempt = daemon.state_dir / "jobs" / str(job.id) / "attempts" / "1"
    shim, end = (msgspec.json.decode((attempt / f"{name}.json").read_bytes()) for name in ("shim", "exit"))
    moments = {
        "tfctl until the daemon has the request": job.submitted_at.timestamp(),
        "commit, prepare, the shim's start": shim["time"],
        "the shim until the command runs": end["started_at"],
        "the command until it tells": first,
    }
    starts = [began, *moments.values()]
    steps = zip(moments.items(), starts, strict=False)
    found = {name: 1000 * (at - before) for (name, at), before in steps}
    return {**found, "(beside it, tfctl's whole time)": 1000 * (ended - began)}


# ---- one after another


def _one_after_another(scene: Scene, daemon: RealDaemon, what: str, resources: dict[str, int]) -> Figure:
    """Queued together, so that the next one only waits for the one before."""
    count = scene.times(50, 5)
    requests = [request(["true"], daemon.folder, resources=resources) for _ in range(count)]
    with daemon.client() as client:
        began = time.time()
        last = client.submit_all(requests)[-1].id
        timing.wait_until(lambda: client.job(last).state.ended, "the last job", 300, pause=0.25)
        ended = client.job(last).ended_at
    assert ended is not None
    each = (ended.timestamp() - began) / count
    return Figure(what=what, value=1000 * each, unit="ms", bound=Bound(limit=60), samples=count, note="each")


# ---- a script


def _script(scene: Scene, daemon: RealDaemon, ranks: int, rounds: int) -> Figure:
    """One rank is started without a launcher, by hand too."""
    told = scene.folder / f"ranks-{ranks}"
    told.mkdir()
    script = str(shutil.copy(SCRIPT, scene.folder))  # outside of git it runs in place, as it does by hand
    env = scene.environment(daemon)
    launcher = [sys.executable, *(LAUNCHER if ranks > 1 else ()), script, str(told)]
    submit = tfctl("submit", script, "--gpu", str(ranks), "--", str(told))
    by_hand = "by hand"

    def submitted() -> float:
        took = _ranks_told(submit, env, told, ranks)
        with daemon.client() as client:  # else the next one waits for this one's GPUs
            client.wait(client.jobs(limit=1).jobs[0].id, 60)
        return took

    taken = timing.alternate(
        rounds, {by_hand: lambda: _ranks_told(launcher, env, told, ranks), "": submitted}
    )
    extra = [ours - floor for ours, floor in zip(taken[""], taken[by_hand], strict=True)]
    return Figure(
        what=f"start of a script, {ranks} rank{'s' if ranks > 1 else ''}: more than by hand",
        value=timing.median(extra),
        unit="s",
        others={by_hand: timing.median(taken[by_hand])},
        bound=Bound(limit=0.25),
        samples=rounds,
        spread=timing.quartiles(extra),
    )


def _ranks_told(argv: Sequence[str], env: Mapping[str, str], told: Path, ranks: int) -> float:
    """Seconds until the first instruction of the last rank."""
    began = time.time()
    timing.run(argv, env, told.parent)
    timing.wait_until(lambda: len(_told(told)) == ranks, "every rank's first instruction", 120, pause=0.05)
    moments = [float(path.read_text()) for path in _told(told)]
    for path in _told(told):
        path.unlink()
    return max(moments) - began


def _told(folder: Path) -> list[Path]:
    return [path for path in folder.glob("rank-*") if path.suffix != ".new"]


def _milliseconds(taken: Sequence[float]) -> tuple[float, float]:
    low, high = timing.quartiles(taken)
    return 1000 * low, 1000 * high
