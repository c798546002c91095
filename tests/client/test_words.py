"""How jobs are told of: on one line, with what they hold and ask for, with what differs between them."""

from __future__ import annotations

import datetime

import pytest
from msgspec import structs
from rich.console import Console

from tests.client.topping import TODAY, WHY, job, known, screen, training
from tfctl.commands.metrics import _table, plots
from tfctl.commands.status import room_for_ended, room_for_waiting
from tfctl.commands.why import against, explain
from tfctl.render.figures import counted
from tfctl.render.jobs import eta, row, terminal_table, whole
from tfctl.render.plain import table as piped
from tfctl.render.settings import differences
from tfctl.render.words import named, one_line, plain, visible
from tfctl.targets import command_name
from trainforge.api import AttemptView, EventView, JobView, MetricsAnswer, Progress, RankView, Series, Usage
from trainforge.states import JobState

LONG = "RuntimeError: Error(s) in loading:\n\tMissing key(s)\n\tanother"


def attempt(number: int = 1, message: str | None = None, traceback: str | None = None) -> AttemptView:
    rank = RankView(rank=0, exit_code=1, error="RuntimeError", traceback=traceback)
    return AttemptView(
        number=number,
        gpus=("GPU-0",),
        started_at=TODAY,
        ended_at=TODAY if message is not None else None,
        reason="user_error",
        message=message,
        ranks=(rank,) if message is not None else (),
        failed_rank=0 if traceback is not None else None,
    )


def table(width: int, *jobs: JobView) -> list[str]:
    console = Console(width=width, no_color=True)
    with console.capture() as captured:
        console.print(terminal_table(jobs, width))
    return captured.get().splitlines()


def swept(id: int, rate: str, **keys: int) -> JobView:
    env = {"LR": rate, "SEED": "1"}
    return job(id, spec={"project": {"name": f"job-{id}"}, "environment": {"env": env}, "schedule": keys})


def test_many_lines_become_one() -> None:
    assert one_line(LONG) == "RuntimeError: Error(s) in loading: Missing key(s) another"
    assert one_line(LONG, 20) == "RuntimeError: Error…"
    failed = job(1, JobState.FAILED, why=f"failed (user error): {LONG}", attempts=(attempt(message=LONG),))
    assert not any("\n" in value for _, value in whole(failed))
    assert len(table(80, failed)) == 3


def test_numbers_of_things() -> None:
    assert [counted(n, "job") for n in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]
    assert ("uses", "0.0 cores, 1.0 GiB, 1 process") in whole(job(1, usage=Usage(processes=1, memory=2**30)))


def test_what_went_over_the_network_is_told_where_it_is_known() -> None:
    said = "0.0 cores, 0 B, 2 processes, 3.0 MiB received and 12 B sent over TCP"
    assert ("uses", said) in whole(job(1, usage=Usage(processes=2, received=3 << 20, sent=12)))


def test_on_a_narrow_terminal_the_reason_of_each_waiting_job_is_seen() -> None:
    name = "a-name-that-is-quite-long-for-a-narrow-terminal"
    jobs = [
        training(1, name=name, gpu_indices=(0, 1)),
        job(2, JobState.QUEUED, name=name),
        job(3, JobState.HELD, why="is held; `tfctl release 3` lets it go on"),
        job(4, JobState.FAILED, why="failed (user error): rank 0 ended with 3"),
    ]
    shown = table(80, *jobs)
    assert all(len(line) <= 80 for line in shown)
    rows = [" ".join(line.split()) for line in shown[2:]]
    assert rows == [
        "1 a-name-that-is-… running #0,1 epoch 50/200 1:30:00 left loss 1.235 a…",
        "2 a-name-that-is-… queued 1 4 GPUs: 2 free; job 11 holds GPU 2, 3 …",
        "3 job-3 held 1 held; `tfctl release 3` lets it go on",
        "4 job-4 failed 1 user error: rank 0 ended with 3",
    ]
    assert "4 GPUs: 2 free; job 11 holds GPU 2, 3 (about" in table(120, job(2, JobState.QUEUED))[2]
    assert WHY.startswith("waits for 4 GPUs: 2 free")


