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

import msgspec
import pynvml

from trainforged.devices.nvml_figures import ask, read_gpu
from trainforged.devices.wire import End, Line, Order

PR_SET_PDEATHSIG = 1

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
        self._path = _mapped("libnvidia-ml.so")
        self._file = _identity(self._path)

    @property
    def replaced(self) -> bool:
        return _identity(self._path) != self._file

    def read(self, order: Order) -> Iterator[Line]:
        self.count = pynvml.nvmlDeviceGetCount()
        for index in range(self.count):
            if index not in order.skip:
                yield Line(at=index)
                yield Line(sample=read_gpu(index))


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
