"""Requests, answers and error codes of the HTTP API, as types.

Times are aware datetimes (RFC 3339 UTC in JSON), durations seconds, sizes bytes.
`GET /v1/openapi.json` is made from these. A name is loaded with its module on first use, since a command
needs few of them; the types of the page and of the report are not named here, but in `page` and `report`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

_NAMES = {
    "disk": "CheckpointView DiskAnswer DiskEntry PathAnswer PruneAnswer PruneRequest RemoveRequest",
    "errors": "Error ErrorAnswer ErrorCode ErrorDetail",
    "events": "EventList EventView JobProgress",
    "jobs": (
        "AttemptView CancelRequest JobList JobView Progress RankView ResourceView UpdateRequest Usage Waste"
    ),
    "machine": "Counts DrainRequest GpuHistory GpuList GpuProcess GpuView GroupsView StatusAnswer",
    "metrics": "MetricsAnswer NotFinite PointsAnswer Series Value",
    "submissions": (
        "FileEntry Git JobRequest MissingAnswer MissingRequest RetryRequest ShellState SubmitRequest"
        " SweepJob SweepRequest"
    ),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names.split()}

if TYPE_CHECKING:
    from trainforge.api.disk import *  # noqa: F403
    from trainforge.api.errors import *  # noqa: F403
    from trainforge.api.events import *  # noqa: F403
    from trainforge.api.jobs import *  # noqa: F403
    from trainforge.api.machine import *  # noqa: F403
    from trainforge.api.metrics import *  # noqa: F403
    from trainforge.api.submissions import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
