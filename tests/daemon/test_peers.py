"""Two real ranks over gloo, one stops answering or dies: who failed first is named, and training goes on."""

from __future__ import annotations

import re

import pytest

from tests.daemon.real import RealDaemon, wait_until
from trainforge.api import JobView
from trainforge.states import JobState

TRAINS = """
import datetime, os, signal, sys, time
import torch
import torch.distributed as dist
import trainforge

first = os.environ["TRAINFORGE_ATTEMPT"] == "1"
dist.init_process_group("gloo")
dist.barrier()  # both are there, however slowly
hasty = dist.new_group(timeout=datetime.timedelta(seconds=10)) if first and __HASTY__ else None
weight = torch.nn.Parameter(torch.zeros(4))
optimizer = torch.optim.SGD([weight], lr=0.1)
model = torch.nn.Module()
model.weight = weight
checkpointer = trainforge.Checkpointer(model=model, optimizer=optimizer)
start = checkpointer.resume()
for step in range(start, 6):
    if first and step == 3 and dist.get_rank() == 1:
        __TROUBLE__
    total = torch.ones(1)
    dist.all_reduce(total, group=hasty if step == 3 else None)
    trainforge.report(step=step + 1, start=start)
    checkpointer.save(step + 1)
    checkpointer.wait()
checkpointer.close()
"""


def has_ended(daemon: RealDaemon) -> JobView | None:
    with daemon.client() as client:
        job = client.job(1)
    return job if job.state.ended else None


TROUBLES = {
    "time.sleep(3600)": ("peer_lost", 0, ("gloo", "Timed out", "timed out")),
    "os.kill(os.getpid(), signal.SIGKILL)": ("killed", 1, ("SIGKILL",)),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_first_failing_rank_is_named_and_training_goes_on(daemon: RealDaemon, trouble: str) -> None:
    reason, rank, words = TROUBLES[trouble]
    source = TRAINS.replace("__TROUBLE__", trouble).replace("__HASTY__", str(reason == "peer_lost"))
    (daemon.folder / "train.py").write_text(source)
    daemon.tfctl("submit", "train.py", "--gpu", "2", "--set", "recovery.backoff=0.1s")
    ended = wait_until(lambda: has_ended(daemon), "the second attempt to end", deadline=300)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2), daemon.tfctl("why", "1").stdout
    assert ended.attempts is not None
    before, after = ended.attempts
    assert (before.reason, before.failed_rank) == (reason, rank), before
    assert any(word in (before.message or "") for word in words), before.message
    assert f"rank {rank}" in daemon.tfctl("events", "1").stdout
    said = daemon.tfctl("why", "1").stdout
    assert re.search(rf"1: {reason}, rank {rank} .*\n     started again, retry 1 of 3\n", said), said
    assert after.resumed_from is not None
    with daemon.client() as client:
        (starts,) = client.metrics(1, names=["start"]).series
    assert starts.value[-1] == 3, "the second attempt went on from the newest checkpoint"
