"""Sign-in over time: guessing, restarts, and a port that is taken."""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.daemon.browser import Browser
from tests.daemon.real import RealDaemon, wait_until
from tests.support import free_port

Start = Callable[..., RealDaemon]


def test_guessing_is_slowed_down(start_daemon: Start) -> None:
    browser = Browser(start_daemon(1, "--web", "127.0.0.1:0"))
    code = browser.code()
    answers = [browser.ask("GET", f"/sign-in?code={code[:-1]}{number}x") for number in range(30)]
    assert {answer.status for answer in answers[:5]} == {401}
    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) > 0


def test_a_session_and_its_stream_go_on_after_a_restart(start_daemon: Start) -> None:
    port = free_port()
    daemon = start_daemon(1, "--web", f"127.0.0.1:{port}")
    browser = Browser(daemon).sign_in()
    with browser.events() as stream:
        assert b"200 OK" in stream.recv(65536)
        daemon.command("true", hold=True)
        seen = b""
        while b"job_submitted" not in seen:
            seen += stream.recv(65536)
    stored = daemon.state_dir / "sessions.json"
    assert browser.cookie is not None
    assert browser.cookie.partition("=")[2] not in stored.read_text(), "only its hash is kept"
    assert stored.stat().st_mode & 0o077 == 0
    daemon.kill()
    daemon.start()
    wait_until(lambda: daemon.get("/v1/status")["web"], "the web port")
    assert browser.ask("GET", "/v1/status").status == 200


def test_signing_out_ends_the_streams_of_the_session(start_daemon: Start) -> None:
    daemon = start_daemon(1, "--web", "127.0.0.1:0")
    browser, other = Browser(daemon).sign_in(), Browser(daemon).sign_in()
    with browser.events() as stream, other.events() as others:
        for reader in (stream, others):
            assert b"200 OK" in reader.recv(65536)
        assert browser.ask("POST", "/v1/sign-out").status == 204
        while stream.recv(65536):
            pass
        daemon.command("true", hold=True)
        seen = b""
        while b"job_submitted" not in seen:
            seen += others.recv(65536)


def test_a_port_that_is_taken_costs_the_page_alone(start_daemon: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        daemon = start_daemon(1, "--web", f"127.0.0.1:{port}")
        status = wait_until(
            lambda: (s := daemon.get("/v1/status"))["web_problem"] and "in use" in s["web_problem"] and s,
            "the daemon to say that the port is taken",
        )
        assert status["web"] is None
        assert daemon.wait_for(daemon.command("true").id).state == "succeeded"
        done = daemon.tfctl("dashboard", check=False)
        assert done.returncode == 2
        assert "in use" in done.stderr
        assert "page      none: " in daemon.tfctl("daemon", "status").stdout
        doctor = daemon.tfctl("doctor", check=False).stdout
        assert f"127.0.0.1:{port}" in doctor


def test_the_dashboard_command_prints_an_address_that_signs_in(start_daemon: Start) -> None:
    daemon = start_daemon(1, "--web", "127.0.0.1:0")
    browser = Browser(daemon)
    done = daemon.tfctl("dashboard", "--print", DISPLAY="", WAYLAND_DISPLAY="")
    address, *rest = done.stdout.splitlines()
    assert address.startswith(f"http://{browser.host}/sign-in?code=")
    assert f"ssh -L {browser.port}:127.0.0.1:{browser.port} " in "\n".join(rest)
    assert browser.ask("GET", address.partition(browser.host)[2]).status == 303


def test_without_a_web_port_the_command_says_so(start_daemon: Start) -> None:
    daemon = start_daemon(1, "--web", "off")
    done = daemon.tfctl("dashboard", check=False)
    assert done.returncode == 2
    assert "off" in done.stderr
