"""The benchmarks run and write down what they find. How fast it was is not asked here."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.browser import Browser
from benchmarks.figures import Bound, Figure, Result
from benchmarks.report import as_text, quantity
from benchmarks.timing import alternate, percentile, ratio


def test_a_quick_run_measures_and_is_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"

    assert main(["commands", "--quick", "--results", str(results)]) == 0

    result = msgspec.json.decode((results / "commands.json").read_bytes(), type=Result)
    assert [figure.what for figure in result.figures] == [
        "tfctl submit, a small project",
        "tfctl status, to a pipe",
        "tfctl status, to a terminal",
    ]
    assert all(figure.ratio is not None and figure.ratio > 1 for figure in result.figures)
    assert result.quick
    assert result.machine.cores >= 1
    assert result.machine.fdatasyncs > 0
    summary = (tmp_path / "RESULTS.md").read_text()
    assert "| tfctl status, to a pipe |" in summary
    assert "too few repetitions" in summary
    assert as_text(result) in capsys.readouterr().out


def test_submissions_are_counted_after_the_daemon_was_killed(tmp_path: Path) -> None:
    main(["submissions", "--quick", "--results", str(tmp_path / "results")])

    result = msgspec.json.decode((tmp_path / "results" / "submissions.json").read_bytes(), type=Result)
    found = {figure.what: figure for figure in result.figures}
    assert found["of these refused"].value == 0
    assert found["acknowledged, then lost to kill -9"].value == 0
    assert found["acknowledged, then lost to kill -9"].samples > 1


@pytest.mark.torch
@pytest.mark.timeout(600)  # two processes import torch
def test_both_loops_of_the_training_project_run_in_small(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    main(["training_speed", "--quick", "--results", str(tmp_path / "results")])

    result = msgspec.json.decode((tmp_path / "results" / "training_speed.json").read_bytes(), type=Result)
    speed, share = result.figures
    assert speed.value is not None
    assert speed.value > 0
    assert speed.others["straightforward loop"] > 0
    assert share.value is not None
    assert share.value > 0


@pytest.mark.slow
def test_a_rank_is_killed_and_jobs_are_adopted(tmp_path: Path) -> None:
    main(["recovery", "--quick", "--results", str(tmp_path / "results")])

    result = msgspec.json.decode((tmp_path / "results" / "recovery.json").read_bytes(), type=Result)
    killed, *parts, adopted = result.figures
    assert sum(part.value for part in parts) == pytest.approx(killed.value, abs=0.01)
    assert killed.ratio is not None
    assert killed.ratio > 0
    assert killed.others["the same job by hand"]
    assert adopted.what == "from the daemon's start until 8 jobs are adopted, 50 queued"
    assert adopted.value > 0


def test_a_browser_is_told_where_to_go_and_how_much_it_has_taken(tmp_path: Path) -> None:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    with Browser(program, tmp_path / "profile") as browser:
        browser.open("data:text/html,<h1>small</h1>", "h1")
        small = browser.memory()
        seconds = browser.open("data:text/html,<h2>large</h2>", "h2")
        browser.evaluate("globalThis.held = new Uint8Array(100e6).fill(1); 0")
        assert browser.evaluate("document.body.innerText") == "large"
        assert browser.evaluate("new Promise(done => setTimeout(() => done(7), 10))") == 7
        large = browser.memory()
    assert 0 < seconds < 60
    assert 0 < small.page < small.own
    assert small.files > 10e6
    assert large.page - small.page > 90e6
    assert large.own - small.own > 80e6
    assert not (tmp_path / "profile").exists()


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["comands"])

    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "no benchmark 'comands'" in said
    assert all(name in said for name in BENCHMARKS)


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure(what="", value=20, unit="ms", bound=Bound(limit=20)), True),
        (Figure(what="", value=21, unit="ms", bound=Bound(limit=20)), False),
        (Figure(what="", value=299, unit="/s", bound=Bound(limit=300, least=True)), False),
        (Figure(what="", value=5, unit="ms", ratio=10.5, bound=Bound(limit=10, of="ratio")), False),
        (Figure(what="", value=5, unit="ms", ratio=9.5, bound=Bound(limit=10, of="ratio")), True),
        (Figure(what="", value=21, unit="ms", bound=Bound(limit=20, waived="a slow disk")), None),
        (Figure(what="", value=21, unit="ms"), None),
    ],
)
def test_a_bound_is_met_or_missed(figure: Figure, met: bool | None) -> None:
    assert figure.met is met


def test_actions_take_turns_in_opposite_order() -> None:
    done: list[str] = []

    def action(name: str) -> float:
        done.append(name)
        return float(len(done))

    taken = alternate(2, {"a": lambda: action("a"), "b": lambda: action("b")}, warm_up=1)

    assert done == ["b", "a", "a", "b", "b", "a"]
    assert taken == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_statistics() -> None:
    assert ratio([2, 9, 4], [1, 3, 4]) == 2
    assert percentile(range(1, 101), 99) == 99
    assert percentile(range(1, 101), 50) == 50
    assert percentile([7], 99) == 7


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0, "", "0"), (0.0666, "%", "0.0666 %"), (1234.5, "ms", "1,234 ms"), (50, "", "50"), (None, "ms", "–")],
)
def test_quantities_are_short(value: float | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text