def test_ended_jobs_do_not_push_others_off_the_screen() -> None:
    assert [room_for_ended(others, 24) for others in (0, 10, 30)] == [20, 10, 3]
    assert room_for_ended(30, None) == 20


def test_a_long_queue_does_not_push_running_jobs_off_the_screen() -> None:
    assert [room_for_waiting(running, 24) for running in (0, 10, 30)] == [17, 7, 5]
    assert room_for_waiting(8, None) == 1000


def test_one_job_whole_has_its_reason_whole() -> None:
    assert ("why", "waits for " + 300 * "x") in whole(job(1, JobState.QUEUED, why="waits for " + 300 * "x"))


def test_a_job_that_is_held_has_no_gpus_and_is_not_held_twice() -> None:
    held = job(1, JobState.HELD, reason="held", gpu_indices=(0,), attempts=(attempt(message="stopped"),))
    assert ("state", "held") in whole(held)
    assert "GPUs" not in dict(whole(held))
    assert row(held)[3:6] == ("held", "-", "1")
    assert ("had GPUs", "#0") in whole(job(1, JobState.SUCCEEDED, gpu_indices=(0,)))


def test_the_time_left_is_told_once_the_new_attempt_has_reported() -> None:
    def told(seconds: int, state: JobState = JobState.RUNNING) -> float | None:
        time = TODAY + datetime.timedelta(seconds=seconds)
        view = job(
            1, state, attempts=(attempt(1, "ended"), attempt(2)), progress=Progress(eta=60.0, time=time)
        )
        assert row(view)[8] == ("1:00" if eta(view) else "-")
        return eta(view)

    assert [told(-1), told(1), told(1, JobState.STARTING), told(1, JobState.BACKOFF)] == [
        None,
        60,
        None,
        None,
    ]


def test_what_a_start_that_failed_printed_is_said_once() -> None:
    output = "pip install failed:\nno matching distribution"
    ended = (attempt(message=output),)
    failed = job(1, JobState.FAILED, why="failed (start failed): pip install failed: …", attempts=ended)
    assert explain(failed) == [
        "job 1 (job-1) failed (start failed): pip install failed: …",
        "  no matching distribution",
    ]
    waits = job(1, JobState.BACKOFF, why="starts again in 10 s", attempts=ended)
    assert explain(waits)[1:] == ["attempt 1 ended: pip install failed:", "  no matching distribution"]


def test_what_was_done_about_each_attempt_is_said() -> None:
    again, after = (
        "its GPU was set aside; started again, not counted as a retry",
        "not started again: it is hopeless",
    )
    first = structs.replace(attempt(1, "XID 79"), reason="gpu_fault", followed=again)
    second = structs.replace(attempt(2), resumed_from="/jobs/1/checkpoints/step-40")
    assert explain(job(1, attempts=(first, second)))[-4:] == [
        "attempts:", "  1: gpu_fault, XID 79", f"     {again}", "  2: goes on from checkpoint step-40",
    ]  # fmt: skip
    alone = structs.replace(attempt(message="rank 0 failed"), followed=after)
    assert f"what was done: {after}" in explain(job(1, JobState.FAILED, attempts=(alone,)))


def test_a_job_that_runs_is_warned_about_until_it_moves() -> None:
    first = attempt(1)

    def said(type: str, seconds: float, moved: float | None = None) -> list[str]:
        time = first.started_at + datetime.timedelta(seconds=seconds)
        warning = EventView(id=1, time=time, type=type, job=1, message="may hang")
        at = None if moved is None else first.started_at + datetime.timedelta(seconds=moved)
        return against(job(1, attempts=(first,), progress=Progress(time=at)), [warning, warning])

    assert said("hang_suspected", 5) == said("hang_suspected", 5, moved=3) == ["may hang"]
    assert said("hang_suspected", 5, moved=7) == said("hang_suspected", -1) == said("job_held", 5) == []
    assert said("loss_not_finite", 5, moved=7) == ["may hang"]


