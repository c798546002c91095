"""Every route: what it answers when all is well, and when it is not."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.shell.fake_service import UUID
from tests.shell.web.served import Api, served, submission
from trainforge.states import JobState

HELLO = hashlib.sha256(b"hello").hexdigest()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with served(tmp_path) as api:
        yield api


async def submit(api: Api, name: str = "one", **more: Any) -> dict[str, Any]:
    answer = await api.ask("POST", "/v1/jobs", submission(name, **more))
    assert answer.status == 201
    found: dict[str, Any] = answer.json
    return found


async def test_a_job_is_taken_and_the_same_request_gives_it_again(api: Api) -> None:
    first = await submit(api)
    again = await submit(api)

    assert first["id"] == again["id"] == 1
    assert (first["name"], first["state"], first["submitted_at"]) == ("one", "queued", "2026-11-22T10:00:00Z")
    assert len(api.service.all) == 1


async def test_a_list_of_jobs_is_taken_whole_or_not_at_all(api: Api) -> None:
    both = await api.ask("POST", "/v1/jobs", [submission("a"), submission("b")])
    assert both.status == 201
    assert [job["id"] for job in both.json] == [1, 2]

    bad = await api.ask("POST", "/v1/jobs", [submission("c"), {"spec": {}, "request_id": "d"}])
    assert (bad.status, bad.code) == (422, "invalid_spec")
    assert bad.json["error"]["details"] == [{"path": "[1].spec.project", "message": "required"}]
    assert len(api.service.all) == 2


async def test_jobs_are_listed_by_state_name_and_page(api: Api) -> None:
    for name in ("a1", "a2", "b1"):
        await submit(api, name, hold=name == "a2")

    assert [job["id"] for job in (await api.ask("GET", "/v1/jobs")).json["jobs"]] == [3, 2, 1]
    held = await api.ask("GET", "/v1/jobs?state=held,running&state=failed")
    assert [job["name"] for job in held.json["jobs"]] == ["a2"]
    named = await api.ask("GET", "/v1/jobs?name=a*&user=alice&limit=1")
    assert [job["name"] for job in named.json["jobs"]] == ["a2"]
    rest = await api.ask("GET", f"/v1/jobs?name=a*&cursor={named.json['next']}")
    assert [job["name"] for job in rest.json["jobs"]] == ["a1"]
    assert rest.json["next"] is None
    assert (await api.ask("GET", "/v1/jobs?cursor=xyz")).code == "invalid_request"


async def test_a_job_is_shown_whole(api: Api) -> None:
    await submit(api)

    job = (await api.ask("GET", "/v1/jobs/1")).json

    assert job["attempts"][0]["number"] == 1
    assert job["spec"] == {"project": {}}


async def test_a_job_is_changed(api: Api) -> None:
    await submit(api)

    assert (await api.ask("POST", "/v1/jobs/1/hold")).json["state"] == "held"
    assert (await api.ask("POST", "/v1/jobs/1/release")).json["state"] == "queued"
    updated = await api.ask("PATCH", "/v1/jobs/1", {"set": {"schedule.priority": 7}})
    assert updated.json["priority"] == 7
    assert (await api.ask("PATCH", "/v1/jobs/1", {"set": {"x": 7}})).code == "invalid_spec"
    assert (await api.ask("POST", "/v1/jobs/1/cancel")).json["state"] == "cancelled"
    assert (await api.ask("POST", "/v1/jobs/1/cancel", {"now": True})).code == "conflict"
    again = await api.ask("POST", "/v1/jobs/1/retry", {"request_id": "again"})
    assert (again.status, again.json["id"]) == (201, 2)


async def test_cancel_tells_now_from_in_good_time(api: Api) -> None:
    await submit(api, "a")
    await submit(api, "b")

    await api.ask("POST", "/v1/jobs/1/cancel", {})
    await api.ask("POST", "/v1/jobs/2/cancel", {"now": True})

    assert [event.type for event in api.service.history][2:] == ["job_cancelled", "cancelled_now"]


async def test_ended_jobs_are_removed(api: Api) -> None:
    await submit(api, "a")
    await submit(api, "b")
    assert (await api.ask("DELETE", "/v1/jobs/1")).code == "conflict"
    api.service.end(1)
    api.service.end(2)

    assert (await api.ask("DELETE", "/v1/jobs/1", {"keep": "best"})).json["id"] == 1
    assert api.service.history[-1].type == "job_removed_but_best"
    dry = await api.ask("POST", "/v1/prune", {"older_than": 60, "dry_run": True})
    assert dry.json == {"jobs": [2], "freed": 100}
    assert (await api.ask("POST", "/v1/prune", {"older_than": 60})).json["jobs"] == [2]
    assert not api.service.all


async def test_a_job_says_where_its_files_lie(api: Api) -> None:
    await submit(api)

    answer = (await api.ask("GET", "/v1/jobs/1/path")).json

    assert answer["project"] == "/p"
    assert answer["checkpoints"][0]["step"] == 10


async def test_output_is_given_as_it_was_written(api: Api) -> None:
    await submit(api)
    api.service.output[1] = [b"one\n", b"two\xff\n", b"three\n"]

    whole = await api.ask("GET", "/v1/jobs/1/logs")
    last = await api.ask("GET", "/v1/jobs/1/logs?tail=1&attempt=all&rank=0")

    assert whole.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert whole.body.split(b"\r\n")[1::2][:3] == [b"one\n", b"two\xff\n", b"three\n"]
    assert b"three\n" in last.body
    assert b"two" not in last.body
    assert (await api.ask("GET", "/v1/jobs/1/logs?attempt=99")).code == "not_found"


async def test_metrics_and_past_events(api: Api) -> None:
    await submit(api)
    await submit(api, "two")

    metrics = (await api.ask("GET", "/v1/jobs/1/metrics?name=loss&name=lr&since=1.5&points=10")).json
    assert [series["name"] for series in metrics["series"]] == ["loss", "lr"]
    assert metrics["series"][0]["value"] == [0.5, "NaN"]
    part = (await api.ask("GET", "/v1/jobs/1/points?name=loss&limit=2")).json
    assert (part["series"]["step"], part["next"]) == ([0, 1], "1-1")
    part = (await api.ask("GET", "/v1/jobs/1/points?name=loss&limit=2&cursor=1-1")).json
    assert (part["series"]["step"], part["next"]) == ([2], None)
    assert (await api.ask("GET", "/v1/jobs/1/points?name=loss&cursor=2")).code == "invalid_request"
    of_one = (await api.ask("GET", "/v1/jobs/2/events")).json
    assert [event["id"] for event in of_one["events"]] == [2]
    page = (await api.ask("GET", "/v1/events?limit=1")).json
    assert ([event["id"] for event in page["events"]], page["next"]) == ([1], 1)
    rest = (await api.ask("GET", "/v1/events?after=1")).json
    assert ([event["id"] for event in rest["events"]], rest["next"]) == ([2], None)


async def test_contents_are_asked_for_and_stored(api: Api) -> None:
    other = "0" * 64
    assert (await api.ask("POST", "/v1/files/missing", {"files": [HELLO, other]})).json == {
        "missing": [HELLO, other]
    }
    assert (await api.ask("PUT", f"/v1/files/{HELLO}", b"hello")).status == 204
    assert (await api.ask("PUT", f"/v1/files/{HELLO}", b"hello")).status == 204
    assert (await api.ask("PUT", f"/v1/files/{other}", b"hello")).code == "invalid_request"
    assert (await api.ask("POST", "/v1/files/missing", {"files": [HELLO, other]})).json == {
        "missing": [other]
    }
    wrong = await api.ask("POST", "/v1/files/missing", {"files": [HELLO, "ABC"]})
    assert wrong.json["error"]["details"][0]["path"] == "files[1]"
    assert (await api.ask("PUT", "/v1/files/..%2F..%2Fetc%2Fpasswd", b"x")).code in (
        "invalid_request", "not_found",
    )  # fmt: skip


async def test_gpus_are_shown_drained_and_offered_again(api: Api) -> None:
    assert (await api.ask("GET", "/v1/gpus")).json["gpus"][0]["history"] is None
    assert (await api.ask("GET", "/v1/gpus?history=600")).json["gpus"][0]["history"]["utilisation"] == [1]
    drained = (await api.ask("POST", f"/v1/gpus/{UUID}/drain", {"reason": "dust"})).json
    assert (drained["state"], drained["reason"]) == ("drained", "dust")
    assert (await api.ask("POST", f"/v1/gpus/{UUID}/undrain")).json["state"] == "free"
    assert (await api.ask("POST", "/v1/gpus/GPU-x/drain")).code == "not_found"


async def test_status_and_disk(api: Api) -> None:
    await submit(api)

    status = (await api.ask("GET", "/v1/status")).json
    assert (status["jobs"]["queued"], status["last_event"]) == (1, 1)
    assert (await api.ask("GET", "/v1/disk")).json["jobs"][0]["total"] == 6


JOB_ROUTES = [
    ("GET", "", None),
    ("DELETE", "", None),
    ("PATCH", "", {"set": {"schedule.priority": 1}}),
    ("POST", "/cancel", None),
    ("POST", "/hold", None),
    ("POST", "/release", None),
    ("POST", "/retry", {"request_id": "r"}),
    ("GET", "/path", None),
    ("GET", "/logs", None),
    ("GET", "/logs?follow=true", None),
    ("GET", "/metrics", None),
    ("GET", "/events", None),
]


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00%2B14:00", "1066-10-14"])
async def test_a_report_since_before_there_was_time_is_of_all(api: Api, since: str) -> None:
    assert (await api.ask("GET", f"/v1/report?since={since}")).status == 200
    assert api.service.reported_since == 0.0


@pytest.mark.parametrize("id", ["7", "0", "-1", "abc", "1.0", "1" * 20, str(2**63), "%D9%A3", "%00"])
async def test_no_such_job(api: Api, id: str) -> None:
    for method, target, body in JOB_ROUTES:
        answer = await api.ask(method, f"/v1/jobs/{id}{target}", body)

        assert (answer.status, answer.code) == (404, "no_such_job"), target
        assert answer.json["error"]["message"] == f"no such job: {unquote(id)}"


async def test_a_stream_of_events_of_no_job_is_refused(api: Api) -> None:
    answer = await api.ask("GET", "/v1/jobs/7/events", Accept="text/event-stream")

    assert answer.code == "no_such_job"


async def test_figures_for_prometheus(api: Api) -> None:
    await submit(api)
    api.service.end(1, JobState.FAILED)
    await api.ask("GET", "/v1/jobs/9")

    answer = await api.ask("GET", "/metrics")

    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.body.decode().splitlines()
    labels = f'{{gpu="0",uuid="{UUID}"'
    assert 'trainforge_jobs{state="failed"} 1' in lines
    assert 'trainforge_jobs{state="queued"} 0' in lines
    assert f"trainforge_gpu_utilisation_ratio{labels}}} 0.5" in lines
    assert f'trainforge_gpu_info{labels},name="Made \\"up\\"",state="free"}} 1' in lines
    assert 'trainforge_http_requests_total{method="GET",route="/v1/jobs/{id}",status="404"} 1' in lines
    assert not any("power_watts" in line for line in lines)  # this GPU cannot say
    assert lines.count("# TYPE trainforge_jobs gauge") == 1


@pytest.mark.parametrize("folder", ["", "w", "./w", "/w\0/x", "\0"])
async def test_a_folder_that_cannot_be_one_is_refused(api: Api, folder: str) -> None:
    for target, body in (
        ("/v1/jobs", submission(workdir=folder)),
        ("/v1/jobs", [submission("good"), submission("bad", workdir=folder)]),
        ("/v1/sweeps", {"spec": {}, "workdir": folder, "jobs": [{"request_id": "a"}]}),
    ):
        answer = await api.ask("POST", target, body)
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert "workdir: expected an absolute path" in answer.json["error"]["message"]
    assert not api.service.all


async def test_an_empty_filter_does_not_mean_all_jobs(api: Api) -> None:
    await submit(api)
    for query in ("name=", "user="):
        answer = await api.ask("GET", f"/v1/jobs?{query}")
        assert (answer.status, answer.code) == (400, "invalid_request")


async def test_a_sweep_states_once_what_its_jobs_share(api: Api) -> None:
    asked: list[Any] = []
    submit_all = api.service.submit

    async def spy(requests: Any) -> Any:
        asked.extend(requests)
        return await submit_all(requests)

    api.service.submit = spy  # type: ignore[method-assign]
    body = {
        "spec": {"project": {"name": "grid"}, "environment": {"env": {"LR": "1", "SEED": "0"}}},
        "workdir": "/w", "hold": True,
        "jobs": [
            {"request_id": "a"},
            {"request_id": "b", "spec": {"environment": {"env": {"LR": "2"}}}},
            {"request_id": "c", "spec": {"environment": {"env": {"SEED": None}}}},
        ],
    }  # fmt: skip
    answer = await api.ask("POST", "/v1/sweeps", body)
    assert answer.status == 201
    assert [(job["id"], job["state"]) for job in answer.json] == [(1, "held"), (2, "held"), (3, "held")]
    assert [(request.request_id, request.workdir) for request in asked] == [
        ("a", "/w"),
        ("b", "/w"),
        ("c", "/w"),
    ]
    assert [request.spec["environment"]["env"] for request in asked] == [
        {"LR": "1", "SEED": "0"}, {"LR": "2", "SEED": "0"}, {"LR": "1"},
    ]  # fmt: skip


async def test_a_sweep_has_jobs_and_not_too_many(api: Api) -> None:
    shared = {"spec": {"project": {"name": "grid"}}, "workdir": "/w"}
    many = [{"request_id": str(number)} for number in range(10_001)]
    for jobs in ([], many):
        answer = await api.ask("POST", "/v1/sweeps", {**shared, "jobs": jobs})
        assert (answer.status, answer.code) == (400, "invalid_request")
    swelling = {"spec": {"x": "x" * 30_000}, "workdir": "/w", "jobs": many[:10_000]}
    assert (await api.ask("POST", "/v1/sweeps", swelling)).status == 413
    assert not api.service.all
