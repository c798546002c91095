"""The program that reads NVIDIA GPUs: `python -m trainforged.devices.nvml_reader PID_OF_DAEMON`.

It runs apart from the daemon since a GPU that falls off the bus can hang or crash whoever asks the
driver's library about it. Orders come on stdin, answers go to stdout (`wire`). It ends with its stdin
or with the daemon, when the driver cannot be used, and when the driver's library was replaced: only
a new process can load the new one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import pynvml

from trainforged.devices.nvml_figures import ask, read_gpu
from trainforged.devices.wire import End, Line, Order

PR_SET_PDEATHSIG = 1
MOST_EVENTS = 64  # taken in one round

PROBLEMS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver is installed (libnvidia-ml.so.1 was not found)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded (modprobe nvidia)",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to use the NVIDIA driver (/dev/nvidiactl)",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was upgraded and its old module is still "
    "loaded: reboot, or unload the nvidia modules when no job uses them",
}


class Library:
    """NVML, initialised."""

    def __init__(self) -> None:
        pynvml.nvmlInit()
        self.driver: str | None = ask(pynvml.nvmlSystemGetDriverVersion)
        self.count = 0
        self._events = Events()
        self._path = _mapped("libnvidia-ml.so")
        self._file = _identity(self._path)

    @property
    def replaced(self) -> bool:
        return _identity(self._path) != self._file

    def read(self, order: Order) -> Iterator[Line]:
        self.count = pynvml.nvmlDeviceGetCount()
        self._events.collect()
        for index in range(self.count):
            if index not in order.skip:
                yield Line(at=index)
                self._events.register(index)
                sample = read_gpu(index)
                xids = self._events.take(sample.uuid)
                yield Line(sample=msgspec.structs.replace(sample, xids=xids) if xids else sample)


class Events:
    """The driver's critical errors (XIDs), by GPU. Where the driver has no events there are none."""

    def __init__(self) -> None:
        self._set: Any = _quietly(pynvml.nvmlEventSetCreate)
        self._registered: set[int] = set()
        self._xids: dict[str, list[int]] = {}

    def register(self, index: int) -> None:
        """Once for each GPU."""
        if self._set is None or index in self._registered:
            return
        self._registered.add(index)
        handle = _quietly(pynvml.nvmlDeviceGetHandleByIndex, index)
        if handle is not None:
            _quietly(pynvml.nvmlDeviceRegisterEvents, handle, pynvml.nvmlEventTypeXidCriticalError, self._set)

    def collect(self) -> None:
        """What has happened up to now. Does not wait."""
        for _ in range(MOST_EVENTS):
            event = _quietly(pynvml.nvmlEventSetWait_v2, self._set, 0) if self._set is not None else None
            if event is None:  # a time-out: nothing more
                return
            uuid = _quietly(pynvml.nvmlDeviceGetUUID, event.device)
            if uuid is not None and event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                self._xids.setdefault(uuid, []).append(int(event.eventData))

    def take(self, uuid: str) -> tuple[int, ...]:
        return tuple(self._xids.pop(uuid, ()))


def _quietly(query: Callable[..., Any], *arguments: Any) -> Any:
    """What the driver answers; None where it cannot, for whatever reason: figures tell of a lost GPU."""
    try:
        return query(*arguments)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None


def serve(orders: Iterable[bytes], send: Callable[[Line], object]) -> None:
    library: Library | None = None
    decoder = msgspec.json.Decoder(Order)
    for order in orders:
        try:
            library = library or Library()
            for line in library.read(decoder.decode(order)):
                send(line)
        except pynvml.NVMLError as error:
            problem = PROBLEMS.get(error.value, f"the NVIDIA driver cannot be used: {error}")
            send(Line(end=End(problem=problem)))
            return
        send(Line(end=End(count=library.count, driver=library.driver)))
        if library.replaced:
            return


def _mapped(name: str) -> str:
    """The path of the shared library that this process has loaded under this name; empty if none."""
    with open("/proc/self/maps") as maps:
        paths = (line.split(maxsplit=5)[-1].strip() for line in maps if name in line)
        return next(paths, "")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # also while the driver hangs
    if os.getppid() != int(sys.argv[1]):  # it has died already
        return
    with open(os.dup(1), "wb", buffering=0) as out:
        os.dup2(2, 1)  # what the driver's library prints must not end up among the answers
        serve(sys.stdin.buffer, lambda line: out.write(msgspec.json.encode(line) + b"\n"))


if __name__ == "__main__":
    main()
