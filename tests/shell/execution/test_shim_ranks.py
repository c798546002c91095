"""The shim above a launcher: who the ranks are, how each ended, and that one does not outlive another."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.shell.attempts import Shimmed, alive, python
from tests.support import quickest, wait_for

Make = Callable[..., Shimmed]

# A launcher as the real one is: it starts ranks in sessions of their own, hands on a TERM, looks for the
# dead ten times a second, and says 1 if any has failed; then it waits long for the others.
LAUNCHER = """
    import json, os, signal, socket, sys, time
    def register(rank, say=None):
        line = socket.socket(socket.AF_UNIX)
        line.connect("\\0" + os.environ["TRAINFORGE_RANK_SOCKET"])
        line.sendall(say or json.dumps({"rank": rank, "pid": os.getpid()}).encode() + b"\\n")
        return line
    def write(rank, code):
        error = {"type": "ValueError", "message": "bad", "traceback": "Traceback"} if code else None
        with open(f"rank-{rank}.json", "w") as file:
            json.dump({"rank": rank, "pid": os.getpid(), "exit_code": code, "error": error}, file)
    def leave(rank, code):
        write(rank, code)
        os._exit(code)
    def be(rank):
        os.setsid()
        out = os.open(f"rank-{rank}.pipe", os.O_WRONLY)
        os.dup2(out, 1); os.dup2(out, 2)
        line = register(rank)
        print(f"rank {rank} ready")
        RANK
    ranks = {}
    for rank in range(2):
        pid = os.fork()
        if pid == 0:
            try: be(rank)
            except SystemExit as end: leave(rank, end.code or 0)
            leave(rank, 0)
        ranks[pid] = rank
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(pid, signal.SIGTERM) for pid in ranks])
    failed = False
    while ranks:
        time.sleep(0.1)
        pid, status = os.waitpid(-1, os.WNOHANG)
        ranks.pop(pid, None)
        failed = failed or status != 0
    AFTER
    sys.exit(1 if failed else 0)
"""


def launcher(rank: str, after: str = "pass") -> tuple[str, ...]:
    lines = "\n        ".join(rank.strip().splitlines())
    return python(LAUNCHER.replace("RANK\n", lines + "\n", 1).replace("AFTER", after))


def ready(shimmed: Make, rank: str, after: str = "pass", **order: Any) -> Shimmed:
    attempt = shimmed(launcher(rank, after), ranks=2, **order).start()
    return attempt.says("rank 0 ready").says("rank 1 ready")


def test_all_ranks_end_well(shimmed: Make) -> None:
    end = shimmed(launcher("sys.exit(0)"), ranks=2).run()
    assert (end.exit_code, end.signal) == (0, None)
    assert sorted((rank.rank, rank.exit_code) for rank in end.ranks) == [(0, 0), (1, 0)]


def test_a_dead_rank_takes_the_others_along_within_two_seconds(shimmed: Make) -> None:
    stubborn = """
signal.signal(signal.SIGTERM, lambda *_: print("saving for ever"))
if rank == 1:
    while not os.path.exists("die"): time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
while True: time.sleep(1)
"""

    def die() -> float:
        attempt = ready(shimmed, stubborn, grace=600.0)
        began = time.monotonic()
        (attempt.path / "die").touch()
        end = attempt.end()
        took = time.monotonic() - began
        assert [(rank.rank, rank.signal) for rank in end.ranks] == [(1, 9), (0, 9)], "the first is the cause"
        assert (end.exit_code, end.signal, end.stopped) == (None, 9, False)
        assert attempt.left() == []
        return took

    assert quickest(die, 2) < 2


def test_the_first_failure_speaks_for_the_attempt(shimmed: Make) -> None:
    failing = """
if rank == 0:
    time.sleep(0.2); sys.exit(3)
while True: time.sleep(1)
"""
    end = shimmed(launcher(failing), ranks=2).run()
    assert (end.exit_code, end.signal) == (3, None)
    first = end.ranks[0]
    assert (first.rank, first.exit_code) == (0, 3)
    assert (first.error_type, first.error, first.traceback) == ("ValueError", "ValueError: bad", "Traceback")


def test_a_rank_that_is_done_does_not_end_the_others(shimmed: Make) -> None:
    end = shimmed(launcher("time.sleep(rank)"), ranks=2).run()
    assert end.exit_code == 0
    assert end.ended_at - (end.started_at or 0) > 1
    assert [rank.rank for rank in end.ranks] == [0, 1]


def test_a_rank_reaped_before_we_looked_is_known_by_its_own_word(shimmed: Make) -> None:
    """A shim that is frozen while a rank dies and is reaped finds no zombie to read."""
    attempt = ready(shimmed, "while not os.path.exists('go'): time.sleep(0.01)\nwrite(rank, 0)\nos._exit(0)")
    attempt.signal(signal.SIGSTOP)
    (attempt.path / "go").touch()
    wait_for(lambda: (attempt.path / "rank-1.json").exists() and not _children(attempt))
    end = attempt.signal(signal.SIGCONT).end()
    assert end.exit_code == 0
    assert sorted((rank.rank, rank.exit_code) for rank in end.ranks) == [(0, 0), (1, 0)]


def test_an_end_that_nobody_saw_is_not_guessed(shimmed: Make) -> None:
    go = "while not os.path.exists('go'): time.sleep(0.01)\nos._exit(5)"
    attempt = ready(shimmed, go)
    attempt.signal(signal.SIGSTOP)
    (attempt.path / "go").touch()
    wait_for(lambda: not _children(attempt))
    end = attempt.signal(signal.SIGCONT).end()
    assert [(rank.exit_code, rank.signal) for rank in end.ranks] == [(None, None)] * 2
    assert end.ranks[0].error == "ended without a status that anyone could read"
    assert (end.exit_code, end.signal) == (None, None)


def test_a_dead_launcher_takes_its_ranks_along(shimmed: Make) -> None:
    attempt = ready(shimmed, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)", grace=600.0)
    main = _main(attempt)
    os.kill(main, signal.SIGKILL)
    end = attempt.end()
    assert end.signal == 9
    assert sorted((rank.rank, rank.signal) for rank in end.ranks) == [(0, 9), (1, 9)]
    assert not alive(main)
    assert attempt.left() == []


def test_a_launcher_is_not_waited_for_once_its_ranks_have_saved(shimmed: Make) -> None:
    save = """
