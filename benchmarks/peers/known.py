"""Figures of peers that were measured before, on Debian 12 with 2 cores and a quiet disk: shown where one
is not installed. gflow's are those of its process executor."""

from __future__ import annotations

from benchmarks.peers.measures import MANY, What

KNOWN: dict[str, dict[What, float]] = {
    "gflow": {
        What("one submission from the shell", "ms"): 18,
        What("submissions from a loop of the shell", "/s"): 67,
        What("submission to the job's first instruction", "ms"): 95,
        What("from one job to the next, one at a time", "ms"): 8500,
        What("memory, idle", "MB"): 15,
        What(f"memory with {MANY:,} queued", "MB"): 58,
        What(f"listing {MANY:,} queued", "ms"): 116,
        What("acknowledged, then lost to kill -9 of the daemon", "%"): 100,
    },
    "Slurm": {
        What("one submission from the shell", "ms"): 5,
        What("from one job to the next, one at a time", "ms"): 2600,
        What("acknowledged, then lost to kill -9 of the daemon", "%"): 100,
    },
    "Ray Jobs": {
        What("one submission from the shell", "ms"): 1200,
        What("memory, idle", "MB"): 1500,
    },
}
