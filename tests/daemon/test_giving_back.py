"""What jobs cost on disk is shown, and given back when asked, by age, by size; what is still needed stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.daemon.real import RealDaemon, wait_until
from trainforge.states import JobState

MIB = 2**20
LONG_AGO = 1e9  # by the clock of files
SAVES = "head -c {size} /dev/urandom > $TRAINFORGE_CHECKPOINT_DIR/model"


def saved(daemon: RealDaemon, size: int) -> int:
    """A job that has ended and left so many bytes."""
    job = daemon.command("sh", "-c", SAVES.format(size=size)).id
    assert daemon.wait_for(job).state is JobState.SUCCEEDED
    return job


def folders(daemon: RealDaemon) -> set[int]:
    return {int(folder.name) for folder in (daemon.state_dir / "jobs").iterdir()}


def known(daemon: RealDaemon) -> set[int]:
    with daemon.client() as client:
        return {job.id for job in client.all_jobs()}


def test_what_jobs_cost_is_shown_the_largest_first(daemon: RealDaemon) -> None:
    small, large = saved(daemon, MIB), saved(daemon, 4 * MIB)
    answer = json.loads(daemon.tfctl("du", "--json").stdout)
    assert [entry["job"] for entry in answer["jobs"]] == [large, small]
    for entry, size in zip(answer["jobs"], (4 * MIB, MIB), strict=True):
        assert size <= entry["checkpoints"] < size + MIB
        assert entry["total"] >= entry["checkpoints"] + entry["logs"] > entry["checkpoints"]
    parts = [answer[name] for name in ("files", "environments", "database")]
    assert answer["total"] == sum(entry["total"] for entry in answer["jobs"]) + sum(parts)
    heading, first, second, others = daemon.tfctl("du").stdout.splitlines()
    assert heading.split() == ["JOB", "NAME", "STATE", "PROJECT", "CHECKPOINTS", "LOGS", "TOTAL"]
    assert (first.split()[:3], second.split()[:3]) == (
        [str(large), "test", "succeeded"], [str(small), "test", "succeeded"]
    )  # fmt: skip
    assert others.startswith("frozen contents ")


def test_prune_removes_what_ended_long_enough_ago_and_nothing_else(daemon: RealDaemon) -> None:
    ended = [saved(daemon, MIB), saved(daemon, MIB)]
    held = daemon.command("true", hold=True).id
    running = daemon.command("sleep", "600").id
    daemon.wait_for(running, JobState.RUNNING)
    assert daemon.tfctl("prune", "--older-than", "1h").stdout == "removed 0 jobs, 0 B\n"
    told = daemon.tfctl("prune", "--older-than", "0s", "--dry-run").stdout
    assert told.startswith("would remove 2 jobs, 2.")
    assert told.endswith(f": {ended[0]}, {ended[1]}\n")
    assert known(daemon) == {*ended, held, running}
    done = daemon.tfctl("prune", "--older-than", "0s").stdout
    assert done == told.replace("would remove", "removed")
    assert known(daemon) == {held, running}
    wait_until(lambda: folders(daemon).isdisjoint(ended), "their folders to go")
    assert daemon.wait_for(running, JobState.RUNNING).attempt == 1
    refused = daemon.tfctl("prune", "--older-than", "7", check=False)
    assert (refused.returncode, refused.stderr.startswith("tfctl: --older-than: ")) == (2, True)


def test_what_a_waiting_job_needs_is_not_pruned(daemon: RealDaemon) -> None:
    first = saved(daemon, MIB)
    waits = daemon.command("true", hold=True, schedule={"after": [first]}).id
    assert daemon.tfctl("prune", "--older-than", "0s").stdout.startswith("removed 0 jobs")
    assert (known(daemon), first in folders(daemon)) == ({first, waits}, True)
    daemon.tfctl("release", str(waits))
    assert daemon.wait_for(waits).state is JobState.SUCCEEDED


def keeping(start_daemon: Callable[..., RealDaemon], folder: Path) -> tuple[RealDaemon, Path]:
    """A daemon, and the settings that it reads when it starts."""
    settings = folder / "trainforged.yaml"
    settings.write_text("log: {level: info}\n")
    return start_daemon(1, "--config", str(settings)), settings


def test_jobs_older_than_the_retention_are_removed(
    start_daemon: Callable[..., RealDaemon], tmp_path: Path
) -> None:
    daemon, settings = keeping(start_daemon, tmp_path)
    saved(daemon, MIB)
    held = daemon.command("true", hold=True).id
    daemon.stop()
    settings.write_text("retention: {age: 1d}\n")
    daemon.start()
    assert 1 in known(daemon)
    daemon.stop()
    settings.write_text("retention: {age: 0.01s}\n")
    daemon.start()
    wait_until(lambda: known(daemon) == {held}, "what is old to be removed")
    wait_until(lambda: 1 not in folders(daemon), "its folder to go")


def test_beyond_the_size_that_is_kept_the_longest_ended_go_first(
    start_daemon: Callable[..., RealDaemon], tmp_path: Path
) -> None:
    daemon, settings = keeping(start_daemon, tmp_path)
    jobs = [saved(daemon, 2 * MIB) for _ in range(3)]
    daemon.stop()
    settings.write_text("retention: {size: 5Mi}\n")
    daemon.start()
    wait_until(lambda: known(daemon) == set(jobs[1:]), "the longest ended to be removed")
    wait_until(lambda: folders(daemon) == set(jobs[1:]), "its folder to go")


def contents(daemon: RealDaemon) -> list[Path]:
    """Frozen ones, all of them last used long ago."""
    found = [path for path in (daemon.state_dir / "files").glob("??/*") if len(path.name) == 64]
    for path in found:
        os.utime(path, (LONG_AGO, LONG_AGO))
    return found


def test_frozen_contents_are_collected_when_no_submission_names_them(daemon: RealDaemon) -> None:
    project = daemon.folder / "project"
    project.mkdir()
    (project / "trainforge.yaml").write_text(
        "project: {name: p}\ntraining: {command: [cat, words]}\nresources: {gpu: 0}\n"
    )
    for words in ("of a job that is removed", "of a job that is held"):
        (project / "words").write_text(words)
        daemon.tfctl("submit", "--hold", cwd=project)
    daemon.tfctl("cancel", "1")
    daemon.tfctl("rm", "1")
    before = contents(daemon)
    assert sum(b"of a job" in path.read_bytes() for path in before) == 2
    daemon.stop()
    contents(daemon)  # that they were looked at just now is no use of them
    daemon.start()
    wait_until(lambda: len(contents(daemon)) < len(before), "what nobody needs to go")
    daemon.tfctl("release", "2")
    assert daemon.wait_for(2).state is JobState.SUCCEEDED
    assert daemon.tfctl("logs", "2").stdout == "of a job that is held"
    assert [path for path in contents(daemon) if path.read_bytes() == b"of a job that is removed"] == []
