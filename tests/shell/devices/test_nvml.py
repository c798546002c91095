"""Real GPUs as the daemon sees them: the real pynvml in the real reader process, over a stand-in driver."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.shell.devices.nvml_reading import MIB, fresh, inventory_of, readers, sampled
from tests.shell.nvml_standin import Standin, gpu
from trainforge.api import GpuProcess
from trainforge.driver import driver_present
from trainforged.devices.inventory import Sample
from trainforged.devices.nvml import Limits


async def test_a_gpu_is_read_whole(standin: Standin) -> None:
    me, desktop = os.getpid(), os.getppid()
    standin.say(
        gpu(0),
        gpu(1, used=20000, utilisation=97, temperature=68, power=512300, compute=f"{me}:19000",
            graphics=f"{desktop}:300 {me}:19000"),
    )  # fmt: skip

    async with inventory_of(standin) as inventory:
        first, second = await inventory.sample()

    assert (inventory.settled, inventory.problem, inventory.driver) == (True, None, "550.54")
    assert first == Sample(
        uuid="GPU-00000000-0000-4000-8000-000000000000",
        index=0,
        name="NVIDIA H100 80GB HBM3",
        pci="00000000:01:00.0",
        memory_total=81920 * MIB,
        memory_used=4 * MIB,
        utilisation=0,
        temperature=34,
        power=71.5,
        power_limit=700.0,
    )
    assert (second.memory_used, second.utilisation, second.temperature) == (20000 * MIB, 97, 68)
    assert second.power == 512.3
    user, name = getpass.getuser(), psutil.Process().name()
    assert {p.pid: p for p in second.processes} == {
        me: GpuProcess(pid=me, memory=19000 * MIB, kind="compute", name=name, user=user),
        desktop: GpuProcess(
            pid=desktop, memory=300 * MIB, kind="graphics", name=psutil.Process(desktop).name(),
            user=psutil.Process(desktop).username(),
        ),
    }  # fmt: skip


async def test_what_a_gpu_does_not_support_is_none_and_fails_nothing(standin: Standin) -> None:
    bare = gpu(
        0, name=None, pci=None, utilisation=None, temperature=None, power=None, power_limit=None, mig=None
    )
    standin.say(
        bare | {"without": "Memory Compute Graphics Mps"},
        gpu(1, without="Reserved Mps"),
        gpu(2, mig=1, utilisation=None),
    )

    async with inventory_of(standin) as inventory:
        nothing, older, divided = await inventory.sample()

    assert nothing == Sample(uuid="GPU-00000000-0000-4000-8000-000000000000", index=0)
    assert (older.memory_used, older.utilisation, older.processes) == (4 * MIB, 0, ())
    assert (divided.mig, divided.utilisation, divided.memory_total) == (True, None, 81920 * MIB)


async def test_figures_that_cannot_be_true_are_left_out(standin: Standin) -> None:
    standin.say(gpu(0, utilisation=4000, temperature=9999, power=4294967294, used=99999999, compute="1:-1"))

    async with inventory_of(standin) as inventory:
        (sample,) = await inventory.sample()

    assert (sample.utilisation, sample.temperature, sample.power, sample.memory_used) == (None,) * 4
    assert [(p.pid, p.memory) for p in sample.processes] == [(1, None)]


@pytest.fixture
def zombie() -> Iterator[int]:
    """The pid of a process of which only the exit status is left."""
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        yield child.pid


async def test_a_process_that_has_ended_is_listed_without_a_name(standin: Standin, zombie: int) -> None:
    standin.say(gpu(0, compute=f"{zombie}:100 4194304:200 4294967295:300"))

    async with inventory_of(standin) as inventory:
        (sample,) = await inventory.sample()

    assert [p.name for p in sample.processes] == [None, None, None]
    assert [p.memory for p in sample.processes] == [100 * MIB, 200 * MIB, 300 * MIB]


async def test_a_lost_gpu_is_lost_alone_and_may_come_back(standin: Standin) -> None:
    standin.say(gpu(0), gpu(1), gpu(2))
    async with inventory_of(standin) as inventory:
        before = await inventory.sample()

        standin.say(gpu(0), gpu(1, lost=15), gpu(2, utilisation=50))
        zero, one, two = await inventory.sample()

        assert zero == before[0]
        assert two.utilisation == 50
        assert one == Sample(
            uuid=before[1].uuid,
            index=1,
            name=before[1].name,
            pci=before[1].pci,
            memory_total=before[1].memory_total,
            lost="it has fallen off the bus; a reboot may bring it back (NVML error 15: GPU is lost)",
        )

        standin.say(gpu(0), gpu(1), gpu(2))
        assert await inventory.sample() == before


async def test_while_a_gpu_is_lost_the_library_is_initialised_anew_now_and_then(standin: Standin) -> None:
    now = 0.0
    limits = Limits(deadline=20.0, renewal=60.0)
    standin.say(gpu(0), gpu(1, lost=15))
    async with inventory_of(standin, limits, clock=lambda: now) as inventory:
        await inventory.sample()
        (first,) = readers()
        now = 59.0
        await inventory.sample()
        assert readers() == [first]

        now = 60.0
        await inventory.sample()
        await sampled(inventory, fresh(0))

        (second,) = readers()
        assert second.pid != first.pid
        await inventory.sample()
        assert readers() == [second]


async def test_a_gpu_that_was_lost_before_anybody_looked_has_no_name(standin: Standin) -> None:
    standin.say(gpu(0, lost=15), gpu(1, lost=999), gpu(2))

    async with inventory_of(standin) as inventory:
        zero, one, two = await inventory.sample()

    assert (zero.uuid, one.uuid) == ("", "")
    assert zero.lost
    assert one.lost == "it does not answer (NVML error 999: Unknown Error)"
    assert two.lost is None


async def test_gpus_are_numbered_anew_when_one_has_gone(standin: Standin) -> None:
    standin.say(gpu(0), gpu(1), gpu(2))
    async with inventory_of(standin) as inventory:
        zero, _, two = await inventory.sample()

        standin.say(gpu(0), gpu(2))

        assert [(s.uuid, s.index) for s in await inventory.sample()] == [(zero.uuid, 0), (two.uuid, 1)]

        standin.say(gpu(0))

        assert [(s.uuid, s.index) for s in await inventory.sample()] == [(zero.uuid, 0)]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "the NVIDIA driver is not loaded (modprobe nvidia)"),
        (999, "the NVIDIA driver cannot be used: Unknown Error"),
    ],
)
async def test_a_driver_that_cannot_be_used_says_why(standin: Standin, code: int, words: str) -> None:
    standin.say(gpu(0), init=code)

    async with inventory_of(standin) as inventory:
        assert await inventory.sample() == ()
        assert (inventory.settled, inventory.problem) == (True, words)


async def test_a_library_that_cannot_be_loaded_is_no_driver(standin: Standin) -> None:
    standin.library.write_bytes(b"")

    async with inventory_of(standin) as inventory:
        assert await inventory.sample() == ()
        assert inventory.problem == "no NVIDIA driver is installed (libnvidia-ml.so.1 was not found)"


async def test_without_a_driver_no_reader_runs_and_one_that_comes_is_found_later(standin: Standin) -> None:
    now, here = 1000.0, False
    standin.say(gpu(0))
    limits = Limits(deadline=20.0, slowest_retry=60.0)
    async with inventory_of(standin, limits, present=lambda env: here, clock=lambda: now) as inventory:
        assert await inventory.sample() == ()
        assert inventory.settled
        assert inventory.problem == "this machine has no NVIDIA GPU"
        assert readers() == []

        here = True
        now = 1059.0
        assert await inventory.sample() == ()
        assert readers() == []

        now = 1060.0
        assert [s.index for s in await inventory.sample()] == [0]


def test_signs_of_a_driver(tmp_path: Path) -> None:
    card = tmp_path / "sys/bus/pci/devices/0000:3b:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x040300\n")  # the sound device of a card
    assert not driver_present({}, tmp_path)

    (card / "class").write_text("0x030200\n")
    assert driver_present({}, tmp_path), "a card without a driver is worth a word on what is missing"

    (card / "vendor").write_text("0x8086\n")
    assert not driver_present({"LD_LIBRARY_PATH": f"/nonexistent:{tmp_path}"}, tmp_path)
    (tmp_path / "libnvidia-ml.so.1").touch()
    assert driver_present({"LD_LIBRARY_PATH": f"/nonexistent:{tmp_path}"}, tmp_path)


# ---------------------------------------------------------------- health


async def test_errors_of_the_driver_come_with_the_next_sample_and_once(standin: Standin) -> None:
    standin.say(gpu(0, xid=0), gpu(1, xid=0))
    async with inventory_of(standin) as inventory:
        await sampled(inventory, lambda samples: len(samples) == 2)
        standin.say(gpu(0, xid=0), gpu(1, xid=79))
        _, bad = await sampled(inventory, lambda samples: samples[1].xids)
        assert bad.xids == (79,)
        _, after = await sampled(inventory, lambda samples: not samples[1].xids)
        assert after.xids == ()


async def test_memory_errors_are_counted(standin: Standin) -> None:
    standin.say(gpu(0, uncorrected=3, remap_failed=1), gpu(1))
    async with inventory_of(standin) as inventory:
        zero, one = await sampled(inventory, lambda samples: len(samples) == 2)
    assert (zero.uncorrected, zero.remap_failed) == (3, True)
    assert (one.uncorrected, one.remap_failed, one.xids) == (None, False, ())
