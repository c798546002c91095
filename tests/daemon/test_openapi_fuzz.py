"""What the API's description allows, and what it does not, sent to a real daemon: nothing is its own mistake,
and what it answers is what it describes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from tests.daemon.browser import Browser
from tests.daemon.real import RealDaemon
from trainforged.web.app import describe

EXAMPLES = 12  # of each operation
PATIENCE = 60.0  # seconds for an answer
ELSEWHERE = {
    "sign_out": "it would end the session of the others; test_sign_in tries it",
    "put_file": "contents are taken over the socket alone; tests.shell.web.test_limits tries it",
}

SCHEMA = schemathesis.openapi.from_dict(describe())
OPERATIONS = {
    operation.definition.raw["operationId"]: operation
    for operation in (result.ok() for result in SCHEMA.get_all_operations())
    if operation.definition.raw["operationId"] not in ELSEWHERE
}


@pytest.fixture(scope="module")
def owner() -> Iterator[Browser]:
    """Of a daemon that has three jobs: one succeeded, one failed, one is held."""
    folder = Path(tempfile.mkdtemp(prefix="tf-"))
    daemon = RealDaemon(folder, 1, "--web", "127.0.0.1:0").start()
    try:
        reports = "import trainforge; [trainforge.report(step=n, loss=float('nan')) for n in range(5)]"
        for argv in (("python3", "-c", reports), ("false",)):
            daemon.wait_for(daemon.command(*argv).id)
        daemon.command("true", hold=True)
        yield Browser(daemon).sign_in()
        assert daemon.process is not None
        assert daemon.process.poll() is None, "the daemon is alive after all of it"
    finally:
        daemon.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_is_the_servers_mistake(owner: Browser, name: str) -> None:
    headers = {"Origin": f"http://{owner.host}", "Cookie": owner.cookie or ""}
    if "requestBody" not in OPERATIONS[name].definition.raw:
        headers["Content-Type"] = "application/json"  # as the page sends it, also without a body
    statuses = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    @given(case=OPERATIONS[name].as_strategy(), job=st.sampled_from([1, 2, 3, 77]))
    def ask(case: Any, job: int) -> None:
        if "id" in case.path_parameters:
            case.path_parameters["id"] = job
        response = case.call(base_url=f"http://{owner.host}", headers=headers, timeout=PATIENCE)
        statuses.add(response.status_code)
        case.validate_response(response, checks=[not_a_server_error, response_schema_conformance])

    ask()
    assert not statuses <= {401, 403}, "requests must get past the gate"
