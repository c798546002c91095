"""A stop comes to an end, whatever hangs, and whenever it is ordered."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.daemon.hanging import HANGING, PLACES
from tests.daemon.real import DEADLINE, RealDaemon, request, wait_until
from tests.daemon.silent_disk import SilentDisk
from tfctl.commands.daemon import PATIENCE
from trainforge.client.sockets import connect
from trainforge.states import JobState
from trainforged.daemon import stopping

FORCED = "the stop did not come to an end"


def variant(folder: Path, **env: str) -> RealDaemon:
    daemon = RealDaemon(folder, env=os.environ | env)
    daemon.module = "tests.daemon.hanging"
    return daemon


@pytest.mark.parametrize("what", HANGING)
def test_what_hangs_is_left_behind_and_named_and_nothing_accepted_is_lost(folder: Path, what: str) -> None:
    daemon = variant(folder, HANGS=what).start(wait=False)
    try:
        wait_until(lambda: "trainforged" in daemon.log.read_text(), "the daemon to be up")
        daemon.send(signal.SIGTERM)
        assert daemon.process is not None
        assert daemon.process.wait(DEADLINE) == 0
        told = daemon.log.read_text()
        assert FORCED in told
        assert "hanging.py" in told, "the stacks"
        daemon = RealDaemon(folder).start()
        assert daemon.wait_for(daemon.command("true").id).state is JobState.SUCCEEDED
    finally:
        daemon.close()


def test_those_who_wait_for_a_stop_wait_longer_than_it_may_take() -> None:
    longest = stopping.LONGEST_STOP + stopping.LOOK_EVERY + stopping.LAST_WORDS
    units = Path(__file__).parents[2] / "systemd"
    for unit in (units / "system/trainforged.service", units / "user/trainforged.service"):
        (allowed,) = re.findall(r"^TimeoutStopSec=(\d+)s$", unit.read_text(), re.M)
        assert longest + stopping.BACKSTOP < int(allowed)
    assert longest < PATIENCE


@pytest.mark.parametrize("where", PLACES)
def test_a_stop_is_obeyed_at_every_point_of_the_start(folder: Path, where: str) -> None:
    daemon = variant(folder, STOPPED_IN=where).start(wait=False)
    try:
        assert daemon.process is not None
        assert daemon.process.wait(DEADLINE) in (0, -signal.SIGTERM)
        assert FORCED not in daemon.log.read_text()
        daemon = RealDaemon(folder).start()
        assert daemon.wait_for(daemon.command("true").id).state is JobState.SUCCEEDED
    finally:
        daemon.close()


def test_it_does_not_wait_for_clients(daemon: RealDaemon) -> None:
    """One that reads nothing of a stream, one in the middle of an upload, one that says nothing."""
    daemon.wait_for(daemon.command("sh", "-c", "yes | head -c 5000000").id)
    clients = [connect(daemon.socket, DEADLINE)[0] for _ in range(4)]
    try:
        said = (
            b"GET /v1/jobs/1/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n",
            b"PUT /v1/files/" + b"0" * 64 + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhalf",
            b"GET /v1/sta",
        )
        for client, text in zip(clients, said, strict=True):
            client.sendall(text)
        for client in clients[:2]:  # they are being answered
            client.recv(1, socket.MSG_PEEK)
        daemon.stop()
        assert FORCED not in daemon.log.read_text()
    finally:
        for client in clients:
            client.close()


def test_it_does_not_wait_for_a_program_that_tells_people(daemon: RealDaemon) -> None:
    tells = daemon.folder / "tells.sh"
    tells.write_text(f"#!/bin/sh\ntrap '' TERM INT HUP\ntouch {daemon.folder}/told\nsleep 600\n")
    tells.chmod(0o700)
    notify = {"on": ["end"], "command": str(tells)}
    daemon.wait_for(daemon.command("true", notify=notify).id)
    wait_until((daemon.folder / "told").exists, "the program to be started")
    daemon.stop()
    assert FORCED not in daemon.log.read_text()


def test_it_does_not_wait_for_a_disk_that_does_not_answer(daemon: RealDaemon, disk: SilentDisk) -> None:
    with daemon.client() as client:
        stuck = client.submit(request(["sleep", "600"], disk.place)).id
    daemon.wait_for(stuck, JobState.RUNNING)
    disk.fall_silent()
    wait_until(disk.asked.is_set, "the daemon to ask it")
    daemon.stop()
    daemon.start()
    assert daemon.wait_for(stuck, JobState.RUNNING).attempt == 1