def test_a_traceback_holds_the_message() -> None:
    ended = attempt(message=f"rank 0 {LONG}", traceback=f"Traceback:\n{LONG}")
    lines = explain(job(1, JobState.FAILED, why="failed (user error): rank 0 Error(s) …", attempts=(ended,)))
    assert lines[1:4] == ["rank 0 failed first:", "  Traceback:", "  RuntimeError: Error(s) in loading:"]


def test_why_tells_how_far_it_had_come() -> None:
    def told(seconds: float, reported: Progress) -> list[str]:
        ended = attempt(message="rank 0 failed")
        assert ended.ended_at is not None
        time = ended.ended_at - datetime.timedelta(seconds=seconds)
        view = job(1, JobState.FAILED, attempts=(ended,), progress=structs.replace(reported, time=time))
        return [line for line in explain(view) if line.startswith("last progress")]

    assert told(0.0, Progress()) == []
    (line,) = told(0.0, Progress(epoch=3, epochs=10, step=40))
    assert line.startswith("last progress: epoch 3/10, at ")
    assert line.endswith(", 0 s before the end")
    (line,) = told(1e6, Progress(step=40))
    assert line.startswith("last progress: step 40, at ")
    assert line.endswith(", in an earlier attempt")


def test_a_job_shows_its_variables() -> None:
    assert ("env", "LR=0.1 SEED=1") in whole(swept(1, "0.1"))


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python train.py --lr 0.1", "train"),
        ("/usr/bin/python3.12 -u src/fit.py eval.py", "fit"),
        ("python -m torch.distributed.run train.py", "train"),
        ("bash run.sh", "run"),
        ("bash -c ./run.sh", "bash"),
        ("python -m http.server", "python"),
        ("make all.py", "make"),
        ("./train.py", "train.py"),
    ],
)
def test_a_command_is_called_as_its_script(command: str, name: str) -> None:
    assert command_name(command.split()) == name


def test_a_job_shows_what_it_runs_and_after_which() -> None:
    spec = {"training": {"command": ["sh", "-c", "make all"]}, "schedule": {"after": [4, 5]}}
    shown = dict(whole(job(1, spec=spec)))
    assert (shown["runs"], shown["after"]) == ("sh -c 'make all'", "job 4, job 5")
    spec = {"training": {"command": None, "script": "train.py", "args": ["--lr", "0.1"]}}
    shown = dict(whole(job(1, spec=spec, root="/home/a/p")))
    assert (shown["runs"], shown["project"]) == ("train.py --lr 0.1", "/home/a/p")
    assert "after" not in shown


def test_metrics_of_several_jobs_name_what_differs() -> None:
    jobs = [swept(1, "0.1", priority=0), swept(2, "0.25", priority=5)]
    assert differences(jobs) == {"LR": ["0.1", "0.25"], "schedule.priority": ["0", "5"]}
    assert differences(jobs[:1]) == {}
    series = Series(name="loss", step=(1.0, 2.0), time=(1.0, 2.0), value=(3.0, 1.5), attempt=(1, 1))
    answers = [MetricsAnswer(job=number, series=(series,)) for number in (1, 2)]
    assert [line.split() for line in _table(jobs, answers).splitlines()] == [
        ["SETTING", "JOB", "1", "JOB", "2"],
        ["LR", "0.1", "0.25"],
        ["schedule.priority", "0", "5"],
        [],
        ["METRIC", "JOB", "1", "JOB", "2"],
        ["loss", "1.5", "1.5"],
    ]
    assert any("job 2 LR=0.25 schedule.priority=5" in line for line in plots(jobs, answers, 100))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("loss 0.5", "loss 0.5"),
        ("10%\r20%\r", "20%"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07text\x1b[2J", "red text"),
        ("bell\x07 tab\t", "bell tab\t"),
    ],
)
def test_a_line_of_output_does_not_steer_the_terminal(line: str, shown: str) -> None:
    assert plain(line) == shown


