"""A short run of `make torture`: real faults over a mixed queue, then everything is counted."""

from __future__ import annotations

import pytest

from tests.torture.__main__ import torture


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_wrong_or_left_behind() -> None:
    count = torture(faults=12, jobs=12, seed=7)
    assert count.clean, count
    assert count.acknowledged >= 12
    assert sum(count.faults.values()) == 12
