"""The hang set: lives that are slow and well, none of which may be stopped, and hangs, all of which must be
found, with the stacks of their ranks. `hang_timeout` is `auto`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.daemon.lives import HOUR, MINUTE, Doing, Machine, Span, Told
from trainforged.core.hangs import BUSY_LEAST, LEAST, GpuUse

MB = 1e6
ALL_REDUCE = "all_reduce (torch/distributed/distributed_c10d.py:2810)"
BARRIER = "barrier (torch/distributed/distributed_c10d.py:4700)"
QUEUE = "poll (multiprocessing/connection.py:440)"


def at(place: str, **how: float | str | bool) -> Doing:
    """A rank that its stack finds in one and the same place; it uses no processor unless it is said."""
    return Doing(place=place, moves=False, **({"cpu": 0.0} | how))  # type: ignore[arg-type]


def one(seconds: float, doing: Doing, **how: object) -> Span:
    return Span(seconds=seconds, ranks=(doing,), **how)  # type: ignore[arg-type]


def steps(seconds: float = HOUR, every: float = 20.0, ranks: int = 1, **how: object) -> Span:
    return Span(seconds=seconds, every=every, ranks=(Doing(),) * ranks, **how)  # type: ignore[arg-type]


def asleep(hours: float) -> Span:
    return Span(seconds=hours * HOUR, suspended=True)


def together(seconds: float, *ranks: Doing, gpus: GpuUse = GpuUse.UNKNOWN) -> Span:
    return Span(seconds=seconds, ranks=ranks, gpus=gpus)


def life(machine: Machine, *spans: Span) -> Told:
    return asyncio.run(machine.live(spans))


WAITS_IDLE, WAITS_SPINNING = at(ALL_REDUCE), at(ALL_REDUCE, cpu=1.0)
AT_BARRIER = at(BARRIER, cpu=1.0)  # as NCCL waits
SWAPPING = at("swap_readpage", state="D", faults=300.0, cpu=0.01)
FSYNC = at("folio_wait_writeback", state="D")
HELD = at("train (train.py:41)", state="t")
COMPILES = at("result (concurrent/futures/_base.py:451)", children=8.0)
FID = at("sqrtm (scipy/linalg/_matfuncs.py:190)", cpu=1.0)  # one long call

HEALTHY: dict[str, list[Span]] = {
    "steady steps": [steps(6 * HOUR)],
    "many reports a second": [steps(2 * HOUR, every=0.25)],
    "one report per epoch of half an hour": [steps(6 * HOUR, every=30 * MINUTE)],
    "one report per epoch of three hours": [steps(20 * HOUR, every=3 * HOUR)],
    "a report every thousand steps": [steps(3 * HOUR, every=16 * MINUTE)],
    "steps of twenty minutes, gradients accumulated": [steps(5 * HOUR, every=20 * MINUTE, ranks=2)],
    "a first epoch of five hours": [one(5 * HOUR, Doing()), steps()],
    "a first epoch of five hours in one call": [one(5 * HOUR, at("fit (linear.py:9)", cpu=1.0)), steps()],
    "reports nothing, ever": [one(12 * HOUR, Doing())],
    "a first step that compiles for 40 minutes": [
        one(40 * MINUTE, at("wait (subprocess.py:1264)", children=2.0)),
        steps(),
    ],
    "compiles anew for another shape": [
        steps(),
        one(25 * MINUTE, at("result (concurrent/futures/_base.py:451)", children=1.0)),
        steps(),
    ],
    "torch.compile's helpers compute, first and at the second shape": [
        one(12 * MINUTE, COMPILES),
        steps(),
        one(14 * MINUTE, COMPILES),
        steps(),
    ],
    "kernels are tuned in one process, with all its cores": [
        steps(MINUTE),
        one(35 * MINUTE, at("precompile (torch/_inductor/select_algorithm.py:2000)", cpu=7.5)),
        steps(),
    ],
    "captures a graph in one call": [
        steps(),
        one(15 * MINUTE, at("capture (graphs.py:8)", cpu=1.0)),
        steps(),
    ],
    "a download at the start": [one(2 * HOUR, at("recv_into (ssl.py:1100)", cpu=0.02)), steps()],
    "a download at the start, to a disk": [one(2 * HOUR, at("recv_into (ssl.py:1100)", io=20 * MB)), steps()],
    "a download and its unpacking after the first reports": [
        steps(MINUTE),
        one(30 * MINUTE, at("recv_into (ssl.py:1100)", io=5 * MB, cpu=0.04)),
        one(30 * MINUTE, at("extractall (tarfile.py:2300)", io=40 * MB, cpu=0.8)),
        steps(),
    ],
    "a download into memory": [steps(), one(45 * MINUTE, at("recv_into (ssl.py:1100)", cpu=0.1)), steps()],
    "waits at the start for another job to fill the cache": [one(HOUR, at("flock (cache.py:20)")), steps()],
    "another job has the cache's lock, which the kernel waits for": [
        steps(),
        one(45 * MINUTE, at("prepare (data.py:12)", queues=True)),
        steps(),
    ],
    "one rank asks for a lock again and again, the other waits for it": [
        steps(ranks=2),
        together(45 * MINUTE, at("acquire (filelock/_api.py:331)", cpu=0.01, queues=True), AT_BARRIER),
        steps(ranks=2),
    ],
    "a data set comes over the network, to memory and then to a disk": [
        steps(MINUTE),
        one(40 * MINUTE, at("recv_into (ssl.py:1100)", cpu=0.02), network=0.1 * MB),
        one(40 * MINUTE, at("write (shutil.py:197)", io=0.1 * MB, cpu=0.01)),
        steps(),
    ],
    "a data set is unpacked by a child": [
        steps(MINUTE),
        one(90 * MINUTE, at("wait (subprocess.py:1264)", io=30 * MB, children=0.9)),
        steps(),
    ],
    "a script like a notebook, idle for days": [one(60 * HOUR, at("select (selectors.py:468)"))],
    "a script like a notebook, with a cell now and then": [
        span
        for _ in range(4)
        for span in (one(5 * HOUR, at("select (selectors.py:468)")), one(MINUTE, Doing()))
    ],
    "a checkpoint that is read for 25 minutes": [
        one(25 * MINUTE, at("load (serialization.py:9)", io=9 * MB)),
        steps(),
    ],
    "evaluation of 25 minutes": [steps(), one(25 * MINUTE, Doing()), steps()],
    "evaluation of four hours": [steps(), one(4 * HOUR, Doing()), steps()],
    "evaluations that take longer and longer": [
        span for n in range(1, 8) for span in (steps(), one(n * 15 * MINUTE, Doing()))
    ],
    "evaluation in one call": [steps(), one(50 * MINUTE, FID), steps()],
    "evaluation in several long calls": [
        steps(),
        *(one(25 * MINUTE, at(f"metric (metrics.py:{n})", cpu=1.0)) for n in range(6)),
        steps(),
    ],
    "evaluation in a process of its own": [
        steps(),
        one(50 * MINUTE, at("wait (subprocess.py:1264)", children=0.9)),
        steps(),
    ],
    "evaluation announced, idle for five hours": [
        steps(),
        one(5 * HOUR, at("read (ssl.py:1100)"), phase="evaluate"),
        steps(),
    ],
    "evaluation announced, in one call": [steps(), one(9 * HOUR, FID, phase="evaluate"), steps()],
    "one rank evaluates, the others wait for it": [
        steps(ranks=4),
        together(2 * HOUR, Doing(), AT_BARRIER, AT_BARRIER, AT_BARRIER),
        steps(ranks=4),
    ],
    "one rank evaluates in one call, the others wait for it": [
        steps(ranks=2),
        together(50 * MINUTE, FID, AT_BARRIER),
        steps(ranks=2),
    ],
    "one rank evaluates, the other waits idle": [
        steps(ranks=2),
        together(50 * MINUTE, FID, WAITS_IDLE),
        steps(ranks=2),
    ],
    "gaps that grow by half": [steps(5 * 60 * 1.5**n, every=60 * 1.5**n) for n in range(12)],
    "gaps that grow sixfold": [steps(5 * 60 * 6**n, every=60 * 6**n) for n in range(4)],
    "held by a debugger for three hours": [steps(), one(3 * HOUR, HELD), steps()],
    "held by a debugger again and again": [steps(), one(HOUR, HELD), steps(), one(5 * HOUR, HELD), steps()],
    "stopped by SIGSTOP over the weekend": [
        steps(),
        one(60 * HOUR, at("train (train.py:41)", state="T")),
        steps(),
    ],
    "a debugger holds one rank": [steps(ranks=2), together(3 * HOUR, HELD, WAITS_SPINNING), steps(ranks=2)],
    "a suspended machine": [steps(), asleep(9), steps()],
    "suspended in an evaluation": [steps(), one(8 * MINUTE, FID), asleep(60), one(8 * MINUTE, FID), steps()],
    "suspended every night": [span for _ in range(5) for span in (steps(8 * HOUR, every=600), asleep(16))],
    "swapped out": [steps(), one(2 * HOUR, SWAPPING), steps()],
    "swapped out for good": [steps(), one(12 * HOUR, SWAPPING)],
    "one rank is swapped out": [steps(ranks=2), together(2 * HOUR, WAITS_IDLE, SWAPPING), steps(ranks=2)],
    "a checkpoint that takes 40 minutes": [
        steps(),
        one(40 * MINUTE, at("write (save.py:3)", io=50 * MB)),
        steps(),
    ],
    "a checkpoint on a slow network disk": [
        steps(),
        one(3 * HOUR, at("write (save.py:3)", io=0.1 * MB)),
        steps(),
    ],
    "a checkpoint that waits for its disk": [steps(), one(45 * MINUTE, FSYNC), steps()],
    "a checkpoint that a child carries away": [
        steps(),
        one(2 * HOUR, at("wait (subprocess.py:1264)", io=3 * MB, children=0.02)),
        steps(),
    ],
    "one rank writes the checkpoint, the other waits": [
        steps(ranks=2),
        together(HOUR, at("write (save.py:3)", io=50 * MB), AT_BARRIER),
        steps(ranks=2),
    ],
    "data-loader workers read their index anew": [
        steps(),
        one(30 * MINUTE, at(QUEUE, children=4.0)),
        steps(),
    ],
    "data-loader workers wait for a slow disk": [steps(), one(2 * HOUR, at(QUEUE, io=0.2 * MB)), steps()],
    "NaN, and on it goes": [steps(4 * HOUR, every=60.0)],
    "a machine that others overload": [steps(every=30), steps(6 * HOUR, every=15 * MINUTE)],
    "throttled to a fiftieth of a core": [
        steps(),
        one(4 * HOUR, Doing(cpu=0.02)),
        one(HOUR, Doing(cpu=0.02), every=1200.0),
    ],
    "the daemon is restarted": [steps(), steps(restart=True)],
    "the daemon is restarted every hour": [steps(every=40 * MINUTE, restart=True) for _ in range(9)],
    "the daemon is restarted in an evaluation": [
        steps(),
        one(HOUR, FID, phase="evaluate"),
        one(9 * HOUR, FID, phase="evaluate", restart=True),
        steps(),
    ],
    "the daemon is restarted in a long epoch": [
        steps(9 * HOUR, every=2 * HOUR),
        one(HOUR, Doing()),
        one(HOUR, Doing(), restart=True),
        steps(),
    ],
    "the daemon is restarted after the machine slept": [steps(), asleep(12), steps(every=60, restart=True)],
    "waits in one call for hours of work on its GPU": [
        steps(),
        one(50 * MINUTE, at("synchronize (torch/cuda/__init__.py:985)", cpu=1.0), gpus=GpuUse.WORKS),
        steps(),
    ],
    "one rank's GPU evaluates, the others wait for it": [
        steps(ranks=2),
        together(50 * MINUTE, at("synchronize (torch/cuda/__init__.py:985)"), AT_BARRIER, gpus=GpuUse.WORKS),
        steps(ranks=2),
    ],
    "a download into memory that needs no processor": [
        steps(),
        one(45 * MINUTE, at("recv_into (ssl.py:1100)", cpu=0.01), network=MB),
        steps(),
    ],
    "exports its model in one call, and ends": [steps(), one(50 * MINUTE, at("export (onnx.py:5)", cpu=1.0))],
}

DAY = 24 * HOUR
STUCK = at("acquire (threading.py:300)")
SHARD = "read (data.py:30)"

HANGS: dict[str, list[Span]] = {
    "a collective is deadlocked, idle": [steps(ranks=2), together(DAY, WAITS_IDLE, WAITS_IDLE)],
    "a collective is deadlocked, spinning": [steps(ranks=4), together(DAY, *[WAITS_SPINNING] * 4)],
    "a collective is deadlocked on the GPUs": [
        steps(ranks=2, gpus=GpuUse.WORKS),
        together(DAY, WAITS_SPINNING, AT_BARRIER, gpus=GpuUse.SPINS),
    ],
    "a kernel computes for ever": [
        steps(gpus=GpuUse.WORKS),
        one(DAY, at("synchronize (torch/cuda/__init__.py:985)", cpu=1.0), gpus=GpuUse.WORKS),
    ],
    "a server sends one byte now and then": [steps(), one(DAY, at("recv_into (ssl.py:1100)"), network=50.0)],
    "a collective spins out of sight, where its result is read": [
        steps(ranks=2),
        together(DAY, *[at("train (train.py:57)", cpu=1.0)] * 2),
    ],
    "ranks wait for each other in different collectives": [
        steps(ranks=2),
        together(DAY, WAITS_SPINNING, AT_BARRIER),
    ],
    "one rank's data loader is stuck, the other rank spins": [
        steps(ranks=2),
        together(DAY, at(QUEUE), WAITS_SPINNING),
    ],
    "the data loader is stuck": [steps(), one(DAY, at(QUEUE))],
    "the data loader's worker spins": [steps(), one(DAY, at(QUEUE, children=1.0))],
    "the data loader is stuck before the second epoch, one report each": [
        steps(6 * HOUR, every=HOUR),
        one(DAY, at(QUEUE)),
    ],
    "its threads wait for each other": [steps(), one(DAY, STUCK)],
    "it looks for a file every 10 ms": [steps(), one(DAY, at("wait_for (train.py:8)", cpu=0.01))],
    "it spins": [steps(), one(DAY, at("until_done (train.py:8)", cpu=1.0))],
    "a server never answers": [steps(), one(DAY, at("recv_into (ssl.py:1100)"))],
    "the file server is gone": [steps(), one(DAY, at("rpc_wait_bit_killable", state="D"))],
    "the file server is gone for one rank": [
        steps(ranks=2),
        together(DAY, WAITS_IDLE, at("rpc_wait_bit_killable", state="D")),
    ],
    "it waits for a lock for ever": [steps(), one(DAY, at("prepare (data.py:12)", queues=True))],
    "a rank that never came idles, the others spin on their GPUs": [
        steps(ranks=2, gpus=GpuUse.WORKS),
        together(DAY, at("get (queue.py:171)"), WAITS_SPINNING, gpus=GpuUse.SPINS),
    ],
    "the last rank has not left": [steps(ranks=2), together(DAY, at("exit (train.py:90)"), AT_BARRIER)],
    "a thread goes on logging": [steps(), one(DAY, at("acquire (threading.py:300)", io=2000.0, cpu=0.01))],
    "after an evaluation that was announced": [
        steps(),
        one(3 * HOUR, FID, phase="evaluate"),
        one(DAY, STUCK),
    ],
    "after an evaluation that was not": [steps(), one(30 * MINUTE, Doing()), steps(), one(DAY, STUCK)],
    "after a debugger": [steps(), one(8 * HOUR, HELD), one(DAY, STUCK)],
    "after the machine slept": [steps(), asleep(9), one(DAY, STUCK)],
    "in NaN": [steps(DAY / 4, every=60.0), one(DAY, STUCK)],
    "while the daemon was down": [steps(), one(MINUTE, STUCK), one(DAY, STUCK, restart=True)],
    "long before the daemon was restarted": [
        steps(9 * HOUR, every=HOUR),
        one(2 * HOUR, STUCK),
        one(DAY, STUCK, restart=True),
    ],
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_slow_life_is_left_alone(tmp_path: Path, name: str) -> None:
    told = life(Machine(tmp_path), *HEALTHY[name])
    assert told.hang is None


def test_there_are_lives_enough() -> None:
    assert len(HEALTHY) >= 50


@pytest.mark.parametrize("name", HANGS)
def test_a_hang_is_found_with_its_stacks(tmp_path: Path, name: str) -> None:
    told = life(Machine(tmp_path), *HANGS[name])
    ranks = HANGS[name][-1].ranks
    assert told.hang is not None
    kept = (tmp_path / "stacks.txt").read_text()
    for rank, doing in enumerate(ranks):
        assert f"==> rank {rank} <==" in kept
        assert f"rank {rank} in " in told.hang
        assert doing.place in kept
    assert str(tmp_path / "stacks.txt") in told.hang


@pytest.mark.parametrize(
    ("doing", "within"),
    [
        ([WAITS_IDLE] * 2, LEAST),
        ([WAITS_SPINNING] * 2, LEAST),
        ([at("train (train.py:57)", cpu=1.0)] * 2, BUSY_LEAST),
    ],
)
@pytest.mark.parametrize("gpus", [GpuUse.UNKNOWN, GpuUse.IDLE, GpuUse.SPINS])
def test_how_soon(tmp_path: Path, doing: list[Doing], within: float, gpus: GpuUse) -> None:
    """Ranks that wait for each other, in ten minutes; one that may compute is given an hour."""
    told = life(Machine(tmp_path), steps(ranks=2), together(DAY, *doing, gpus=gpus))
    assert told.after is not None
    assert within <= told.after <= within + 10 * MINUTE


def test_who_never_had_a_rhythm_is_only_warned_about(tmp_path: Path) -> None:
    told = life(Machine(tmp_path), steps(40.0), one(DAY, STUCK))
    assert told.hang is None
    (said,) = told.warnings
    assert said.endswith("writes nothing and uses no processor: it may hang")


SPINS_FROM_THE_START = together(DAY, WAITS_SPINNING, WAITS_SPINNING, gpus=GpuUse.SPINS)


def test_whose_gpus_only_spin_is_warned_about_though_it_looks_busy(tmp_path: Path) -> None:
    told = life(Machine(tmp_path), SPINS_FROM_THE_START)
    assert told.hang is None
    (said,) = told.warnings
    assert "writes nothing and its GPUs have run for 10 min at the power of idle ones" in said


@pytest.mark.parametrize("use", [GpuUse.WORKS, GpuUse.IDLE, GpuUse.UNKNOWN])
def test_whose_gpus_do_anything_else_is_not(tmp_path: Path, use: GpuUse) -> None:
    spells = [span for _ in range(9) for span in (
        one(8 * MINUTE, Doing(), gpus=GpuUse.SPINS), one(MINUTE, Doing(), gpus=use))]  # fmt: skip
    assert life(Machine(tmp_path), *spells, one(DAY / 4, Doing(), gpus=use)).warnings == []


def test_who_works_is_not_even_warned_about(tmp_path: Path) -> None:
    assert life(Machine(tmp_path), one(DAY, Doing())).warnings == []
