"""Rows of the live view's panes: GPUs, running jobs, the queue, events, curves."""

from __future__ import annotations

import datetime

import pytest

from tests.client.topping import (
    NOW,
    TODAY,
    WHY,
    busy,
    event,
    gpu,
    job,
    known,
    looked,
    row_of,
    screen,
    training,
)  # fmt: skip
from tfctl.render.words import reason
from tfctl.top.control import View
from tfctl.top.frame import Size, frame
from tfctl.top.known import CurvesSeen, GpusSeen
from tfctl.top.panes.running import BEGIN
from trainforge.api import GpuList, JobProgress, JobView, MetricsAnswer, Progress, Series, Waste
from trainforge.states import JobState

LARGE: dict[str, float | None] = {"loss": 12345.6}


def test_gpus_say_why_they_are_not_given_out() -> None:
    gpus = [
        gpu(0),
        gpu(1, state="foreign", reason="python (pid 4711) of bob uses 12 GiB"),
        gpu(2, state="set_aside", reason="memory of job 3 is still in use"),
        gpu(3, state="releasing", job=3),
        gpu(4, utilisation=None, memory_used=None, temperature=None, power=None, state="leased", job=7),
        gpu(5, state="leased", job=8, temperature=95),
    ]
    found = known(job(8, JobState.STARTING), gpus=gpus)
    lines = screen(found, 100)[2:8]
    assert [line.split("512W ")[-1].strip() for line in lines if "512W" in line][:4] == [
        "free",
        "foreign: python (pid 4711) of…",
        "set aside: memory of job 3 is…",
        "releasing job 3",
    ]
    assert lines[4].split()[-5:] == ["-", "-/80.0", "-", "-", "7"]
    assert "8 job-8 (starting) · alice" in lines[5]
    styles = {
        span.text.strip(): span.style for line in frame(found, View(), Size(100, 24), NOW) for span in line
    }
    assert styles["95°C"] == "red"
    assert styles["71°C"] == ""


def test_no_gpus_at_all() -> None:
    found = known()
    found.take(GpusSeen(at=NOW.ticks, gpus=GpuList(gpus=(), problem="the driver does not answer")))
    lines = screen(found)
    assert lines[1].rstrip() == "no GPUs: the driver does not answer"
    assert lines[2].rstrip() == f"NOTHING RUNNING{BEGIN}"
    assert lines[3].rstrip() == "NOTHING WAITING"


def test_what_nothing_runs_of_needs_no_columns() -> None:
    lines = screen(known(job(1, JobState.QUEUED)))
    assert [line.rstrip() for line in lines if line.startswith("NOTHING")] == ["NOTHING RUNNING"]
    assert any(line.startswith("1 WAITING") and " WHY" in line for line in lines)


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        (job(1, JobState.STARTING, why="it is being started"), "▸ 1 job-1 starting: it is being started - 1"),
        (job(1, JobState.STOPPING, why="is stopping (held)"), "▸ 1 job-1 stopping (held) - 1"),
        (job(1, elapsed=3600.0), "▸ 1 job-1 runs for 1:00:00 - 1"),
        (training(1, attempt=3, progress=Progress(step=123456.0, eta=90.0, metrics={"reward": 12.0})),
         "▸ 1 job-1 ───────────── step 123k reward 12 1:30 3"),
        (training(1, progress=Progress(epoch=4.0, metrics={"loss": None, "val_acc": 1e-5})),
         "▸ 1 job-1 ───────────── 4 nan 1e-05 - 1"),
        (training(1, progress=Progress(epoch=4.0, epochs=9, fraction=0.5, phase="evaluate", metrics=LARGE)),
         "▸ 1 job-1 ━━━━━━╸────── 4/9 12346 evalu… - 1"),
        (job(1, JobState.FAILED, why="failed (hang): no step"), "▸ 1 job-1 failed (hang): no step - 1"),
    ],
)  # fmt: skip
def test_a_job_in_one_line(view: JobView, shown: str) -> None:
    lines = screen(known(view))
    assert row_of(lines[next(n for n, line in enumerate(lines) if "RUNNING" in line) + 1]) == shown


def test_progress_of_the_stream_is_shown_and_the_clock_goes_on() -> None:
    found = known(training(1), job(2, JobState.QUEUED))
    found.take(
        JobProgress(
            job=1,
            progress=Progress(epoch=199.0, epochs=200.0, fraction=0.995, eta=3.0, metrics={"loss": 0.1}),
        )
    )
    found.take(JobProgress(job=99, progress=Progress(epoch=1.0)))
    assert "199/200  0.1000" in "\n".join(screen(found))
    later = frame(found, View(), Size(120, 24), NOW._replace(ticks=NOW.ticks + 5))
    assert any("1:05" in span.text for line in later for span in line)


