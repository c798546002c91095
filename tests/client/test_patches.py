"""JSON merge patches: RFC 7396, and back again."""

from __future__ import annotations

from typing import Any

import pytest

from trainforge.jobfile.patches import difference, patched


@pytest.mark.parametrize(
    ("under", "patch", "over"),
    [  # of the RFC's appendix A, those of objects
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": "foo"}, {"b": {"bb": {"ccc": None}}}, {"a": "foo", "b": {"bb": {}}}),
    ],
)
def test_a_patch_is_laid_over(under: dict[str, Any], patch: dict[str, Any], over: dict[str, Any]) -> None:
    before = repr(under)
    assert patched(under, patch) == over
    assert patched(under, difference(under, over)) == over
    assert repr(under) == before, "what is shared is not changed"


def test_what_is_equal_is_not_in_the_patch() -> None:
    assert difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == {"a": {"c": 3}}
    assert difference({"a": {"b": 1}}, {"a": {"b": 1}}) == {}
