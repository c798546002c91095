"""How long a save keeps training waiting: `python benchmarks/programs/checkpoint_overhead.py [MILLIONS]`.

The state is a model's and its SGD momentum's (default 24 million parameters each, 190 MB: a
ResNet-50). Compared in one run with a plain `torch.save` of the same state to the same disk.
Goal: `Checkpointer.save` blocks for at most 10 % of it, from the second save on (the first one
also has to get the host memory).
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

ROUNDS = 7


def seconds(call: Callable[[], object]) -> float:
    os.sync()  # what is still being written would be measured too
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    import torch

    from trainforge import Checkpointer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    millions = float(sys.argv[1]) if len(sys.argv) > 1 else 24.0
    layers = [torch.nn.Linear(1000, 1000, bias=False) for _ in range(round(millions))]
    model = torch.nn.Sequential(*layers).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()

    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR", ".")) as folder:
        ckpt = Checkpointer(folder, model=model, optimizer=optimizer, keep=1)
        plain, blocked, written = [], [], []
        for step in range(ROUNDS):
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            plain.append(seconds(partial(torch.save, state, os.path.join(folder, "plain.pt"))))
            blocked.append(seconds(partial(ckpt.save, step)))
            started = time.perf_counter()
            ckpt._finish()
            written.append(time.perf_counter() - started)
        size = os.path.getsize(os.path.join(folder, "plain.pt"))
    usual = statistics.median(plain)
    result = {
        "device": device,
        "state_mb": round(size / 1e6, 1),
        "torch_save_s": round(usual, 4),
        "torch_save_least_s": round(min(plain), 4),
        "save_blocks_least_s": round(min(blocked[1:]), 4),
        "save_blocks_first_s": round(blocked[0], 4),
        "save_blocks_s": round(statistics.median(blocked[1:]), 4),
        "share": round(statistics.median(blocked[1:]) / usual, 3),
        "written_and_durable_after_s": round(statistics.median(written), 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
