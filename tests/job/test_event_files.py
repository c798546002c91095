"""What `report` leaves for TensorBoard, read by TensorBoard itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tests.job.attempt import WRAPPER, Attempt
from trainforge import protocol
from trainforge.in_job import eventfiles

TRAINING = """
import os, sys, trainforge
first, last = int(sys.argv[1]), int(sys.argv[2])
for step in range(first, last):
    trainforge.report(step=step, loss=1.0 / (step + 1), odd=float("nan") if step == 1 else 1e300)
if "fork" in sys.argv:
    pid = os.fork()
    if not pid:
        trainforge.report(step=99, loss=9.0)
        sys.exit(0)
    os.waitpid(pid, 0)
if "kill" in sys.argv:
    os.kill(os.getpid(), 9)
"""


def run(attempt: Attempt, *words: object, **env: str) -> None:
    script = attempt.script(TRAINING)
    attempt.run([*WRAPPER, script, *words], {**attempt.env, protocol.JOB_DIR: str(attempt.folder), **env})


def files(attempt: Attempt) -> list[Path]:
    return sorted((attempt.folder / eventfiles.FOLDER).glob("*"))


def read(attempt: Attempt) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(attempt.folder / eventfiles.FOLDER))
    found.Reload()
    return found


def test_tensorboard_reads_what_was_reported(attempt: Attempt) -> None:
    run(attempt, 0, 4)

    loss = read(attempt).Scalars("loss")
    assert [(event.step, round(event.value, 5)) for event in loss] == [
        (0, 1.0), (1, 0.5), (2, 0.33333), (3, 0.25)
    ]  # fmt: skip
    odd = [event.value for event in read(attempt).Scalars("odd")]
    assert math.isnan(odd[1])
    assert odd[0] == math.inf, "larger than the format holds"
    assert [record["step"] for record in attempt.records("report")] == [0, 1, 2, 3]


def test_a_later_attempt_takes_the_place_of_what_it_does_again(attempt: Attempt) -> None:
    run(attempt, 0, 6)
    run(attempt, 4, 8)

    assert len(files(attempt)) == 2
    assert [event.step for event in read(attempt).Scalars("loss")] == list(range(8))


def test_what_a_forked_process_reports_is_in_the_records_alone(attempt: Attempt) -> None:
    run(attempt, 0, 2, "fork")

    assert [event.step for event in read(attempt).Scalars("loss")] == [0, 1]
    assert [record["step"] for record in attempt.records("report")] == [0, 1, 99]


def test_a_kill_leaves_nothing_that_cannot_be_read(attempt: Attempt) -> None:
    run(attempt, 0, 3, "kill")
    run(attempt, 0, 2)

    assert [event.step for event in read(attempt).Scalars("loss")] == [0, 1]


def test_other_ranks_leave_none(attempt: Attempt) -> None:
    run(attempt, 0, 2, RANK="1", WORLD_SIZE="1")
    assert files(attempt) == []


def test_without_tensorboard_there_are_none(attempt: Attempt) -> None:
    source = "import sys\nsys.modules['tensorboard'] = None\n" + TRAINING
    env = {**attempt.env, protocol.JOB_DIR: str(attempt.folder)}
    attempt.run([*WRAPPER, attempt.script(source), 0, 2], env)
    assert files(attempt) == []
    assert len(attempt.records("report")) == 2


def test_a_folder_that_cannot_be_written_is_said_once_and_no_more(attempt: Attempt) -> None:
    (attempt.folder / eventfiles.FOLDER).write_text("in the way")
    script = attempt.script(TRAINING)
    env = {**attempt.env, protocol.JOB_DIR: str(attempt.folder)}

    done = attempt.run([*WRAPPER, script, 0, 3], env)

    assert done.stderr.count("cannot write TensorBoard's files") == 1
    assert len(attempt.records("report")) == 3


def test_where_more_is_reported_than_curves_can_show_the_last_stays() -> None:
    many = [(0.0, step, {"loss": 1.0}) for step in range(10 * eventfiles.MOST + 1)]
    few = list(eventfiles.thinned(many))
    assert len(few) <= eventfiles.MOST
    assert few[-1] is many[-1]
    assert list(eventfiles.thinned(many[:7])) == many[:7]
