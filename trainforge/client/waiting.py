"""Waiting for a job to end, by its events rather than by asking again and again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from trainforge.api import EventView, JobView
from trainforge.client.sockets import NoDaemon

if TYPE_CHECKING:
    from trainforge.client.client import Client
    from trainforge.client.events import EventStream


def wait_for(client: Client, job: int, timeout: float | None) -> JobView:
    """`Client.wait`. The stream is open before the job is looked at: its end cannot slip through."""
    with client.watch(job=job) as stream:
        stream.connect()
        timer = threading.Timer(timeout, stream.close) if timeout is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            return _until_ended(client, job, stream)
        finally:
            if timer is not None:
                timer.cancel()


def _until_ended(client: Client, job: int, stream: EventStream) -> JobView:
    found = _look(client, job, stream)
    while not found.state.ended:
        if not any(isinstance(item, EventView) for item in stream):
            raise TimeoutError(f"job {job} has not ended: {found.why}")
        found = _look(client, job, stream)
    return found


def _look(client: Client, job: int, stream: EventStream) -> JobView:
    """The job, from a daemon that may be starting again."""
    while True:
        try:
            return client.job(job)
        except NoDaemon:
            if stream.closed:
                raise
            time.sleep(0.1)
