"""How long a save keeps training waiting: `python benchmarks/programs/checkpoint_overhead.py`.

Arguments: the model and the number of rounds.

As in use: a network is trained (default ResNet-50 with SGD's momentum, 205 MB), and after a step its state is
saved, in turns by `Checkpointer.save` and by a plain `torch.save` to the same disk, over the file of the last
time. Each begins on a quiet disk. Counted are the call and what the next optimizer step waits until its state
is copied. Goal: at most 10 % of the plain one, from the second save on (the first also has
to get the host memory).

What is written in the background takes cores, which on a machine of few the next step misses. That is no
waiting, but it is told: how much longer the step after a save took than one after which nothing is written.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

BATCH = 4


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    import torch
    import torchvision

    from trainforge import Checkpointer

    name, rounds = sys.argv[1] if len(sys.argv) > 1 else "resnet50", int([*sys.argv, "9"][2])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = getattr(torchvision.models, name)().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images = torch.randn(BATCH, 3, 64, 64, device=device)

    def step(before: Callable[[], None] = lambda: None) -> None:
        model(images).square().mean().backward()
        before()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    plain: list[float] = []
    called: list[float] = []
    waited: list[float] = []
    usual: list[float] = []
    beside: list[float] = []
    written: list[float] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR", ".")) as folder:
        ckpt = Checkpointer(folder, model=model, optimizer=optimizer, keep=1)
        path = os.path.join(folder, "plain.pt")

        def save_plainly() -> None:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)

        def by_us(number: int) -> None:
            called.append(seconds(partial(ckpt.save, number)))
            beside.append(seconds(partial(step, lambda: waited.append(seconds(ckpt._before_step)))))
            written.append(seconds(ckpt.wait))

        def by_torch() -> None:
            plain.append(seconds(save_plainly))
            os.sync()
            usual.append(seconds(step))

        step()
        save_plainly()
        size = os.path.getsize(path)
        for number in range(rounds):
            for way in (partial(by_us, number), by_torch)[:: 1 if number % 2 else -1]:
                os.sync()
                step()
                way()
    blocked = [call + wait for call, wait in zip(called, waited, strict=True)]
    pairs = [ours / theirs for ours, theirs in zip(blocked[1:], plain[1:], strict=True)]
    result = {
        "device": device,
        "state_mb": round(size / 1e6, 1),
        "torch_save_s": round(statistics.median(plain), 4),
        "save_blocks_s": round(statistics.median(blocked[1:]), 4),
        "of_which_the_next_step_s": round(statistics.median(waited[1:]), 4),
        "save_blocks_first_s": round(blocked[0], 4),
        "share": round(statistics.median(pairs), 4),
        "shares": [round(pair, 4) for pair in sorted(pairs)],
        "step_s": round(statistics.median(usual), 4),
        "step_beside_writing_s": round(statistics.median(beside), 4),
        "written_after_that_s": round(statistics.median(written), 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
