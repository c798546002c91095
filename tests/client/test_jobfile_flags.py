"""What a command line lays over job files, sweeps, and changes of a job that is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.client.jobfiles import LEAST, NOW, Write, mistakes, read
from trainforge.jobfile import layers
from trainforge.jobfile.checks import SpecError, check, check_all, format_details
from trainforge.jobfile.tree import Tree, to_plain


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "trainforge.yaml") -> str:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def test_flags_lie_over_files_sets_over_flags_and_env_over_all(write: Write) -> None:
    file = write(f"{LEAST}resources: {{gpu: 4, cpu: 4}}\nenv: {{A: 1}}\n")
    flags = [layers.setting("resources.gpu", "2", "--gpu"), layers.setting("project.name", "b", "--name")]

    spec = check(
        layers.load(
            [file],
            over=flags,
            sets=[
                "resources.gpu=0",
                "resources.cpu=",
                "env.A=2",
                "schedule.after=1, 2",
                "training.args=[--x, 'a,b']",
            ],
            envs=["A=True", "B=x=y", "C="],
        ),
        now=NOW,
    )

    assert (spec.project.name, spec.resources.gpu, spec.resources.cpu) == ("b", 0, None)
    assert spec.environment.env == {"A": "True", "B": "x=y", "C": ""}
    assert spec.schedule.after == (1, 2)
    assert spec.training.args == ("--x", "a,b")


def test_a_flag_is_named_in_its_mistake() -> None:
    base = {"project": {"name": "a"}, "training": {"script": "a"}}
    tree = layers.load(base=base, over=[layers.setting("schedule.time_limit", "90", "--time-limit")])

    with pytest.raises(SpecError, match=r"^--time-limit: schedule\.time_limit: expected a duration"):
        check(tree, now=NOW)


def test_a_command_can_take_the_place_of_the_files_script(write: Write) -> None:
    file = write(LEAST)

    assert read(file, sets=["training.script=", "training.command=make all"]).training.command == (
        "/bin/sh",
        "-c",
        "make all",
    )
    assert read(file, sets=["training.script=", 'training.command=["make", all]']).training.command == (
        "make",
        "all",
    )
    assert (
        read(file, sets=["training.script=", "training.command=[ -f x ] && y"]).training.command is not None
    )


def test_texts_without_their_form_are_refused_together() -> None:
    assert mistakes(sets=["a", "b..c=1", "training.args=[a]]"], envs=["A", "=1"]) == [
        "--set: expected KEY.PATH=VALUE, found a",
        "--set: expected KEY.PATH=VALUE, found b..c=1",
        "--set: training.args: not YAML: did not find expected <document start>",
        "--env: expected NAME=VALUE, found A",
        "--env: expected NAME=VALUE, found =1",
    ]


def test_a_sweep_makes_every_combination_the_last_fastest(write: Write) -> None:
    tree = layers.load([write(f"{LEAST}env: {{LR: 1}}\n")])

    points = layers.grid(tree, ["LR=0.10,010", "schedule.priority=1, 2", "training.args=[--a],[]"])
    specs = check_all([point.tree for point in points], now=NOW)

    assert points[0].values == (("LR", "0.10"), ("schedule.priority", "1"), ("training.args", "--a"))
    assert [(s.environment.env["LR"], s.schedule.priority, s.training.args) for s in specs] == [
        (lr, priority, args) for lr in ("0.10", "010") for priority in (1, 2) for args in (("--a",), ())
    ]
    assert layers.grid(tree, []) == (layers.Point(values=(), tree=tree),)


def test_sweeps_without_their_form_are_refused() -> None:
    with pytest.raises(SpecError) as refused:
        layers.grid(
            layers.load(),
            ["A=", "B=1", "env.B=1,2", "B=2", "C", "D=a,,b", "F=a]: b, [c", "G=] #", f"E={'1,' * 10001}"],
        )

    assert [line.partition(", found")[0] for line in format_details(refused.value.details)] == [
        "--sweep: expected K=V1,V2",
        "--sweep: expected K=V1,V2",
        "--sweep: D: not YAML: while parsing a flow node: did not find expected node content",
        "--sweep: F: a key has to be text; this one is a list",
        "--sweep: expected K=V1,V2",
        "--sweep: environment.env.B: swept twice",
        "--sweep: expected at most 10000 jobs",
    ]


def test_a_mistake_that_all_points_share_is_told_once(write: Write) -> None:
    points = layers.grid(layers.load([write("project: {name: 1}\ntraining: {script: a}\n")]), ["A=1,2,3"])

    with pytest.raises(SpecError) as refused:
        check_all([point.tree for point in points], now=NOW)
    assert len(refused.value.details) == 1


def test_a_job_is_changed_at_key_paths() -> None:
    spec = check({"project": {"name": "a"}, "training": {"command": "x"}}, now=NOW)

    changed = layers.updated(
        spec,
        {"schedule.time_limit": "2h", "recovery.grace": 5, "environment.env.A": 1, "schedule.after": [7]},
        now=NOW,
    )

    assert (changed.schedule.time_limit, changed.recovery.grace) == (7200, 5)
    assert (changed.environment.env, changed.schedule.after) == ({"A": "1"}, (7,))
    assert changed.training == spec.training
    with pytest.raises(SpecError, match=r"resources\.gpuz: unknown key; did you mean gpu\?"):
        layers.updated(spec, {"resources.gpuz": 1}, now=NOW)


def test_yaml_and_what_only_mistakes_need_are_loaded_on_use() -> None:
    heavy = (
        "{'yaml', 'difflib', 'trainforge.api', 'dataclasses', 'asyncio', 'http.client'} & set(sys.modules)"
    )
    script = f"""
import datetime, sys
from trainforge.jobfile import checks, layers
tree = layers.load(base={{"project": {{"name": "a"}}}}, sets=["training.command=x"], envs=["A=1"])
checks.check(tree, now=datetime.datetime.now(datetime.UTC))
print({heavy})
"""
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert loaded.stdout == "set()\n"


def test_a_tree_alone_is_no_job_and_no_mistake(write: Write) -> None:
    assert isinstance(layers.load([write("env: {A: 1}\n")]), Tree)
    assert layers.load() == Tree(root=layers.load().root)


def test_the_spec_of_a_job_goes_through_a_tree_unchanged() -> None:
    spec = check(
        {
            "project": {"name": "a"},
            "training": {"script": "a"},
            "schedule": {"time_limit": "2h", "after": [1]},
        },
        now=NOW,
    )
    plain = msgspec.json.decode(msgspec.json.encode(spec))

    tree = layers.load(base=plain, sets=["resources.gpu=0"], envs=["A=1"])

    plain["resources"]["gpu"], plain["environment"]["env"] = "0", {"A": "1"}
    assert to_plain(tree.root) == plain
    assert check(to_plain(tree.root), now=NOW) == check(tree, now=NOW)


def test_a_set_alone_is_read_or_refused() -> None:
    assert layers.parse_set("schedule.after=1,2").value == ["1", "2"]
    assert layers.parse_set("schedule.time_limit=null").value is None
    with pytest.raises(SpecError, match=r"^--set: expected KEY"):
        layers.parse_set("schedule.after")