def save(*_):
    print("saved"); os._exit(0)
signal.signal(signal.SIGTERM, save)
while True: time.sleep(1)
"""
    attempt = ready(shimmed, save, after="time.sleep(600)", grace=600.0)
    end = attempt.signal(signal.SIGTERM).end()
    assert (end.stopped, end.exit_code, end.signal) == (True, 0, None)
    assert attempt.text("rank-1.log") == "rank 1 ready\nsaved\n"


def test_a_rank_that_had_to_be_killed_was_not_stopped(shimmed: Make) -> None:
    save = """
if rank == 0:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True: time.sleep(1)
"""
    attempt = ready(shimmed, save, grace=0.3)
    end = attempt.signal(signal.SIGTERM).end()
    assert not end.stopped
    assert [(rank.rank, rank.exit_code, rank.signal) for rank in end.ranks] == [(0, 0, None), (1, None, 9)]


def test_nonsense_is_not_registered(shimmed: Make) -> None:
    nonsense = """
if rank == 0:
    for say in ('hello', '[]', '{"rank": 7}', '{"rank": "1"}', '{"rank": -1}', 'x' * 5000, '\xff', ''):
        register(0, say.encode() + b"\\n").close()
    other = register(1)   # rank 1 it is not
    if os.fork() == 0: os._exit(9)
    print("said")
time.sleep(0.5)
sys.exit(0)
"""
    end = shimmed(launcher(nonsense), ranks=2).run()
    assert end.exit_code == 0
    assert sorted((rank.rank, rank.exit_code) for rank in end.ranks) == [(0, 0), (1, 0)]


def test_the_only_rank_is_the_command_itself(shimmed: Make) -> None:
    source = """
        import json, os, sys
        with open("rank-0.json", "w") as file:
            json.dump({"rank": 0, "pid": os.getpid(), "exit_code": 1,
                       "error": {"type": "OSError", "message": "", "traceback": None}}, file)
        print(os.environ.get("TRAINFORGE_RANK_SOCKET"))
        os.kill(os.getpid(), 11)
    """
    attempt = shimmed(python(source), ranks=1)
    end = attempt.run()
    assert attempt.text("rank-0.log") == attempt.text() == "None\n", "it need not register"
    (rank,) = end.ranks
    assert (rank.rank, rank.exit_code, rank.signal) == (0, None, signal.SIGSEGV), "what was seen counts"
    assert rank.error == "OSError"
    assert end.signal == signal.SIGSEGV


def test_a_rank_file_that_is_not_one_is_passed_over(shimmed: Make) -> None:
    source = """open("rank-0.json", "w").write('{"rank": []}'); open("rank-1.json", "w").write("{")"""
    end = shimmed(python(source), ranks=1).run()
    assert end.exit_code == 0
    assert [(rank.rank, rank.error) for rank in end.ranks] == [(0, None)]


def test_output_beyond_the_cap_of_several_ranks(shimmed: Make) -> None:
    limit = 400_000
    flood = "for number in range(30_000): print(f'rank {rank} line {number}')"
    attempt = shimmed(launcher(flood), ranks=2, output_limit=limit)
    assert attempt.run().exit_code == 0
    assert sum(path.stat().st_size for path in attempt.path.glob("*.log")) < limit + 1000
    for rank in range(2):
        assert attempt.text(f"rank-{rank}.head.log").startswith(f"rank {rank} ready\nrank {rank} line 0\n")
        assert "bytes of output are left out here" in attempt.text(f"rank-{rank}.head.log")
        assert attempt.text(f"rank-{rank}.log").endswith(f"rank {rank} line 29999\n")
    newest = (attempt.text("output.prev.log") + attempt.text()).splitlines()
    assert all(line.startswith(("[rank0] rank 0 line ", "[rank1] rank 1 line ")) for line in newest)


def _main(attempt: Shimmed) -> int:
    with open(f"/proc/{attempt.pid}/task/{attempt.pid}/children") as file:
        return int(file.read().split()[0])


def _children(attempt: Shimmed) -> list[str]:
    main = _main(attempt)
    try:
        with open(f"/proc/{main}/task/{main}/children") as file:
            return file.read().split()
    except OSError:
        return []
