"""What the page is built from and into. Building it needs node, which comes with the test packages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from building import api_types, page

LARGEST = 200_000  # bytes, compressed, all files together


@pytest.fixture(scope="module")
def built() -> Path:
    page.build()
    return page.PAGE


def test_the_types_of_the_api_are_those_of_the_daemon() -> None:
    assert api_types.TARGET.read_text() == api_types.generated(), "run python -m building.api_types"


def test_the_page_s_own_types_hold() -> None:
    page.check()


def test_the_page_is_small(built: Path) -> None:
    packed = {path.name: path.stat().st_size for path in built.rglob("*.gz")}
    assert len(packed) >= 3
    assert sum(packed.values()) <= LARGEST, packed


def test_nothing_of_the_page_is_inline_or_comes_from_elsewhere(built: Path) -> None:
    html = (built / "index.html").read_text()
    assert "<style" not in html
    assert "style=" not in html
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert all(address.startswith("/") for address in re.findall(r'(?:src|href)="([^"]*)"', html))


def test_what_was_built_is_known_by_its_sources(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert page.is_current()
    monkeypatch.setattr(page, "digest", lambda: "of other sources")
    assert not page.is_current()


def test_the_lock_file_records_no_addresses() -> None:
    lock = json.loads((page.SOURCES / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    assert [name for name, entry in packages.items() if "resolved" in entry] == []
    assert [name for name, entry in packages.items() if "integrity" not in entry] == []
