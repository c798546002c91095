"""The web port against those who should not see it: each of these is tried, and must fail."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.daemon.browser import Browser
from tests.daemon.real import RealDaemon, request


@pytest.fixture(scope="module")
def daemon() -> Iterator[RealDaemon]:
    folder = Path(tempfile.mkdtemp(prefix="tf-"))
    daemon = RealDaemon(folder, 1, "--web", "127.0.0.1:0").start()
    yield daemon
    daemon.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def owner(daemon: RealDaemon) -> Browser:
    return Browser(daemon).sign_in()


@pytest.fixture
def stranger(daemon: RealDaemon) -> Browser:
    return Browser(daemon)


def test_who_signs_in_sees_the_page_and_the_api(owner: Browser) -> None:
    session = owner.ask("GET", "/v1/session").json
    assert session["expires_at"] is not None
    assert owner.ask("GET", "/v1/status").json["web"] == owner.host
    assert owner.ask("GET", "/").status in (200, 503)  # 503: the page was not built
    job = owner.ask("POST", "/v1/prune", b'{"older_than": 1e9}')
    assert (job.status, job.json["jobs"]) == (200, [])


def test_the_cookie_cannot_be_read_by_scripts_nor_sent_from_elsewhere(stranger: Browser) -> None:
    cookie = stranger.ask("GET", f"/sign-in?code={stranger.code()}").headers["set-cookie"]
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes


@pytest.mark.parametrize("target", ["/v1/status", "/v1/jobs", "/v1/events", "/metrics", "/v1/openapi.json"])
def test_without_a_cookie_the_api_says_nothing(stranger: Browser, target: str) -> None:
    answer = stranger.ask("GET", target)
    assert (answer.status, answer.code) == (401, "not_signed_in")


@pytest.mark.parametrize(
    "target", ["/", "/jobs/1", "/index.html", "/assets/index.js", "/sign-in", "/%2e%2e/x"]
)
def test_without_a_cookie_no_file_is_served(stranger: Browser, target: str) -> None:
    answer = stranger.ask("GET", target)
    assert answer.status == 401
    assert b"tfctl dashboard" in answer.body
    assert b"<script" not in answer.body


@pytest.mark.parametrize("cookie", ["x", "", "=", "a=b; " * 50, "\x7f\xff", "trainforge-{port}={other}"])
def test_a_made_up_cookie_opens_nothing(owner: Browser, cookie: str) -> None:
    owner.cookie = cookie.format(port=owner.port, other="A" * 43)
    assert owner.ask("GET", "/v1/status").status in (400, 401)


def test_a_session_of_another_daemon_opens_nothing_here(owner: Browser) -> None:
    """Cookies are shared by all ports of a host."""
    assert owner.cookie is not None
    secret = owner.cookie.partition("=")[2]
    owner.cookie = f"trainforge-{owner.port + 1}={secret}"
    assert owner.ask("GET", "/v1/status").status == 401


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:3001", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::2]"],
)
def test_a_rebound_name_gets_nothing(owner: Browser, host: str) -> None:
    """DNS rebinding: the owner believes that we are evil.example, cookie and all."""
    answer = owner.ask("GET", "/v1/status", Host=host)
    assert answer.status in (400, 403)
    assert b"pid" not in answer.body


def test_two_hosts_or_none_get_nothing(owner: Browser) -> None:
    lines = f"GET /v1/status HTTP/1.1\r\nCookie: {owner.cookie}\r\nConnection: close\r\n"
    assert owner.raw(f"{lines}\r\n".encode()).status in (400, 403)
    two = f"{lines}Host: {owner.host}\r\nHost: evil.example\r\n\r\n"
    assert owner.raw(two.encode()).status in (400, 403)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:1", "https://{host}", "http://{host}.evil.example"],
)
def test_another_page_cannot_ask(owner: Browser, origin: str) -> None:
    origin = origin.format(host=owner.host)
    for method, target in (("GET", "/v1/status"), ("POST", "/v1/prune"), ("POST", "/v1/sign-out")):
        body = b'{"older_than": 1e9}' if method == "POST" else b""
        answer = owner.ask(method, target, body, Origin=origin)
        assert (answer.status, answer.code) == (403, "forbidden")
    assert owner.ask("GET", "/v1/session").status == 200, "it was not signed out"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_page_cannot_embed_an_answer(owner: Browser, site: str) -> None:
    """A script tag, a picture or a frame: the owner names no Origin, but says where it comes from."""
    for target in ("/v1/status", "/", "/metrics"):
        for mode, dest in (("no-cors", "script"), ("no-cors", "image"), ("navigate", "iframe")):
            answer = owner.ask("GET", target, Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=dest)
            assert answer.status == 403
    link = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert owner.ask("GET", "/v1/status", **link).status == 403
    assert owner.ask("GET", "/jobs/1", **link).status in (200, 503), "a link to the page may be followed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Origin", None),
        ("Content-Type", "text/plain"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Type", "multipart/form-data; boundary=x"),
        ("Content-Type", None),
    ],
)
def test_a_form_of_another_page_changes_nothing(owner: Browser, name: str, value: str | None) -> None:
    headers = {name.replace("-", "_"): value}
    answer = owner.ask("POST", "/v1/prune", b'{"older_than": 0}', **headers)
    assert (answer.status, answer.code) == (403, "forbidden")


def test_a_code_opens_one_session(stranger: Browser) -> None:
    code = stranger.code()
    assert stranger.ask("GET", f"/sign-in?code={code}").status == 303
    again = stranger.ask("GET", f"/sign-in?code={code}")
    assert again.status == 401
    assert "set-cookie" not in again.headers


def test_codes_are_given_over_the_socket_only(owner: Browser) -> None:
    answer = owner.ask("POST", "/v1/sign-in")
    assert (answer.status, answer.code) == (404, "not_found")


def test_signing_out_ends_the_session_and_no_other(daemon: RealDaemon, owner: Browser) -> None:
    other = Browser(daemon).sign_in()
    assert owner.ask("POST", "/v1/sign-out").status == 204
    assert owner.ask("GET", "/v1/status").status == 401
    assert other.ask("GET", "/v1/status").status == 200


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
def test_a_method_cannot_be_smuggled_into_another(owner: Browser, header: str) -> None:
    job = owner.daemon.command("true").id
    owner.daemon.wait_for(job)
    headers = {header.replace("-", "_"): "DELETE"}
    owner.ask("GET", f"/v1/jobs/{job}?_method=DELETE", **headers)
    owner.ask("POST", f"/v1/jobs/{job}?_method=DELETE", b"_method=DELETE", **headers)
    assert owner.ask("GET", f"/v1/jobs/{job}").status == 200
    for method in ("TRACE", "CONNECT", "PURGE"):
        assert owner.ask(method, "/v1/status").status in (400, 404, 405)


def test_huge_headers_are_refused(owner: Browser) -> None:
    assert owner.ask("GET", "/v1/status", X_Big="a" * 100_000).status in (400, 431)
    many = "".join(f"X-{number}: 1\r\n" for number in range(50_000))
    start = f"GET /v1/status HTTP/1.1\r\nHost: {owner.host}\r\n"
    assert owner.raw(f"{start}{many}\r\n".encode()).status in (400, 431)
    assert owner.ask("GET", "/" + "a" * 100_000).status in (400, 414, 431)
    assert owner.ask("GET", "/v1/status").status == 200


def test_what_jobs_write_is_never_a_page(owner: Browser) -> None:
    evil = "<script>alert(1)</script>"
    job = owner.daemon.command("printf", "%s\n", evil, name="evil").id
    owner.daemon.wait_for(job)
    log = owner.ask("GET", f"/v1/jobs/{job}/logs")
    assert evil.encode() in log.body
    assert log.headers["content-type"].startswith("text/plain")
    found = owner.ask("GET", f"/v1/jobs/{job}/logs?search=alert")
    assert found.json["lines"][0]["text"] == evil
    for answer in (
        log,
        found,
        owner.ask("GET", f"/<img%20src=x>/{evil}.html"),
        owner.ask("GET", f"/v1/{evil}"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert evil.encode() not in answer.body or not answer.headers["content-type"].startswith("text/html")


def test_every_answer_is_narrow(owner: Browser, stranger: Browser) -> None:
    for answer in (
        owner.ask("GET", "/"), owner.ask("GET", "/v1/status"), owner.ask("GET", "/v1/none"),
        stranger.ask("GET", "/"), stranger.ask("GET", "/v1/status"), owner.ask("GET", "/", Host="evil.test"),
    ):  # fmt: skip
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["server"] == "trainforged", "its version is nobody's business"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")


AS_ANOTHER = """
import encodings.idna, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60) as sock:
    try:
        sock.sendall(sys.argv[2].encode())
        while data := sock.recv(65536):
            sys.stdout.buffer.write(data)
    except ConnectionError:
        print("CUT OFF")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_gets_nothing_even_with_a_stolen_cookie(owner: Browser) -> None:
    head = ["GET /v1/status HTTP/1.1", f"Host: {owner.host}", f"Cookie: {owner.cookie}", "Connection: close"]
    request = "\r\n".join([*head, "", ""])
    done = subprocess.run(
        [sys.executable, "-I", "-c", AS_ANOTHER, str(owner.port), request], capture_output=True, check=True
    )
    assert b" 403 " in done.stdout.split(b"\r\n")[0] or done.stdout == b"CUT OFF\n", done
    assert b"state_dir" not in done.stdout
    mine = [sys.executable, "-I", "-c", AS_ANOTHER.replace("65534", "0"), str(owner.port), request]
    assert b"state_dir" in subprocess.run(mine, capture_output=True, check=True).stdout


SENDS_AND_LEAVES = """
import encodings.idna, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for _ in range(20):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60) as sock:
        sock.sendall(sys.argv[2].encode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_who_leaves_at_once_does_not_pass_for_root(owner: Browser) -> None:
    """The kernel tells 0 as the owner of a socket that its process has closed."""
    before = owner.daemon.command("true").id
    body = msgspec.json.encode(request(["true"], owner.daemon.folder)).decode()
    head = [
        "POST /v1/jobs HTTP/1.1", f"Host: {owner.host}", f"Origin: http://{owner.host}",
        f"Cookie: {owner.cookie}", "Content-Type: application/json", f"Content-Length: {len(body)}",
    ]  # fmt: skip
    sent = "\r\n".join([*head, "", body])
    owner.daemon.send(signal.SIGSTOP)  # so that all of them have left before one is looked at
    try:
        argv = [sys.executable, "-I", "-c", SENDS_AND_LEAVES, str(owner.port), sent]
        subprocess.run(argv, check=True)
    finally:
        owner.daemon.send(signal.SIGCONT)
    assert owner.ask("GET", "/v1/jobs").json["jobs"][0]["id"] == before
    assert owner.daemon.command("true").id == before + 1, "nothing of theirs was accepted"
