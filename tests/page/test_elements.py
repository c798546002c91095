"""What a dashboard of training results is to show, each element where docs/dashboard.md says that it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.page.conftest import Dashboard
from tests.page.scene import sees

DOCS = Path(__file__).parents[2] / "docs" / "dashboard.md"
ELEMENTS = {
    "Job overview: what runs, with its progress": ("/", "table.running", r"runs-on.*epoch 2 / 2"),
    "Job overview: loss and accuracy": ("/", "table.running", r"Loss.*Accuracy.*runs-on.*\d %"),
    "Job overview: time left, time it ran": ("/", "table.running thead", "Time left.*Ran for"),
    "Job overview: what waits, and why": ("/", ".queue", r"waits.*waits for 2 GPUs: .*job 4 holds GPU"),
    "Job overview: what ended, and how": ("/", ".ended", "failed.*broken"),
    "GPU metrics: use": ("/", ".gpu", r"\d+ %"),
    "GPU metrics: memory": ("/", ".gpu-memory", r"[\d.]+ / \d+ GiB"),
    "GPU metrics: temperature and power": ("/", ".gpu-figures", r"\d+ °C.*\d+ / \d+ W"),
    "GPU metrics: over time": ("/gpus", ".charts", "GPU use.*GPU memory.*Temperature.*Power"),
    "Training curves: loss": ("/jobs/1", "figure[data-title=loss]", r"loss [\d.]+.*val_loss [\d.]+"),
    "Training curves: validation accuracy": ("/jobs/1", "figure[data-title=accuracy]", r"[\d.]+ %"),
    "Training curves: learning rate": ("/jobs/1", "figure[data-title=lr]", r"\d"),
    "System metrics: processors and memory": ("/jobs/4#system", ".charts", "CPU.*cores.*Memory.*iB"),
    "System metrics: disk and network": ("/jobs/4#system", ".charts", "read.*written.*received.*sent"),
    "System metrics: where each rank's time goes": (
        "/jobs/1#system",
        ".shares",
        "rank 0.*10 % · 80 % · 10 %",
    ),
    "Live: said at the top": ("/", ".connected", "Live"),
}


@pytest.mark.parametrize("element", ELEMENTS)
def test_an_element_is_where_it_is_said_to_be(element: str, tab: Page, dashboard: Dashboard) -> None:
    sees(tab, dashboard, ELEMENTS[element])


def test_each_element_is_listed_with_its_place() -> None:
    part = DOCS.read_text().partition("## What a dashboard of training results")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| ([^|]+): ([^|]+) \| [^|]+ \|$", part, re.MULTILINE)
    assert [f"{what}: {which}" for what, which in listed] == list(ELEMENTS)
