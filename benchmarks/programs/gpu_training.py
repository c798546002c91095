"""The training project on a GPU: `python benchmarks/programs/gpu_training.py`; about five minutes.

Prints a table, and JSON with --json: seconds per epoch of 50,000 images for ResNet-50 at batches of 128 and
1024, plain and as `COMPILE: auto` has it on one GPU; the GPU's utilisation and memory; the share of two
floors, operations and bytes; what several GPUs would do, as a model; and whether a run that does not fit goes
on with smaller parts. A row that fails is told, and the others are measured.
`--trial` does the same in small, on any machine, to see that it works: its figures mean nothing.

Each row is measured in a process of its own, as a training is: what one compiled or kept does not show in the
next. The images are made up: what they show does not change how long they take.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2] / "training"), str(Path(__file__).parents[2])]

import torch  # noqa: E402  # after the paths
from torch import nn  # noqa: E402

from benchmarks.programs.resnet_loop import make_trainer  # noqa: E402

EPOCH = 50_000
SETTLES = 1.0  # seconds: the driver's utilisation is of the last of them
FLOPS = {"resnet50": 7.79e9, "resnet20": 0.25e9}  # of an image, forward and backward
# Dense bfloat16 operations and bytes per second, of the data sheets.
CHIPS = {
    "H200": (989e12, 4.8e12),
    "H100": (989e12, 3.35e12),
    "A100": (312e12, 2.0e12),
    "4090": (165e12, 1.0e12),
}
# Bytes per second that an all-reduce passes on, ASSUMED: one GPU cannot measure it.
BUSES = {"NVLink": 300e9, "PCIe": 20e9}
LATENCY = 50e-6  # seconds of an all-reduce of nothing, ASSUMED


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trial", action="store_true", help="in small, on any machine")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.trial and not torch.cuda.is_available():
        sys.exit("there is no GPU here; --trial shows that the script works")
    os.environ.setdefault("BENCHMARK_DIR", tempfile.mkdtemp())
    if args.row:
        model, batch, compiled = json.loads(args.row)
        print(json.dumps(measure(model, batch, compiled, 0.2 if args.trial else 4.0)))
        return
    if args.memory:
        print(json.dumps(runs_out_of_memory(args.memory, 64 if args.trial else 4096)))
        return
    model, trial = "resnet20" if args.trial else "resnet50", ["--trial"] * args.trial
    rows, failures = [], []
    for batch, compiled in itertools.product((16, 32) if args.trial else (128, 1024), (False, True)):
        row = apart("--row", json.dumps([model, batch, compiled]), *trial)
        if isinstance(row, str):
            failures.append(f"batch {batch}, {'compiled' if compiled else 'plain'}: {row}")
        else:
            rows.append(row)
        print(failures[-1] if isinstance(row, str) else as_text(row), flush=True, file=sys.stderr)
    memory = apart("--memory", model, *trial)
    result = {"device": device_name(), "rows": rows, "failures": failures, "out_of_memory": memory}
    print(json.dumps(result, indent=1) if args.json else f"out of memory: {memory}")


def apart(*options: str) -> Any:
    """What this program prints last as JSON, run with these options; a text that says how it failed."""
    done = subprocess.run([sys.executable, __file__, *options], check=False, capture_output=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    last = next(reversed(done.stderr.decode(errors="replace").splitlines()), "")
    return f"it ended with {done.returncode}: {last}"


def measure(model: str, batch: int, compiled: bool, least: float) -> dict[str, Any]:
    """One row, of at least so many seconds."""
    knob = {"COMPILE": "auto" if compiled else "false"}
    trainer, step = make_trainer(model, batch, images=max(6400, 4 * batch), compiles=True, **knob)
    settings = trainer.settings
    for _ in range(10):
        step()
    trainer.window.restart()
    taken: list[float] = []
    with utilisation() as used:
        started = time.perf_counter()
        while len(taken) < 3 or time.perf_counter() - started < least:
            wait()
            began = time.perf_counter()
            for _ in range(10):
                step()
            wait()
            taken.append((time.perf_counter() - began) / 10)
    seconds = statistics.median(taken)
    epoch = seconds * EPOCH / batch
    operations, traffic = floors(model, bytes_of_an_image(trainer.model))
    weights = sum(weight.numel() * 4 for weight in trainer.model.parameters())
    return {
        "model": model,
        "batch": batch,
        "passes": passes(settings.compile),
        "why": settings.sources["compile"] if compiled else "",
        "seconds_per_epoch": epoch,
        "images_per_second": batch / seconds,
        "step_seconds": seconds,
        "utilisation": statistics.fmean(used) if used else None,
        "memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "floor_operations_seconds": operations,
        "floor_bytes_seconds": traffic,
        "share_of_floor": max(operations, traffic or 0.0) / epoch if operations else None,
        "model_of_speed_up": {
            bus: {gpus: speed_up(seconds, weights, gpus, bandwidth) for gpus in (2, 4, 8)}
            for bus, bandwidth in BUSES.items()
        }
        if not settings.compile  # as several GPUs have it
        else {},
    }


def passes(compiled: bool) -> str:
    return "plain" if not compiled else "compiled and recorded" if torch.cuda.is_available() else "compiled"


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


@contextlib.contextmanager
def utilisation() -> Iterator[list[float]]:
    """Percent, as the driver says it, every tenth of a second; nothing where it cannot be asked. The first
    second is left out: it tells of what was before."""
    found: list[float] = []
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:
        yield found
        return
    done = threading.Event()

    def watch() -> None:
        done.wait(SETTLES)
        while not done.wait(0.1):
            found.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    thread = threading.Thread(target=watch)
    thread.start()
    yield found
    done.set()
    thread.join()


def bytes_of_an_image(model: nn.Module) -> float:
    """What must pass between memory and chip for one image, forward and backward, in bfloat16.

    A convolution reads its input and writes its output; backward it reads the gradient twice and the input
    once, and writes one. A norm, with what follows it, reads twice and writes once; backward it reads four
    times and writes once."""
    total = 0.0

    def count(module: nn.Module, given: tuple[torch.Tensor, ...], result: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += 2 * (3 * given[0].numel() + 3 * result.numel())
        elif isinstance(module, nn.BatchNorm2d):
            total += 2 * 8 * result.numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        forward = model.forward  # not the compiled call
        forward(torch.zeros(1, 3, 32, 32, device=device))
    model.train()
    for hook in hooks:
        hook.remove()
    return total


def floors(model: str, image: float) -> tuple[float | None, float | None]:
    """Seconds of an epoch if nothing counted but operations, or but bytes; None for an unknown chip."""
    for name, (operations, traffic) in CHIPS.items():
        if name in device_name():
            return EPOCH * FLOPS[model] / operations, EPOCH * image / traffic
    return None, None


def speed_up(step: float, weights: int, gpus: int, bandwidth: float) -> float:
    """A MODEL, not a measurement: the same batch on each GPU; gradients are summed while the backward pass,
    two thirds of the step, goes on, and the last eighth of them after it."""
    whole = 2 * (gpus - 1) / gpus * weights / bandwidth + LATENCY
    exposed = max(whole - 2 / 3 * step, whole / 8)
    return gpus * step / (step + exposed)


def runs_out_of_memory(model: str, batch: int) -> str:
    """A run that may use an eighth of the memory, with a batch that does not fit into it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1 / 8)
    trainer, step = make_trainer(model, batch, images=2 * batch, BATCH_SIZE_PER_GPU=str(batch))
    step()
    wait()
    settings = trainer.settings
    return f"a step of {settings.batch_size} images, in {settings.parts} parts of {settings.part}"


def as_text(row: dict[str, Any]) -> str:
    used = "–" if row["utilisation"] is None else f"{row['utilisation']:.0f} %"
    memory = "–" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 2**30:.1f} GiB"
    share = "–" if row["share_of_floor"] is None else f"{row['share_of_floor']:.0%}"
    model = "".join(
        f"\n  a model of {bus}, not measured: "
        + ", ".join(f"{gpus} GPUs {value:.2f}×" for gpus, value in each.items())
        for bus, each in row["model_of_speed_up"].items()
    )
    return (
        f"{row['model']}, batch {row['batch']}, {row['passes']}: "
        f"{row['seconds_per_epoch']:.2f} s per epoch of {EPOCH:,}, {row['images_per_second']:,.0f} images/s, "
        f"GPU used {used}, memory {memory}, share of the floor {share}{model}"
    )


if __name__ == "__main__":
    main()
