"""Drivers that hang, crash or are replaced, and readers that die: a GPU is lost alone, and comes back."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.shell.devices.nvml_reading import (
    HASTY,
    fresh,
    inventory_of,
    readers,
    sampled,
    the_reader_in_the_driver_of,
)
from tests.shell.nvml_standin import Standin, gpu
from trainforged.devices.nvml import Limits


async def test_a_gpu_that_hangs_the_reader_is_lost_alone_and_the_deadline_holds(standin: Standin) -> None:
    now = 0.0
    standin.say(gpu(0), gpu(1), gpu(2))
    async with inventory_of(standin, HASTY, clock=lambda: now) as inventory:
        await sampled(inventory, fresh(0, 1, 2))

        standin.say(gpu(0), gpu(1, hang=1), gpu(2, utilisation=50))
        await sampled(inventory, lambda samples: standin.hung)
        began = time.monotonic()
        waiting = await inventory.sample()
        assert time.monotonic() - began < 5.0, "the deadline of one call was not kept"
        assert [s.lost for s in waiting] == [None] * 3
        assert waiting[1].stale

        now += HASTY.patience + 0.1
        _, hung, other = await sampled(inventory, fresh(0, 2))
        assert (hung.uuid, hung.stale) == (gpu(1)["uuid"], False)
        assert (
            hung.lost
            == "the NVIDIA driver fails when asked about it (the GPU reader did not answer for 15 s)"
        )
        assert other.utilisation == 50
        assert len(readers()) == 1


async def test_a_gpu_that_hung_is_tried_again(standin: Standin) -> None:
    now = 0.0
    standin.say(gpu(0), gpu(1, hang=1))
    async with inventory_of(standin, HASTY, clock=lambda: now) as inventory:
        await sampled(inventory, lambda samples: standin.hung)
        await inventory.sample()
        now += HASTY.patience + 0.1
        await sampled(inventory, lambda samples: samples[1:] and samples[1].lost)

        standin.say(gpu(0), gpu(1))
        await sampled(inventory, fresh(0))
        now += HASTY.suspicion

        await sampled(inventory, fresh(0, 1))


async def test_a_driver_that_hangs_as_a_whole_is_the_problem(standin: Standin) -> None:
    now = 0.0
    standin.say(gpu(0), hang=1)
    async with inventory_of(standin, HASTY, clock=lambda: now) as inventory:
        await sampled(inventory, lambda samples: standin.hung)
        assert not inventory.settled

        now += HASTY.first + 0.1
        assert await sampled(inventory, lambda samples: inventory.settled) == ()
        assert inventory.problem == "the GPU reader did not answer for 60 s; it is started again"

        standin.say(gpu(0))
        await sampled(inventory, fresh(0))
        assert inventory.problem is None


async def test_a_gpu_that_crashes_the_reader_is_lost_alone(standin: Standin) -> None:
    standin.say(gpu(0), gpu(1, crash=1), gpu(2))

    async with inventory_of(standin) as inventory:
        _, crashed, _ = await sampled(inventory, fresh(0, 2))

        assert (
            crashed.lost
            == "the NVIDIA driver fails when asked about it (the GPU reader was ended by SIGSEGV)"
        )


async def test_a_killed_reader_is_replaced_and_no_gpu_is_blamed(standin: Standin) -> None:
    standin.say(gpu(0), gpu(1))
    async with inventory_of(standin) as inventory:
        before = await inventory.sample()
        (reader,) = readers()

        reader.send_signal(signal.SIGKILL)
        after = await inventory.sample()

        assert [s.stale for s in after] == [True, True]
        assert [s.lost for s in after] == [None, None]
        assert inventory.problem == "the GPU reader was ended by SIGKILL; it is started again"
        assert await sampled(inventory, fresh(0, 1)) == before
        assert inventory.problem is None
        assert [child.pid for child in readers()] != [reader.pid]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/nonexistent",), "cannot be started"),
        (("sh", "-c", "read order; echo nonsense; read more"), "answered nonsense"),
        (("sh", "-c", "exit 3"), "ended with status 3"),
    ],
)
async def test_a_reader_that_never_works_is_a_problem_and_not_an_error(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr("trainforged.devices.reader.COMMAND", command)

    async with inventory_of(standin) as inventory:
        assert await inventory.sample() == ()
        assert not inventory.settled, "one failure may be chance"
        assert await sampled(inventory, lambda samples: inventory.settled) == ()
        assert words in (inventory.problem or "")


async def test_two_gpus_of_one_name_do_no_harm(standin: Standin) -> None:
    standin.say(gpu(0), gpu(0), gpu(1, lost=15), gpu(2, lost=15))

    async with inventory_of(standin) as inventory:
        assert [(s.uuid != "", s.index) for s in await inventory.sample()] == [
            (True, 1),
            (False, 2),
            (False, 3),
        ]


async def test_what_has_not_been_heard_of_for_long_is_lost(standin: Standin) -> None:
    now = 0.0
    limits = Limits(deadline=20.0, tolerance=40.0, retry=1000.0, slowest_retry=1000.0)
    standin.say(gpu(0))
    async with inventory_of(standin, limits, clock=lambda: now) as inventory:
        await inventory.sample()
        readers()[0].send_signal(signal.SIGKILL)
        now = 40.0
        (kept,) = await inventory.sample()
        assert (kept.stale, kept.lost) == (True, None)

        now = 40.1
        (silent,) = await inventory.sample()

        assert (silent.uuid, silent.stale) == (kept.uuid, True)
        assert silent.lost == "the NVIDIA driver does not answer"


async def test_a_driver_upgraded_under_the_reader_is_noticed(standin: Standin) -> None:
    standin.say(gpu(0))
    async with inventory_of(standin) as inventory:
        await inventory.sample()

        standin.say(gpu(0), init=18)
        assert fresh(0)(await inventory.sample()), "a library that is loaded goes on working"
        standin.upgrade()
        await sampled(inventory, lambda samples: not samples)
        assert "the NVIDIA driver was upgraded" in (inventory.problem or "")

        standin.say(gpu(0))
        await sampled(inventory, fresh(0))
        assert inventory.problem is None


async def test_the_reader_ends_with_the_inventory(standin: Standin) -> None:
    standin.say(gpu(0))
    async with inventory_of(standin) as inventory:
        await inventory.sample()
        (reader,) = readers()

    assert not reader.is_running()
    await inventory.close()  # again: nothing to do


def test_the_reader_does_not_outlive_a_killed_daemon_even_in_a_hung_driver(standin: Standin) -> None:
    standin.say(hang=1)
    code = (
        "import asyncio\n"
        "from trainforged.devices.nvml import Limits, NvmlInventory\n"
        "asyncio.run(NvmlInventory(limits=Limits(deadline=60.0)).sample())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=standin.env) as daemon:
        reader = the_reader_in_the_driver_of(psutil.Process(daemon.pid))
        daemon.kill()

    gone, alive = psutil.wait_procs([reader], timeout=60)
    assert (gone, alive) == ([reader], [])
