"""Position, rate and time left, from reports: pure, on made-up histories."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shell.storage.storing import NOW
from trainforged.storage.progress import MOST_MARKS, MOST_PHASES, Tracked, advance, shown
from trainforged.storage.recordlines import Phase, Record, Report


def told(*records: Record, attempt: int = 1, tracked: Tracked | None = None, at_once: int = 1) -> Tracked:
    """The records taken in, `at_once` in each call."""
    for start in range(0, len(records), at_once):
        tracked = advance(tracked, attempt, records[start : start + at_once])
    assert tracked is not None
    return tracked


def at(seconds: float, step: float | None = None, epoch: float | None = None, **more: float) -> Report:
    return Report(time=NOW + seconds, step=step, epoch=epoch, **more)


def eta(tracked: Tracked, after: float | None = None) -> float | None:
    """Seconds left `after` seconds of the history."""
    return shown(tracked, NOW + after if after is not None else None).eta


def test_one_report_has_no_rate() -> None:
    assert eta(told(at(0, 10, steps=100))) is None
    assert shown(told(at(0, 10, steps=100))).fraction == 0.1


def test_steps_at_a_steady_rate() -> None:
    tracked = told(*(at(n, 10 * n, steps=1000) for n in range(21)))
    assert eta(tracked) == pytest.approx(80)
    assert eta(tracked, after=50) == pytest.approx(50)  # time passes since the last report
    assert eta(tracked, after=500) == 0.0
    assert shown(tracked).fraction == pytest.approx(0.2)


def test_starting_up_does_not_count() -> None:
    """The first report comes after five minutes of compiling: the rate begins with it."""
    tracked = told(at(300, 1, steps=101), at(301, 2, steps=101), at(302, 3, steps=101))
    assert eta(tracked) == pytest.approx(98)


def test_a_resumed_attempt_has_a_rate_of_its_own() -> None:
    first = told(*(at(n, n, steps=1000) for n in range(101)))
    resumed = told(at(5000, 90, steps=1000), attempt=2, tracked=first)
    assert eta(resumed) is None
    resumed = told(at(5010, 190, steps=1000), attempt=2, tracked=resumed)
    assert eta(resumed) == pytest.approx(81)


def test_the_rate_follows_a_change_of_speed() -> None:
    slow = [at(10.0 * n, n, steps=20_000) for n in range(201)]
    fast = [at(2000 + n, 200 + 10 * n, steps=20_000) for n in range(1, 1001)]
    assert eta(told(*slow)) == pytest.approx(198_000)
    assert eta(told(*slow, *fast, at_once=10)) == pytest.approx(980)


def test_a_pause_for_evaluation_counts_with_the_rest() -> None:
    """100 steps of a second, then 100 seconds of silence: half a step a second on average."""
    reports = [at(200.0 * (n // 100) + n % 100, n, steps=4000) for n in range(2000)]
    assert eta(told(*reports)) == pytest.approx(4000, rel=0.1)


def test_after_the_clock_was_set_back_the_rate_is_found_anew() -> None:
    before = [at(n, 10 * n, steps=1000) for n in range(21)]
    after = [at(n - 86400, 10 * n, steps=1000) for n in range(21, 24)]
    assert eta(told(*before, after[0])) is None
    assert eta(told(*before, *after)) == pytest.approx(77)


def test_epochs_and_steps_without_a_total() -> None:
    """Steps per epoch are measured: 50 epochs of 100 steps, ten steps a second."""
    reports = [at(n / 10, n, n // 100, epochs=50) for n in range(0, 1001, 10)]
    assert eta(told(*reports[:10])) is None  # the first epoch tells nothing of its length
    tracked = told(*reports)
    assert eta(tracked) == pytest.approx(400)
    assert shown(tracked).fraction == pytest.approx(0.2)


def test_one_report_an_epoch() -> None:
    tracked = told(*(at(30.0 * n, 100 * (n + 1), n, epochs=10) for n in range(3)))
    assert eta(tracked) == pytest.approx(30 * 7)  # 300 of 1000 steps


def test_epochs_alone() -> None:
    tracked = told(*(at(30.0 * n, epoch=n, epochs=10) for n in range(4)))
    assert eta(tracked) == pytest.approx(30 * 7)
    assert eta(tracked, after=100) == pytest.approx(30 * 7 - 10)
    assert shown(tracked).fraction == pytest.approx(0.3)


def test_fractional_epochs() -> None:
    tracked = told(*(at(n, epoch=n / 100, epochs=3) for n in range(51)))
    assert eta(tracked) == pytest.approx(250)


def test_steps_that_count_within_an_epoch() -> None:
    reports = [at(60.0 * e + s, s, e, steps=60, epochs=10) for e in range(3) for s in range(0, 60, 5)]
    tracked = told(*reports)
    assert eta(tracked) == pytest.approx(60 * 8 - 0, abs=61)
    assert shown(tracked).fraction == pytest.approx(0.2)


def test_nothing_to_measure() -> None:
    assert eta(told(at(0), at(1))) is None
    assert eta(told(at(0, 1), at(1, 2))) is None  # no end
    assert eta(told(at(5, 1, steps=9), at(5, 2, steps=9))) is None  # no time between
    assert eta(told(at(5, 1, steps=9), at(1, 2, steps=9))) is None  # the clock was set back
    assert eta(told(at(0, 5, steps=9), at(9, 5, steps=9))) is None  # it stands
    assert eta(told(at(0, 8, steps=9), at(9, 9, steps=9))) == 0.0
    assert shown(told(at(0, 20, steps=9))).fraction == 1.0
    assert shown(told(at(0, 20, steps=0))).fraction is None


def phases(*moves: str) -> tuple[str, ...]:
    """`+name` begins, `-name` ends."""
    return told(*(Phase(time=NOW, name=m[1:], state="begin" if m[0] == "+" else "end") for m in moves)).phases


def test_phases_nest() -> None:
    assert phases("+a") == ("a",)
    assert phases("+a", "+b") == ("a", "b")
    assert phases("+a", "+b", "-b") == ("a",)
    assert phases("+a", "+b", "-a") == ()
    assert phases("-a", "+b", "-c") == ("b",)
    assert phases("+a", "+a", "-a") == ("a",)
    assert len(phases(*["+a"] * 100)) == MOST_PHASES


def test_a_new_attempt_keeps_the_metrics_and_nothing_else() -> None:
    first = told(
        Report(time=NOW, step=5, epoch=1, metrics={"loss": 1.0}), Phase(time=NOW, name="e", state="begin")
    )
    second = told(Report(time=NOW + 1, step=3, metrics={"lr": 0.1}), attempt=2, tracked=first).progress
    assert (second.step, second.epoch, second.phase) == (3, None, None)
    assert second.metrics == {"loss": 1.0, "lr": 0.1}


@given(
    st.lists(
        st.tuples(st.floats(-5, 100), st.none() | st.floats(0, 1e6), st.none() | st.floats(0, 1e3)),
        max_size=300,
    )
)
def test_what_is_kept_is_bounded_and_the_answer_sane(
    history: list[tuple[float, float | None, float | None]],
) -> None:
    time, reports = 0.0, []
    for gap, step, epoch in history:
        time += gap
        reports.append(at(time, step, epoch, steps=5e5))
    check(told(*reports, at(time, 1, steps=5e5), at_once=3))


def check(tracked: Tracked) -> None:
    assert len(tracked.pace.marks) <= MOST_MARKS
    assert len(tracked.pace.turns) <= 2
    progress = shown(tracked, NOW)
    assert progress.eta is None or progress.eta >= 0
    assert progress.fraction is None or 0 <= progress.fraction <= 1


def test_marks_of_a_long_attempt_reach_back_to_its_beginning() -> None:
    def long() -> Iterable[Report]:
        return (at(n, n, steps=100_000) for n in range(20_000))

    tracked = told(*long(), at_once=5)
    check(tracked)
    assert tracked.pace.marks[0].time == NOW
    assert eta(tracked) == pytest.approx(80_001, rel=0.01)
