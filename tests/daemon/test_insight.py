"""What the page sees into jobs: incidents, settings that differ, comparisons, lines of output."""

from __future__ import annotations

import pytest

from tests.daemon.real import RealDaemon, request
from trainforge.client.client import ApiError
from trainforge.states import JobState

SCRIPT = """
import os, sys
import trainforge
print("Learning Rate is", os.environ["LR"])
for step in range(20):
    value = float("nan") if step == 7 else float(os.environ["LR"]) * (20 - step)
    trainforge.report(step=step, loss=value, accuracy=step / 20)
print("<script>alert(1)</script>")
if os.environ.get("BREAK"):
    raise ValueError("the data is broken")
"""


def script(daemon: RealDaemon, **env: str) -> int:
    (daemon.folder / "train.py").write_text(SCRIPT)
    asked = request((), daemon.folder, name="digits")
    asked.spec["training"] = {"script": "train.py"}
    asked.spec["environment"] = {"env": env}
    asked.spec["recovery"] = {"max_retries": 0}
    with daemon.client() as client:
        job = client.submit(asked).id
    daemon.wait_for(job)
    return job


def test_an_incident_says_what_is_known_of_a_failure(daemon: RealDaemon) -> None:
    job = script(daemon, LR="0.5", BREAK="1")

    found = daemon.get(f"/v1/jobs/{job}/incident")

    assert (found["job"], found["state"], found["reason"], found["rank"]) == (job, "failed", "user_error", 0)
    assert "the data is broken" in found["sentence"]
    assert found["cause"] == "user_error"
    assert any("the data is broken" in line for line in found["evidence"])
    assert found["traceback"].splitlines()[-1] == "ValueError: the data is broken"
    assert found["last_metrics"] == {"loss": 0.5, "accuracy": 0.95}
    assert [(tried["reason"], tried["followed"]) for tried in found["tried"]] == [
        ("user_error", "not started again: recovery.max_retries is 0")
    ]
    assert f"tfctl retry {job}" in found["advice"][0]
    assert found["events"][0]["type"] == "job_submitted"
    assert found["events"][-1]["job"] == job


def test_jobs_are_compared_and_differ_in_what_differs(daemon: RealDaemon) -> None:
    first, second = script(daemon, LR="0.5"), script(daemon, LR="0.25", WARMUP="5")

    compared = daemon.get(f"/v1/compare?jobs={first},{second}")

    assert [job["id"] for job in compared["jobs"]] == [first, second]
    settings = {row["path"]: row["values"] for row in compared["settings"]}
    assert settings == {
        "environment.env.LR": {str(first): "0.5", str(second): "0.25"},
        "environment.env.WARMUP": {str(first): None, str(second): "5"},
    }
    metrics = {row["name"]: row["values"] for row in compared["metrics"]}
    assert metrics["loss"][str(first)] == {"last": 0.5, "best": 0.5, "best_step": 19}
    assert metrics["accuracy"][str(second)] == {"last": 0.95, "best": 0.95, "best_step": 19}

    assert daemon.get(f"/v1/jobs/{first}/differences") == {"with": None, "rows": []}
    found = daemon.get(f"/v1/jobs/{second}/differences")
    assert found["with"] == first
    assert {row["path"]: (row["here"], row["there"]) for row in found["rows"]} == {
        "environment.env.LR": ("0.25", "0.5"),
        "environment.env.WARMUP": ("5", None),
    }
    assert daemon.get(f"/v1/jobs/{second}/spec")["spec"]["environment"]["env"]["LR"] == "0.25"
    assert daemon.get(f"/v1/jobs/{second}/checkpoints") == {"checkpoints": []}

    series = {s["name"]: s for s in daemon.get(f"/v1/jobs/{first}/metrics")["series"]}
    assert series["loss"]["value"][7] == "NaN"

    with daemon.client() as client:
        without = client.insight.compare([first, second], metrics=False)
    assert (len(without.settings), without.metrics) == (len(compared["settings"]), ())
    printed = daemon.tfctl("compare", str(first), str(second)).stdout
    assert "\nLR " in printed
    assert "0.25" in printed
    assert "loss" in printed


def test_output_is_searched_by_line(daemon: RealDaemon) -> None:
    job = script(daemon, LR="0.5")

    found = daemon.get(f"/v1/jobs/{job}/logs?search=learning%20rate")
    assert found == {
        "lines": [{"attempt": 1, "number": 1, "rank": None, "text": "Learning Rate is 0.5"}],
        "more": False,
    }
    several = daemon.get(f"/v1/jobs/{job}/logs?search=r&limit=1&attempt=all")
    assert (len(several["lines"]), several["more"]) == (1, True)
    assert daemon.get(f"/v1/jobs/{job}/logs?search=nothing%20like%20it")["lines"] == []


def test_of_a_job_that_is_not_there_nothing_is_seen(daemon: RealDaemon) -> None:
    with daemon.client() as client, pytest.raises(ApiError) as refused:
        client.insight.compare([77])
    assert refused.value.code == "no_such_job"
    done = daemon.tfctl("compare", "77", "78", check=False)
    assert done.returncode == 5
    job = daemon.command("true").id
    assert daemon.wait_for(job).state is JobState.SUCCEEDED
    assert daemon.get(f"/v1/compare?jobs={job}")["settings"] == []
