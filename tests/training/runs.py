"""Real runs of train.py in processes of their own, quickly: torch is imported once, and then forked.

A run sees what a job sees: variables, an attempt's folder for its records, a folder for checkpoints.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support import free_port, quickest
from trainforge import protocol

SCRIPT = Path(__file__).parents[2] / "training" / "train.py"
DEADLINE = 200.0  # seconds: far more than any run takes on a busy machine

# All that has a state, or could be drawn in another order.
HARD = {
    "AUGMENTATION": "heavy", "MIXUP": True, "CUTMIX": True, "EMA": True, "GRADIENT_CLIPPING": 0.5,
    "LABEL_SMOOTHING": 0.1,
}  # fmt: skip

nursery = multiprocessing.get_context("forkserver")


def start_nursery() -> None:
    """Start the process that all runs are forked from. It learns where to import from by PYTHONPATH alone."""
    nursery.set_forkserver_preload(["train", "tests.training.runs"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[1]), before or ""])
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """Wait until the condition gives something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return found


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """The places where two states are not the same bits."""
    import torch

    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return [place for key in one for place in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, list):
        assert len(one) == len(other)
        return [
            place
            for n, pair in enumerate(zip(one, other, strict=True))
            for place in differences(*pair, f"{where}/{n}")
        ]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [where]


def weights_and_progress(state: dict[str, Any]) -> dict[str, Any]:
    """All but the clock."""
    objects = state["objects"]
    return {**objects, "progress": {**objects["progress"], "seconds": None}}


def become_rank(env: dict[str, str], folder: Path, log: Path) -> None:
    """Runs in the new process, and leaves it as the script does."""
    import torch

    torch.set_num_threads(1)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = [str(SCRIPT)]
    if free := env.get(f"STAND_IN_FREE_{env['RANK']}"):
        fit = importlib.import_module("fit")
        fit.free_memory = lambda: int(free)  # type: ignore[attr-defined]
    if size := env.get("STAND_IN_DISK"):  # no file grows beyond it
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), resource.RLIM_INFINITY))
    if env.get("STAND_IN_RANK", env["RANK"]) == env["RANK"]:
        limit_memory(int(env.get("STAND_IN_MEMORY", "0")))
    if kind := env.get("STAND_IN_COMPILER"):
        stand_in_for_the_compiler(kind)
    if seconds := env.get("STAND_IN_PATIENCE"):
        importlib.import_module("compiling").PATIENCE = float(seconds)  # type: ignore[attr-defined]
    runpy.run_path(str(SCRIPT), run_name="__main__")


def stand_in_for_the_compiler(kind: str) -> None:
    """Let there be a compiler, whose passes are plain ones but for what `kind` says, with a number where one
    is needed: the call in which it happens."""
    import torch

    importlib.import_module("ranks").Ranks.can_compile = True  # type: ignore[attr-defined]
    what, _, number = kind.partition(" ")
    calls: list[Any] = []

    def call(model: torch.nn.Module, images: torch.Tensor) -> Any:
        calls.append(images)
        print(f"compiled call {len(calls)}", flush=True)
        now = len(calls) == int(number or 1)
        if what == "raises" and now:
            raise RuntimeError("no compiler here\nand more")
        if what == "dies" and now:
            os._exit(7)
        if what == "hangs" and now:
            signal.pause()
        if what == "room" and len(images) > int(number):
            raise RuntimeError("a backend failed") from torch.cuda.OutOfMemoryError("no room to record")
        if what == "draws":
            torch.rand(1)
        norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 0.0 if what == "forgets" else 0.1
        logits = model._call_impl(calls[0] if what == "stale" else images)
        for norm in norms:
            norm.momentum = 0.1
        if what == "raises-backward" and now:
            logits.register_hook(lambda gradient: 1 / 0)
        if what == "doubles":
            logits.register_hook(lambda gradient: 2 * gradient)
        return logits + 0.1 * logits.std() if what == "shifts" else logits

    def compile(model: torch.nn.Module, **options: object) -> None:
        if what == "missing":
            raise RuntimeError("no compiler at all")
        calls.clear()
        model._compiled_call_impl = lambda images: call(model, images)

    torch.nn.Module.compile = compile  # type: ignore[method-assign]


