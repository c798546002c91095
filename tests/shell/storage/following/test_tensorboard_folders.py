"""Folders in which event files may lie, some of them hostile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from tests.shell.event_writer import EventWriter, event, frame, simple
from tests.shell.storage.following.eventscene import Scene
from trainforged.storage.following.eventfolders import DEEPEST, MOST_FILES, search
from trainforged.storage.following.tensorboard import MOST_NAMES


def test_no_link_is_followed_and_nothing_but_files_is_opened(scene: Scene, tmp_path: Path) -> None:
    live = scene.attempt()
    outside = EventWriter(tmp_path / "outside")
    outside.scalar("secret", 1.0, 1)
    (scene.project / "link").symlink_to(tmp_path / "outside")
    (scene.project / "events.out.tfevents.1.host").symlink_to(outside.path)
    os.mkfifo(scene.project / "events.out.tfevents.2.host")
    (scene.project / "events.out.tfevents.3.host").mkdir()
    assert scene.look(live) == ()


def test_a_folder_that_becomes_a_link_is_not_followed(scene: Scene, tmp_path: Path) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project / "runs")
    scene.look(live)
    outside = EventWriter(tmp_path / "outside", writer.path.name)
    outside.scalar("secret", 1.0, 1)
    writer.path.parent.rename(scene.project / "moved")
    (scene.project / "runs").symlink_to(tmp_path / "outside")
    scene.look(live)
    assert "secret" not in scene.series()


def test_a_search_is_bounded(tmp_path: Path) -> None:
    EventWriter(tmp_path / "a" / "b")
    EventWriter(tmp_path / "/".join("d" * (DEEPEST + 2)))
    EventWriter(tmp_path / ".hidden")
    many = tmp_path / "many"
    many.mkdir()
    for place in range(MOST_FILES + 50):
        (many / f"events.out.tfevents.{place}.host").touch()
    assert len(search([tmp_path])) == MOST_FILES
    assert len(search([tmp_path], entries=20)) < 20
    assert [file.run for file in search([tmp_path / "a"])] == ["b"]
    assert search([tmp_path / "d"]) == []
    assert len(search([tmp_path / "d" / "d"])) == 1
    assert search([tmp_path / "nowhere"]) == []


def test_a_folder_whose_name_is_no_text_is_named_as_well_as_may_be(scene: Scene) -> None:
    live = scene.attempt()
    now = time.time()
    EventWriter(scene.project / "a", begun=now).scalar("loss", 1.0, 1)
    EventWriter(scene.project / os.fsdecode(b"b\xff"), begun=now + 1).scalar("loss", 2.0, 1)
    scene.look(live)
    assert scene.series() == {"loss": [(1, 1.0)], "b\ufffd/loss": [(1, 2.0)]}


def test_endless_names_are_not_remembered(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    for first in range(0, 6000, 1000):
        values = [simple(f"tag-{number}", 1.0) for number in range(first, first + 1000)]
        writer.raw(frame(event(time.time(), 1, *values)))
    scene.look(live)
    assert len(scene.store.names(1)) == 1000  # as of a job that reports as many
    (known,) = scene.follower._attempts.values()
    assert len(known.owners) <= MOST_NAMES


def test_the_state_folder_is_not_searched(scene: Scene) -> None:
    live = scene.attempt()
    EventWriter(scene.state / "jobs" / "2" / "project").scalar("loss", 1.0, 1)
    scene.roots = [scene.state.parent]
    scene.begin_again()
    assert scene.look(live) == ()


def test_an_ended_attempt_is_read_to_its_end(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    for step in range(3):
        writer.scalar("loss", step, step + 1)
    assert sum(entry.reports for entry in scene.follower.drain(live)) == 3
    assert msgspec.json.encode(scene.reader.progress(1)).count(b'"step":3')
