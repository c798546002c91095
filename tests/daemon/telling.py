"""Events, incidents and letters for tests of notices."""

from __future__ import annotations

import datetime
import functools
import time
from pathlib import Path
from typing import Any

from tests import support
from tests.client.topping import job as view
from trainforge.api import EventView, JobView, Progress
from trainforge.api.page import Incident, Tried
from trainforge.states import JobState
from trainforged.daemon.notices.letters import Letter, Way, notice

until = functools.partial(support.until, seconds=60.0)
NOW = datetime.datetime(2026, 11, 27, 22, tzinfo=datetime.UTC)


def event(
    type: str = "job_failed", message: str = "it happened", job: int | None = 3, id: int = 7
) -> EventView:
    return EventView(id=id, time=NOW, type=type, job=job, message=message)


def tried(number: int, reason: str, message: str, followed: str) -> Tried:
    return Tried(
        attempt=number, started_at=NOW, ended_at=NOW, reason=reason, message=message, resumed_from=None,
        followed=followed,
    )  # fmt: skip


def incident(**fields: Any) -> Incident:
    whole: dict[str, Any] = {
        "job": 3, "state": "failed", "reason": "user_error", "sentence": "failed",
        "cause": "user_error", "evidence": ("rank 1 raised ValueError: no",), "rank": 1,
        "traceback": "Traceback (most recent call last):\n  File …\nValueError: no", "last_metrics": {},
        "last_progress": Progress(step=40, steps=100, metrics={"loss": 1.23456}), "stacks": (),
        "tried": (
            tried(1, "hang", "stood still", "started again, retry 1 of 3"),
            tried(2, "user_error", "no", "not started again: hopeless"),
        ),
        "advice": ("mend it, then: tfctl retry 3",), "events": (),
    } | fields  # fmt: skip
    return Incident(**whole)


def failed(**fields: Any) -> JobView:
    why = "failed (user error): ValueError: no"
    return view(3, JobState.FAILED, reason="user_error", why=why, **fields)


def letter(way: Way, *target: str, **fields: Any) -> Letter:
    told = fields.pop("notice", None) or notice(event(), failed(), incident(), "host")
    now = time.time()
    return Letter(id="1-0", notice=told, way=way, target=target, created_at=now, due_at=now)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)
