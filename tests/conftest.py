"""For all tests: how many at once, which come first, and that Ctrl-C reaches what they start.

As many as there are cores: half as many again took no less time on two cores, and failed what waits.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
LONGEST = (
    "daemon/test_training.py",
    "training/test_resume.py",
    "job/test_examples.py",
    "daemon/test_frameworks.py",
    "daemon/test_gpu_health.py",
    "training/test_running.py",
    "daemon/test_torn_database.py",
    "daemon/test_peers.py",
    "daemon/test_stuck_in_the_kernel.py",
    "training/test_bitwise_table.py",
    "system/test_reboot.py",
    "system/test_service.py",
    "daemon/test_training_memory.py",
    "daemon/test_full_disks.py",
    "job/test_ranks.py",
    "daemon/test_commands.py",
    "daemon/test_killed.py",
    "daemon/test_torture.py",
    "daemon/test_training_refusals.py",
    "page/test_views.py",
    "shell/execution/test_host_torch.py",
    "shell/storage/test_metrics_blocks.py",
    "job/test_checkpointer.py",
    "job/test_checkpoint_kills.py",
    "system/test_user_service.py",
    "daemon/test_silent_disk.py",
    "daemon/test_history.py",
    "daemon/test_giving_back.py",
)
"""The files that take longest come first: one that began last would keep all others waiting."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` means. The variable is xdist's own."""
    given = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return int(given) if given else len(os.sched_getaffinity(0))


def pytest_configure() -> None:
    """A shell has what it starts in the background ignore Ctrl-C, which is handed down to every process."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By files: with `--dist loadfile --no-loadscope-reorder` these are given out as they come."""
    place = {ROOT / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))
