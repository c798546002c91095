"""A million random events through the core, its invariants held after each batch: `make histories`.

The same machine as in `test_invariants`, over longer histories. A seed repeats them; a failure is shrunk and
shown.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.core.test_invariants import Histories

STEPS = 100  # in one history
CHUNK = 100  # histories, after which there is a word on how far it is


def chunk(number: int) -> int:
    """Some histories; how many events they told the core."""
    told = 0

    @seed(number)
    class Counted(Histories):
        def teardown(self) -> None:
            nonlocal told
            super().teardown()
            told += self.world.told

    whole = settings(
        max_examples=CHUNK,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Counted, settings=whole)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.core.histories", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    first = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {first}: {args.events} events", flush=True)
    began, told, number = time.monotonic(), 0, first
    with ProcessPoolExecutor(args.processes) as pool:
        running = set()
        while told < args.events:
            while len(running) < args.processes:
                running.add(pool.submit(chunk, number))
                number += 1
            done = next(as_completed(running))
            running.remove(done)
            told += done.result()
            print(f"{told:>9} events, {time.monotonic() - began:.0f} s", flush=True)
    print("every invariant held, and every job came to its end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
