"""Which GPUs are offered, and the sentence for each that is not."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from trainforge.api import GpuProcess
from trainforged.core.messages import Device
from trainforged.devices.inventory import Sample
from trainforged.devices.observe import DIVIDED, EXCLUDED, observe

GIB = 2**30
NOW = time.mktime((2026, 11, 22, 10, 42, 7, 0, 0, -1))


def sample(index: int = 0, **changes: object) -> Sample:
    usual = Sample(
        uuid=f"GPU-{index}", index=index, name="H100", memory_total=80 * GIB, memory_used=int(0.5 * GIB)
    )
    return replace(usual, **changes)


def process(
    pid: int, used: float | None = 10.2, kind: str = "compute", name: str | None = "python"
) -> GpuProcess:
    memory = None if used is None else int(used * GIB)
    return GpuProcess(pid=pid, memory=memory, kind=kind, name=name, user=name and "bob")


def device(index: int = 0, **changes: object) -> Device:
    return replace(Device(uuid=f"GPU-{index}", index=index, name="H100", memory_total=80 * GIB), **changes)


def foreign(*processes: GpuProcess, used: float = 10.7, **more: object) -> str | None:
    """Why a GPU with these processes is not offered."""
    (seen,) = observe([sample(memory_used=int(used * GIB), processes=processes)], {}, now=NOW, **more)
    return seen.foreign


def test_an_idle_gpu_is_offered() -> None:
    (seen,) = observe([sample()], {}, now=NOW)

    assert seen == device()
    assert seen.refusal is None


def test_a_desktop_does_not_block_it() -> None:
    assert foreign(process(900, 3.1, "graphics", "Xorg"), used=3.5) is None


def test_a_foreign_compute_process_blocks_it_and_is_named() -> None:
    assert foreign(process(4312)) == "python (pid 4312, bob) uses 10.2 GiB"
    assert foreign(process(4312, 0.25)) == "python (pid 4312, bob) uses 256 MiB"
    assert foreign(process(4312, None)) == "python (pid 4312, bob) uses it"
    assert foreign(process(4312, name=None)) == "process 4312 uses 10.2 GiB"


def test_of_many_the_largest_are_named() -> None:
    small, large, middle, other = process(1, 1.0), process(2, 30.0), process(3, 20.0), process(4, 1.0)

    assert foreign(small, large, middle) == (
        "python (pid 2, bob) uses 30.0 GiB, python (pid 3, bob) uses 20.0 GiB and 1 more"
    )
    assert foreign(other, small) == "python (pid 1, bob) uses 1.0 GiB, python (pid 4, bob) uses 1.0 GiB"


def test_our_own_processes_are_not_foreign() -> None:
    mine, theirs = process(10), process(20)

    assert foreign(mine, ours={10}) is None
    assert foreign(mine, theirs, ours=lambda pid: pid == 10) == "python (pid 20, bob) uses 10.2 GiB"


def test_an_idle_mps_server_does_not_block_it_but_a_client_does() -> None:
    server = process(50, 0.03, name="nvidia-cuda-mps-server")

    assert foreign(server, used=0.5) is None
    assert foreign(server, process(51)) == "python (pid 51, bob) uses 10.2 GiB"


@pytest.mark.parametrize(
    ("used", "reason"),
    [
        (16.0, None),
        (16.1, "only 63.9 GiB of 80.0 GiB are free"),
        (90.0, "only 0 MiB of 80.0 GiB are free"),
    ],
)
def test_enough_memory_must_be_free(used: float, reason: str | None) -> None:
    assert foreign(used=used) == reason


def test_who_fills_the_memory_is_named() -> None:
    blender = process(77, 39.5, "graphics", "blender")

    assert (
        foreign(blender, used=40.0)
        == "only 40.0 GiB of 80.0 GiB are free: blender (pid 77, bob) uses 39.5 GiB"
    )
    assert foreign(blender, used=40.0, min_free=0.5) is None


def test_a_gpu_that_cannot_say_what_is_used_is_offered() -> None:
    mute = [sample(0, memory_used=None), sample(1, memory_total=0, memory_used=None)]

    assert [seen.refusal for seen in observe(mute, {}, now=NOW)] == [None, None]


def test_on_a_leased_gpu_a_foreign_process_is_named_and_memory_is_the_jobs_affair() -> None:
    crowded = sample(0, memory_used=70 * GIB)
    shared = sample(1, memory_used=70 * GIB, processes=(process(5),))

    zero, one = observe([crowded, shared], {}, leased={"GPU-0", "GPU-1"}, now=NOW)

    assert (zero.foreign, one.foreign) == (None, "python (pid 5, bob) uses 10.2 GiB")


def test_excluded_gpus_stay_out_whatever_happens_on_them() -> None:
    samples = [sample(0), sample(1), sample(2, lost="gone"), sample(10, processes=(process(5),))]

    def kept(*patterns: str) -> list[int]:
        seen = observe(samples, {}, leased={"GPU-0"}, excluded=patterns, now=NOW)
        return [device.index for device in seen if device.foreign != EXCLUDED]

    assert kept("1") == [0, 2, 10]
    assert kept("GPU-1", "0") == [2, 10]
    assert kept("GPU-1*", "2") == [0]
    assert kept("GPU-*") == []
    assert kept() == [0, 1, 2, 10]


def test_a_divided_gpu_is_not_given_out_whole() -> None:
    (seen,) = observe([sample(mig=True)], {}, now=NOW)

    assert seen.foreign == DIVIDED


def test_a_lost_gpu_is_missing_with_the_reason_and_comes_back() -> None:
    known = {"GPU-1": device(1, foreign="only 1.0 GiB of 80.0 GiB are free")}
    lost = Sample(uuid="GPU-1", index=1, lost="it has fallen off the bus")

    zero, one = observe([sample(0), lost], known, now=NOW)

    assert zero.refusal is None
    assert one == device(1, missing="it has fallen off the bus")
    assert observe([sample(1)], {"GPU-1": one}, now=NOW) == (device(1),)


def test_a_gpu_that_cannot_even_say_who_it_is_is_known_by_its_place() -> None:
    nameless = Sample(uuid="", index=1, lost="it has fallen off the bus")

    seen = observe([sample(0), nameless], {"GPU-1": device(1)}, now=NOW)

    assert seen == (device(0), device(1, missing="it has fallen off the bus"))
    assert observe([sample(0), nameless], {}, now=NOW) == (device(0),)


def test_a_gpu_that_vanished_is_missing_since_then() -> None:
    seen = observe([sample(0)], {"GPU-0": device(0), "GPU-1": device(1)}, now=NOW)
    assert seen[1] == device(1, missing="not seen by the driver since 2026-11-22 10:42")

    later = observe([sample(0)], {d.uuid: d for d in seen}, now=NOW + 3600)

    assert later == seen, "the moment does not move"


def test_without_a_driver_the_reason_is_the_drivers() -> None:
    (seen,) = observe(
        [], {"GPU-0": device()}, now=NOW, problem="the NVIDIA driver is not loaded (modprobe nvidia)"
    )

    assert seen.refusal == "the NVIDIA driver is not loaded (modprobe nvidia)"


def test_what_the_core_decided_passes_through() -> None:
    known = {
        "GPU-0": device(0, drained="for repair"),
        "GPU-1": device(1, set_aside="memory did not come back"),
    }

    assert observe([sample(0)], known, now=NOW) == (
        known["GPU-0"],
        replace(known["GPU-1"], missing="not seen by the driver since 2026-11-22 10:42"),
    )


def test_made_up_gpus_leave_no_trace_once_real_ones_are_read_but_for_their_leases() -> None:
    real, idle, leased = device(0), device(1, uuid="GPU-sim-a"), device(2, uuid="GPU-sim-b")
    known = {d.uuid: d for d in (real, idle, leased)}

    seen = observe([sample(0)], known, leased={"GPU-sim-b"}, now=NOW)
    assert [d.uuid for d in seen] == ["GPU-0", "GPU-sim-b"]

    made_up = [sample(1, uuid="GPU-sim-a"), sample(2, uuid="GPU-sim-b")]
    assert [d.uuid for d in observe(made_up, known, now=NOW)] == ["GPU-sim-a", "GPU-sim-b"]


def test_the_memory_of_a_made_up_gpu_blocks_nothing() -> None:
    (seen,) = observe([sample(uuid="GPU-sim-a", memory_used=70 * GIB)], {}, now=NOW)

    assert seen.refusal is None


def test_figures_that_move_a_little_make_no_new_device() -> None:
    def at(used: float, pid: int, before: Device) -> Device:
        samples = [sample(memory_used=40 * GIB, processes=(process(pid, used),))]
        return observe(samples, {before.uuid: before}, now=NOW)[0]

    first = at(10.2, 1, device())

    assert at(10.9, 1, first) == first
    assert at(12.0, 1, first).foreign == "python (pid 1, bob) uses 12.0 GiB"
    assert at(10.2, 2, first).foreign == "python (pid 2, bob) uses 10.2 GiB"
    assert at(0.9, 1, at(1.1, 1, device())).foreign == "python (pid 1, bob) uses 1.1 GiB"
    assert observe([sample()], {"GPU-0": first}, now=NOW) == (device(),)
