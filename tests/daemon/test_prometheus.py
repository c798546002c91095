"""Figures for Prometheus: read by its client's parser and by promtool, and asked for by the board."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon.real import RealDaemon, wait_until
from trainforged import config
from trainforged.config import ConfigError

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "integrations" / "grafana" / "trainforge.json"
PREPARED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainforge-tests" / "promtool"
FUNCTIONS = {"increase", "label_values", "rate", "sum"}


@pytest.fixture(scope="module")
def scraped() -> str:
    """What a daemon with a history says."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="tf-"))
    daemon = RealDaemon(folder, 2).start()
    try:
        crash = 'if [ "$TRAINFORGE_ATTEMPT" = 1 ]; then exit 1; fi'
        fields = {"recovery": {"max_retries": 1, "backoff": "0s"}, "resources": {"gpu": 1}}
        daemon.wait_for(daemon.command("sh", "-c", crash, **fields).id)
        holding = daemon.command(
            "sh", "-c", "while [ ! -e finish ]; do sleep 0.05; done", resources={"gpu": 2}
        )
        with daemon.client() as client:
            wait_until(lambda: client.job(holding.id).state == "running", "the job to run")
            waiting = daemon.command("true", resources={"gpu": 1})
            wait_until(lambda: client.job(waiting.id).reason == "waiting_for_gpus", "the other one to wait")
            text = client.prometheus()
        (folder / "finish").touch()
        daemon.wait_for(waiting.id)
    finally:
        daemon.close()
        shutil.rmtree(folder, ignore_errors=True)
    return text


def values(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples, as the client of Prometheus reads them."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_clients_parser_reads_what_has_happened(scraped: str) -> None:
    found = values(scraped)

    def one(name: str, **labels: str) -> float:
        return found[f"trainforge_{name}", frozenset(labels.items())]

    assert one("jobs", state="running") == 1
    assert one("jobs", state="succeeded") == 1
    assert one("jobs_waiting", **{"for": "resources"}) == 1
    assert one("longest_wait_seconds") > 0
    assert one("events_total", type="job_retried") == 1
    assert one("events_total", type="hang_found") == 0
    assert one("wait_seconds_count") == 2
    assert one("notices_waiting") == 0
    states = {labels: value for (name, labels), value in found.items() if name == "trainforge_gpu_state"}
    assert sum(states.values()) == 2  # each GPU is in one
    assert {dict(labels)["state"] for labels, value in states.items() if value} == {"leased"}
    for name in (
        "gpu_utilisation_ratio",
        "gpu_memory_used_bytes",
        "gpu_temperature_celsius",
        "gpu_power_watts",
    ):
        assert sum(key[0] == f"trainforge_{name}" for key in found) == 2
    assert found["process_resident_memory_bytes", frozenset()] > 2**20
    assert found["process_open_fds", frozenset()] > 3


def test_promtool_has_nothing_to_say_against_it(scraped: str) -> None:
    promtool = shutil.which("promtool") or (str(PREPARED) if PREPARED.exists() else None)
    if promtool is None:
        pytest.skip(f"no promtool on PATH nor at {PREPARED}: tests/prepare fetches it where apt-get can")
    check = [promtool, "check", "metrics"]
    done = subprocess.run(check, input=scraped, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def queries() -> list[str]:
    board = json.loads(BOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return asked + [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]


def test_the_board_asks_for_figures_that_there_are(scraped: str) -> None:
    known = {name for name, _ in values(scraped)}
    assert len(queries()) > 15
    for query in queries():
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", query)
        names = set(re.findall(r"[a-z_][a-z0-9_]*", bare)) - FUNCTIONS - {"instance"}
        assert names, query
        assert names <= known, query


def test_the_board_asks_for_labels_and_states_that_there_are(scraped: str) -> None:
    labels: dict[str, dict[str, set[str]]] = {}
    for name, pairs in values(scraped):
        for label, value in pairs:
            labels.setdefault(name, {}).setdefault(label, set()).add(value)
    for query in queries():
        for name, selectors in re.findall(r"(trainforge_[a-z0-9_]+)\{([^}]*)\}", query):
            for label, sign, value in re.findall(r'(\w+)(=~?)"([^"]*)"', selectors):
                if label == "instance":  # of Prometheus itself
                    continue
                wanted = value.split("|") if sign == "=~" else [value]
                assert set(wanted) <= labels[name][label], query


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_figures_at_an_address_of_their_own_and_nothing_else(
    start_daemon: Callable[..., RealDaemon], tmp_path: Path
) -> None:
    settings = tmp_path / "trainforged.yaml"
    settings.write_text("prometheus: {listen: '127.0.0.1:0'}\n")
    daemon = start_daemon(2, "--config", str(settings))
    said = r"figures for Prometheus at (http://127\.0\.0\.1:\d+)/metrics"
    base = wait_until(lambda: re.search(said, daemon.log.read_text()), "the address")[1]
    status, text = get(f"{base}/metrics")
    assert status == 200
    assert values(text)["trainforge_gpus", frozenset()] == 2
    for path in ("/", "/v1/jobs", "/v1/status", "/metrics/x"):
        assert get(f"{base}{path}")[0] == 404


def test_an_address_that_is_taken_stops_nothing(
    start_daemon: Callable[..., RealDaemon], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = tmp_path / "trainforged.yaml"
        settings.write_text(f"prometheus: {{listen: '127.0.0.1:{taken.getsockname()[1]}'}}\n")
        daemon = start_daemon(1, "--config", str(settings))
        assert daemon.command("true").id == 1
        said = "figures for Prometheus are not served"
        wait_until(lambda: said in daemon.log.read_text(), "a word about it")


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    settings = tmp_path / "trainforged.yaml"
    settings.write_text("prometheus: {listen: '9481'}\n")
    with pytest.raises(ConfigError, match="HOST:PORT"):
        config.load(settings)