HOSTILE = "lo\x1b]0;title\x07ss\n\x9b31m"
ESCAPED = r"lo\x1b]0;title\x07ss\n\x9b31m"


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert visible(HOSTILE) == ESCAPED
    assert visible("é 中 a\tb\nc\u202e\udcff", keep="\n\t") == "é 中 a\tb\nc\\u202e\\udcff"
    progress = Progress(step=1, metrics={HOSTILE: 1.0}, phase=HOSTILE)
    shown = training(1, name=HOSTILE, progress=progress, why=HOSTILE)
    assert not any(set("\x1b\x07\x9b") & set(line) for line in table(120, shown))
    assert len(table(120, shown)) == 3
    assert piped(("METRIC", "JOB 1"), [(HOSTILE, "1")]).splitlines()[1] == f"{ESCAPED}  1"
    series = Series(name=HOSTILE, step=(1.0,), time=(1.0,), value=(3.0,), attempt=(1,))
    drawn = plots([shown], [MetricsAnswer(job=1, series=(series,))], 100)
    assert not any(set("\x1b\x07\x9b\n") & set(line) for line in drawn)
    failed = job(1, JobState.FAILED, why="failed", attempts=(attempt(message=f"x\n{HOSTILE}"),))
    assert not any(set("\x1b\x07\x9b") & set(line) for line in explain(failed))


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (30, "cifar100-resnet50 LR=0.1"),
        (24, "cifar100-resnet50 LR=0.1"),
        (20, "cifar100-res… LR=0.1"),
        (12, "LR=0.1"),
        (5, "0.1"),
    ],
)
def test_of_a_name_and_what_sets_a_job_apart_the_name_is_cut_first(width: int, shown: str) -> None:
    assert named("cifar100-resnet50", "LR=0.1", width) == shown


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (60, "net LEARNING_RATE=0.1 schedule.priority=5 S='a b'"),
        (40, "net LR=0.1 priority=5 S='a b'"),
        (26, "LR=0.1 priority=5 S='a b'"),
        (16, "0.1 5 'a b'"),
        (8, "0.1 5 '…"),
    ],
)
def test_a_label_is_said_in_fewer_words_before_a_value_is_cut(width: int, shown: str) -> None:
    assert named("net", "LEARNING_RATE=0.1 schedule.priority=5 S='a b'", width) == shown


def test_a_name_without_a_label_is_only_cut() -> None:
    assert (named("resnet", "", 9), named("resnet", "", 4)) == ("resnet", "res…")


def test_jobs_of_a_sweep_are_told_apart_on_a_narrow_terminal() -> None:
    jobs = [structs.replace(job(n), name="cifar100-resnet50", label=f"LEARNING_RATE=0.{n}") for n in (1, 2)]
    for width in (80, 120, 200):
        *_, first, second = lines = table(width, *jobs)
        assert max(map(len, lines)) <= width
        assert "LEARNING_RATE=0.1 " in first
        assert "LEARNING_RATE=0.2 " in second


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 35), (200, 50)])
def test_the_live_view_tells_jobs_of_a_sweep_apart(width: int, height: int) -> None:
    states = {1: JobState.RUNNING, 2: JobState.RUNNING, 3: JobState.QUEUED, 4: JobState.QUEUED}
    jobs = [
        structs.replace(job(n, state=state), name="cifar100-resnet50", label=f"LR=0.{n}")
        for n, state in states.items()
    ]
    text = "\n".join(screen(known(*jobs), width=width, height=height))
    assert [f" LR=0.{n} " in text for n in states] == [True] * 4