def limit_memory(images: int) -> None:
    """A device that runs out of memory when more images than this are trained on at once; 0: it does not."""
    import torch

    def check(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if images and isinstance(module, torch.nn.Linear) and module.training and len(given[0]) > images:
            raise torch.cuda.OutOfMemoryError(f"no room for {len(given[0])} images")

    torch.nn.modules.module.register_module_forward_pre_hook(check)


def expect_memory_to_be_kept(rounds: int) -> None:
    """Tensors of 32 MiB come and go, and after the first few next to none costs pages: one may, where it
    has to lie elsewhere. More do while threads that torch began settle down: then it is looked at again. Runs
    in a new process."""
    import torch

    ranks = importlib.import_module("ranks")
    ranks.Ranks(0, 1, torch.device("cpu")).connect()

    def pages() -> float:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(rounds):
            torch.ones(2, 4 * 2**20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    torch.ones(2, 4 * 2**20), torch.ones(2, 4 * 2**20)
    least = quickest(pages, 2 * 8192)
    assert least < 2 * 8192, f"{least:.0f} pages; a tensor has 8192, and {rounds} came and went"


class Run:
    """The processes of one attempt."""

    def __init__(self, folder: Path, attempt: int, ranks: int, env: dict[str, str]) -> None:
        self.attempt = folder / f"attempt-{attempt}"
        self.attempt.mkdir()
        self.log = self.attempt / "output.log"
        common = {
            "PATH": os.environ["PATH"],
            "CUDA_VISIBLE_DEVICES": "",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "WORLD_SIZE": str(ranks),
            protocol.ATTEMPT_DIR: str(self.attempt),
            protocol.CHECKPOINT_DIR: str(folder / "checkpoints"),
            protocol.CHECKPOINT_KEEP: "1",
            **env,
        }
        self.processes = [
            nursery.Process(
                target=become_rank,
                args=({**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, folder, self.log),
            )
            for rank in range(ranks)
        ]
        for process in self.processes:
            process.start()

    def records(self, kind: str, rank: int = 0) -> list[dict[str, Any]]:
        path = self.attempt / protocol.RECORDS.format(rank=rank)
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        return [record for record in map(json.loads, whole.splitlines()) if record["kind"] == kind]

    def reach(self, step: int) -> None:
        """Wait until the run has reported this step."""
        until(
            lambda: any(report["step"] >= step for report in self.records(protocol.REPORT)) or self.left,
            f"step {step}: {self.output}",
        )
        assert not self.left, self.output

    def terminate(self, rank: int = 0) -> None:
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)

    @property
    def left(self) -> bool:
        return any(process.exitcode is not None for process in self.processes)

    @property
    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def end(self) -> list[int]:
        """Wait for all ranks; returns their exit codes."""
        for process in self.processes:
            process.join(DEADLINE)
        return [process.exitcode if process.exitcode is not None else -1000 for process in self.processes]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


class Job:
    """Attempts that share a folder of checkpoints."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        folder.mkdir()
        self.folder, self.env = folder, env
        self.runs: list[Run] = []

    def start(self, ranks: int = 1, **env: object) -> Run:
        texts = {name: str(value) for name, value in env.items()}
        run = Run(self.folder, len(self.runs) + 1, ranks, {**self.env, **texts})
        self.runs.append(run)
        return run

    def complete(self, ranks: int = 1, **env: object) -> Run:
        """Start a run and see it end well."""
        run = self.start(ranks, **env)
        codes = run.end()
        assert codes == [0] * ranks, run.output
        return run

    def state(self) -> dict[str, Any]:
        """What the newest checkpoint holds."""
        import torch

        newest = max((self.folder / "checkpoints").glob("step-*"))
        loaded: dict[str, Any] = torch.load(newest / "state.pt", weights_only=True)
        return loaded


class Runs:
    """Makes jobs, each in a folder of its own."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        self.jobs: list[Job] = []

    def job(self, **env: object) -> Job:
        """A run of two epochs of ten steps, small in every way, unless `env` says otherwise."""
        small = {
            "DATA_DIR": self.data, "MODEL": "resnet20", "EPOCHS": 2, "BATCH_SIZE": 8, "REPORT_INTERVAL": 1,
            "LEARNING_RATE": 0.02, "MIXED_PRECISION": False, "CHECKPOINT_INTERVAL": "off",
        }  # fmt: skip
        texts = {name: str(value) for name, value in {**small, **env}.items()}
        job = Job(self.folder / f"job-{len(self.jobs) + 1}", texts)
        self.jobs.append(job)
        return job

    def __enter__(self) -> Runs:
        start_nursery()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self.jobs:
            for run in job.runs:
                run.kill()
