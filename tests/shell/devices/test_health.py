"""What is held against a GPU."""

from __future__ import annotations

import pytest

from trainforged.devices.health import fault
from trainforged.devices.inventory import Sample

WELL = Sample(uuid="GPU-1", index=0, uncorrected=2)


@pytest.mark.parametrize(
    ("news", "before", "found"),
    [
        ({}, WELL, None),
        ({"xids": (31, 43)}, WELL, None),  # a program's own doing
        ({"xids": (31, 79)}, WELL, "XID 79: it has fallen off the bus"),
        ({"uncorrected": 2}, WELL, None),
        ({"uncorrected": 3}, WELL, "3 uncorrectable memory errors"),
        ({"uncorrected": 3}, Sample(uuid="GPU-1", index=0), None),  # it could not be told before
        ({"uncorrected": 3}, None, None),  # from before we looked
        ({"remap_failed": True}, None, "bad memory rows could not be replaced"),
        ({"remap_failed": True}, Sample(uuid="GPU-1", index=0, remap_failed=True), None),  # said before
    ],
)
def test_what_is_new_against_it(news: dict[str, object], before: Sample | None, found: str | None) -> None:
    said = fault(Sample(uuid="GPU-1", index=0, **news), before)  # type: ignore[arg-type]
    assert (said or "").startswith(found or "")
    assert (said is None) == (found is None)
