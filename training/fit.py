"""How many images a rank can take at once: found by trying on a GPU, by counting bytes on a CPU.

It is asked before the model is wrapped for several ranks, where running out of memory on one leaves the
others waiting for it. What was found, or learned later the hard way, is kept for the job's next attempts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from data import SIZE
from ranks import Ranks
from settings import Settings

SHARE = 0.5  # of a CPU's free memory, that a batch may take: there is no second try
NOTE = "batch-size-per-gpu"  # a file beside the checkpoints
FEW_STEPS = 16  # an epoch that has fewer teaches little
OTHERS = 2**31  # bytes of a GPU that others hold, from which on they are to blame; CUDA takes some for itself


def known_or_found(model: nn.Module, settings: Settings, ranks: Ranks, images: int) -> int:
    """The most that a rank can take of the `images` at once, the same on all ranks; 0 where nobody asks:
    a single rank learns it while it trains."""
    folder = os.environ.get("TRAINFORGE_CHECKPOINT_DIR", "checkpoints")
    if known := read_note(folder):
        return known
    if not settings.wants_fit and (ranks.count == 1 or not ranks.on_gpu):
        return 0
    fits = can_train(model, ranks.device, settings.mixed_precision, ranks.count)
    if settings.wants_fit:
        found = ranks.least(largest(fits, max(1, images // FEW_STEPS // ranks.count)))
    else:
        found = ranks.least(halved(fits, settings.part))
        if found == settings.part:
            return 0
    if ranks.first:
        write_note(folder, found)
    return found


def ran_out(error: BaseException | None) -> bool:
    """Whether it was memory, in torch's words or CUDA's, by whomever it is told."""
    while error and not isinstance(error, torch.cuda.OutOfMemoryError):
        if "CUDA error: out of memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return error is not None


def can_halve(folder: str, settings: Settings, ranks: Ranks) -> bool:
    """Memory ran out while training: note that half as many images must do. Whether this attempt can go on;
    with several ranks the others are waiting for a sum that will not come, and the next attempt does."""
    if settings.part == 1 or taken_by_others():
        return False
    half = (settings.part + 1) // 2
    write_note(folder, half)
    who = f"rank {ranks.rank}: " if ranks.count > 1 else ""
    when = "in the next attempt" if ranks.count > 1 else "from now on"
    print(
        f"{who}out of memory with {settings.part} images at once: {half} {when}, in twice the parts; "
        f"the batch stays {settings.batch_size}",
        flush=True,
    )
    return ranks.count == 1


def largest(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number up to `limit` that fits, to an eighth; 1 where nothing does."""
    most = 1
    while 2 * most <= limit and fits(2 * most):
        most *= 2
    step = most // 2
    while step and step >= most // 8:
        if most + step <= limit and fits(most + step):
            most += step
        step //= 2
    return most


def halved(fits: Callable[[int], bool], wanted: int) -> int:
    """`wanted`, or the half, or the half of that: what fits."""
    while wanted > 1 and not fits(wanted):
        wanted = (wanted + 1) // 2
    return wanted


def can_train(model: nn.Module, device: torch.device, bf16: bool, ranks: int) -> Callable[[int], bool]:
    """Whether the model can learn from so many images at once. It stays as it is.

    `ranks`: on this machine, which share a CPU's memory."""
    if device.type == "cuda":
        return lambda images: tries(lambda: rehearse(model, device, bf16, images))
    each = (bytes_kept(model, device, bf16, 4) - bytes_kept(model, device, bf16, 2)) / 2
    room = SHARE * free_memory() / ranks
    return lambda images: images * each <= room


def tries(work: Callable[[], object]) -> bool:
    """Whether the work fits into the device's memory; it fails where others took that."""
    try:
        work()
    except torch.cuda.OutOfMemoryError:
        if taken_by_others():
            raise
        return False
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return True


def taken_by_others() -> bool:
    """Whether other processes' share of the GPU is why it has no room, and TrainForge would wait for it: then
    a smaller batch is not the answer."""
    if "TRAINFORGE_JOB_ID" not in os.environ or not torch.cuda.is_available():
        return False
    free, total = torch.cuda.mem_get_info()
    others = int(total - free - torch.cuda.memory_reserved())
    if others < OTHERS:
        return False
    print(f"other processes hold {others / 2**30:.1f} GiB of the GPU: the batch is not to blame", flush=True)
    return True


def rehearse(model: nn.Module, device: torch.device, bf16: bool, images: int) -> None:
    """A step's forward and backward pass on nothing, beside what optimizer and averaging will take: three
    times the weights. Statistics are put back."""
    before = [buffer.clone() for buffer in model.buffers()]
    kept = [torch.empty_like(weight) for weight in model.parameters() for _ in range(3)]
    try:
        forward(model, device, bf16, images).sum().backward()
    finally:
        del kept
        model.zero_grad()
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)


def forward(model: nn.Module, device: torch.device, bf16: bool, images: int) -> torch.Tensor:
    nothing = torch.zeros(images, 3, SIZE, SIZE, device=device).to(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        logits: torch.Tensor = model(nothing)
    return logits


def bytes_kept(model: nn.Module, device: torch.device, bf16: bool, images: int) -> int:
    """What a forward pass keeps for the backward pass."""
    sizes: dict[int, int] = {}
    held = []  # so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    before = [buffer.clone() for buffer in model.buffers()]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(model, device, bf16, images)
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)
    return sum(sizes.values())


def free_memory() -> int:
    """Bytes that this machine, or the control group this process is in, has left."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    group = Path("/proc/self/cgroup").read_text().splitlines()[-1].rpartition(":")[2]
    folder = Path("/sys/fs/cgroup") / group.lstrip("/")
    try:
        limit, used = ((folder / name).read_text() for name in ("memory.max", "memory.current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # not of this kind, or `max`
        return free


def read_note(folder: str, name: str = NOTE) -> int:
    """What earlier attempts found; 0: nothing."""
    try:
        return max(0, int(Path(folder, name).read_text()))
    except (OSError, ValueError):
        return 0


def write_note(folder: str, number: int, name: str = NOTE) -> None:
    temporary = Path(folder, f".{name}.tmp")
    try:
        os.makedirs(folder, exist_ok=True)
        temporary.write_text(f"{number}\n")
        temporary.replace(Path(folder, name))
    except OSError as error:
        print(f"{folder}/{name} was not written: {error.strerror}", file=sys.stderr)
