"""One GPU's figures from NVML. Imported by the reader alone: these calls can hang or crash.

What a GPU does not support is None and fails nothing else; a GPU that is lost says so. The library
must be initialised.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import psutil
import pynvml

from trainforge.api import GpuProcess
from trainforged.devices.inventory import Sample

# These end the sample of one GPU; any other error of a query only leaves its figure out.
LOST = {
    pynvml.NVML_ERROR_GPU_IS_LOST: "it has fallen off the bus; a reboot may bring it back",
    pynvml.NVML_ERROR_RESET_REQUIRED: "it has to be reset (nvidia-smi --gpu-reset)",
    28: "it is gone",  # NVML_ERROR_GPU_NOT_FOUND, which older bindings do not name
}

UNCORRECTED = (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
LARGEST_COUNT = 2**40
LARGEST_PID = 2**22  # the kernel's own limit

# (kind, ways to ask, newest first). A process in several lists is a compute process: the last list wins.
LISTS = (
    ("graphics", ("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2")),
    ("compute", ("nvmlDeviceGetMPSComputeRunningProcesses_v3",)),
    ("compute", ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")),
)


def read_gpu(index: int) -> Sample:
    uuid = ""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        return _figures(handle, index, uuid)
    except pynvml.NVMLError as error:
        reason = LOST.get(error.value, "it does not answer")
        return Sample(uuid=uuid, index=index, lost=f"{reason} (NVML error {error.value}: {error})")


def ask(query: Callable[..., Any], *arguments: Any) -> Any:
    """What the driver answers; None where it cannot, unless the GPU is lost."""
    try:
        return query(*arguments)
    except pynvml.NVMLError as error:
        if error.value in LOST:
            raise
    except UnicodeDecodeError:
        pass
    return None


def who(pid: int) -> tuple[str | None, str | None]:
    """(name, user) of a process. No name: it is gone, or only its exit status is left."""
    if not 0 < pid <= LARGEST_PID:
        return None, None
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            ended = process.status() == psutil.STATUS_ZOMBIE
            return (None, None) if ended else (process.name(), process.username())
    except psutil.Error:
        return ("unknown", None) if psutil.pid_exists(pid) else (None, None)


def _figures(handle: Any, index: int, uuid: str) -> Sample:
    total, used = _memory(handle)
    rates = ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    pci = ask(pynvml.nvmlDeviceGetPciInfo, handle)
    remapped = ask(pynvml.nvmlDeviceGetRemappedRows, handle)  # …, …, pending, failure
    mig = ask(pynvml.nvmlDeviceGetMigMode, handle)
    heat = ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    return Sample(
        uuid=uuid,
        index=index,
        name=ask(pynvml.nvmlDeviceGetName, handle) or "",
        pci=pci and os.fsdecode(pci.busId),
        memory_total=total,
        memory_used=used,
        utilisation=_plausible(rates and rates.gpu, 100),
        temperature=_plausible(heat, 200),
        power=_watts(ask(pynvml.nvmlDeviceGetPowerUsage, handle)),
        power_limit=_watts(ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
        processes=_processes(handle),
        mig=bool(mig and mig[0]),
        uncorrected=_plausible(ask(pynvml.nvmlDeviceGetTotalEccErrors, handle, *UNCORRECTED), LARGEST_COUNT),
        remap_failed=bool(remapped and remapped[3]),
    )


def _memory(handle: Any) -> tuple[int, int | None]:
    """(total, used) in bytes. The newer call leaves out what the driver keeps for itself."""
    query = pynvml.nvmlDeviceGetMemoryInfo
    answer = ask(query, handle, pynvml.nvmlMemory_v2) or ask(query, handle)
    if answer is None or not answer.total:
        return 0, None
    return int(answer.total), _plausible(int(answer.used), answer.total)


def _processes(handle: Any) -> tuple[GpuProcess, ...]:
    found: dict[int, GpuProcess] = {}
    for kind, queries in LISTS:
        answers = (ask(getattr(pynvml, query), handle) for query in queries if hasattr(pynvml, query))
        for entry in next((answer for answer in answers if answer is not None), ()):
            name, user = who(entry.pid)
            used = entry.usedGpuMemory
            found[entry.pid] = GpuProcess(pid=entry.pid, memory=used, kind=kind, name=name, user=user)
    return tuple(found[pid] for pid in sorted(found))


def _plausible(value: int | None, most: int) -> int | None:
    """None for what a confused driver makes up."""
    return value if value is not None and 0 <= value <= most else None


def _watts(milliwatts: int | None) -> float | None:
    value = _plausible(milliwatts, 10_000_000)
    return None if value is None else value / 1000
