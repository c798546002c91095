"""Who carries a mark, among processes that come and go while one looks."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from trainforged.execution import processes

MARK = b"MARK=1\0"


class Kernel:
    """What /proc shows: `lists` one after the other; `lives` says who can be read."""

    def __init__(self, lists: list[list[int]], carriers: set[int], lives: Callable[[int], bool]) -> None:
        self._lists, self._carriers, self._lives = lists, carriers, lives
        self.listed = 0

    def all_pids(self) -> list[int]:
        self.listed += 1
        return self._lists[min(self.listed, len(self._lists)) - 1]

    def read_proc(self, path: str) -> bytes:
        pid = int(path.split("/")[2])
        if not self._lives(pid):
            return b""
        if path.endswith("stat"):
            return f"{pid} (x) S 1 {' '.join(['0'] * 48)}".encode()
        return MARK if pid in self._carriers else b"OTHER=1\0"


def found(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr(processes, "all_pids", kernel.all_pids)
    monkeypatch.setattr(processes, "read_proc", kernel.read_proc)
    return [stat.pid for stat in processes.carriers("MARK", "1")]


def test_where_all_could_be_read_one_look_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel([[10, 11, os.getpid()]], {11}, lambda pid: True)
    assert found(kernel, monkeypatch) == [11]
    assert kernel.listed == 1


def test_the_successor_of_one_that_was_gone_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel([[10, 11], [10, 12], [10, 13], [10, 13]], {11, 12, 13}, lambda pid: pid in (10, 13))
    assert found(kernel, monkeypatch) == [13]
    assert kernel.listed == 3


def test_kernel_threads_and_the_dead_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel([[2, 3, 10]], set(), lambda pid: pid == 10)
    assert found(kernel, monkeypatch) == []
    assert kernel.listed == 2


def test_it_ends_however_fast_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel([[number] for number in range(100, 1000)], set(), lambda pid: False)
    assert found(kernel, monkeypatch) == []
    assert kernel.listed == processes.MOST_LISTS