def test_a_job_that_wastes_its_gpus_says_so_beside_its_progress() -> None:
    waste = Waste(since=TODAY, mean_utilization=0.4, sentence="has used 0.4 % of GPU 1 for 31 min")
    lines = screen(known(training(1, waste=waste), training(2)))
    assert waste.sentence in "\n".join(lines)
    assert "50/200" in "\n".join(lines)  # the other one


def test_only_jobs_that_ended_lately_stay() -> None:
    just, long_ago = TODAY - datetime.timedelta(minutes=1), TODAY - datetime.timedelta(hours=1)
    found = known(job(1, JobState.SUCCEEDED, ended_at=just), job(2, JobState.FAILED, ended_at=long_ago))
    lines = "\n".join(screen(found))
    assert "job-1" in lines
    assert "job-2" not in lines
    never_ran = job(3, JobState.CANCELLED, ended_at=just, attempt=0)
    assert "job-3" not in "\n".join(screen(known(never_ran)))


def test_events_say_what_came_of_attempts() -> None:
    found = known(
        training(7),
        events=[
            event(1, "attempt_ended", 7, "attempt 1: ended with 3"),
            event(2, "job_failed", 7, "ended with 3"),
            event(3, "gpu_set_aside", None, "GPU 3 set aside: memory"),
        ],
    )
    found.take(event(4, "job_submitted", 8, "x was submitted by bob"))
    found.take(event(5, "job_submitted", 7, "job-7 was submitted by bob"))
    found.take(looked(training(9)))
    words = [row_of(line)[9:] for line in screen(found) if line.startswith(f"{TODAY.astimezone():%H:%M}")]
    assert words == [
        "7 job-7 submitted by bob",
        "job 8 x was submitted by bob",
        "GPU 3 set aside: memory",
        "7 job-7 failed: ended with 3",
    ]
    found.take(event(1, "job_submitted", 1, "a new database"))
    assert [e.id for e in found.events] == [1]


def test_of_a_jobs_checkpoints_only_the_newest_stands_among_the_events() -> None:
    saved = [event(id, "checkpoint_saved", 7 + id % 2, f"checkpoint saved at {id}") for id in range(2, 9)]
    found = known(training(7), training(8), events=[event(1, "attempt_started", 7), *saved])
    words = [row_of(line)[9:] for line in screen(found) if line.startswith(f"{TODAY.astimezone():%H:%M}")]
    assert words == [
        "7 job-7 checkpoint saved at 8",
        "8 job-8 checkpoint saved at 7",
        "7 job-7 attempt 1 started",
    ]


@pytest.mark.parametrize(
    ("why", "width", "short"),
    [
        ("waits for 1 GPU: 0 free", 40, "1 GPU: 0 free"),
        ("waits until 22:00:00", 40, "until 22:00:00"),
        ("waits: what is free is kept for job 3", 40, "what is free is kept for job 3"),
        ("is about to start", 40, "about to start"),
        (WHY, 50, "4 GPUs: 2 free; job 11 holds GPU 2, 3 …"),
        (WHY, 30, "4 GPUs: 2 free …"),
        ("starts again in 10 s: something long without a pause in it", 20, "starts again in 10…"),
    ],
)  # fmt: skip
def test_reasons_are_cut_where_a_thought_ends(why: str, width: int, short: str) -> None:
    assert reason(why, width) == short
    assert len(reason(why, width)) <= width


def test_curves_of_the_chosen_job_stand_below_a_short_queue() -> None:
    found = busy()
    found.take(looked(*(training(n) for n in range(1, 4))))
    steps = tuple(map(float, range(50)))
    values = tuple(5.0 - n / 20 for n in range(50))
    series = [
        Series(name=name, step=steps, time=steps, value=values, attempt=(1,) * 25 + (2,) * 25)
        for name in ("loss", "val_accuracy")
    ]
    found.take(CurvesSeen(answer=MetricsAnswer(job=2, series=tuple(series))))

    chosen = screen(found, 200, 50, View(selected=2))
    assert any(line.startswith("JOB 2 job-2") for line in chosen)
    assert any("━━ loss 2.55" in line and "━━ val_accuracy 2.55" in line for line in chosen)
    assert not any(line.startswith("JOB 2") for line in screen(found, 200, 50, View(selected=3)))
    assert not any(line.startswith("JOB 2") for line in screen(found, 120, 40, View(selected=2)))
    nothing = Series(name="loss", step=(1.0,), time=(1.0,), value=(None,), attempt=(1,))
    found.take(CurvesSeen(answer=MetricsAnswer(job=2, series=(nothing,))))
    assert any("(no values yet)" in line for line in screen(found, 200, 50, View(selected=2)))
