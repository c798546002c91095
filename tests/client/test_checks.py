"""A JSON object becomes a JobSpec, or every mistake in it is told at once."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from trainforge.api import ErrorDetail
from trainforge.jobfile.checks import SECTIONS, SpecError, check, format_details
from trainforge.protocol import RESERVED
from trainforge.spec import JobSpec, Project, Recovery, Resources, Training

NOW = datetime.datetime(2026, 11, 22, 10, 0, tzinfo=datetime.UTC)


def described(**sections: Any) -> dict[str, Any]:
    return {"project": {"name": "digits"}, "training": {"script": "train.py"}, **sections}


def spec(**sections: Any) -> JobSpec:
    return check(described(**sections), now=NOW)


def mistakes(value: Any) -> list[str]:
    with pytest.raises(SpecError) as refused:
        check(value, now=NOW)
    return format_details(refused.value.details)


def mistake(**sections: Any) -> str:
    [only] = mistakes(described(**sections))
    return only


def test_the_least_job_takes_every_default() -> None:
    assert spec() == JobSpec(project=Project(name="digits"), training=Training(script="train.py"))


def test_every_key_of_the_types_is_read() -> None:
    read = {section: set(keys) - {"gpu_memory"} for section, keys in SECTIONS.items()}

    assert read == {
        field.name: set(msgspec.structs.asdict(getattr(spec(), field.name)))
        for field in msgspec.structs.fields(JobSpec)
    }


def test_what_is_written_is_what_is_read() -> None:
    read = spec(
        resources={"gpu": "2-8", "cpu": 16, "memory": "32Gi"},
        environment={"base_image": "pytorch/pytorch:2.0.1", "python": "isolated", "env": {"A": 1, "B": True}},
        schedule={"priority": -100, "time_limit": 90, "after": [41, 42, 41], "begin": "2026-11-22T22:00:00Z"},
        recovery={"max_retries": 0, "backoff": 0, "hang_timeout": 600.5, "grace": "2m"},
        checkpoints={"dir": "./out/ckpt/", "keep": 1},
    )

    assert read.resources == Resources(gpu="2-8", cpu=16, memory=32 << 30)
    assert read.environment.env == {"A": "1", "B": "true"}
    assert read.schedule.after == (41, 42)
    assert read.schedule.time_limit == 90.0
    assert read.schedule.begin == datetime.datetime(2026, 11, 22, 22, tzinfo=datetime.UTC)
    assert read.recovery == Recovery(max_retries=0, backoff=0, hang_timeout=600.5, grace=120)
    assert (read.checkpoints.dir, read.checkpoints.keep) == ("out/ckpt", 1)


def test_its_own_json_is_accepted_again() -> None:
    whole = spec(
        resources={"gpu": "2-8", "memory": 10**9},
        schedule={"time_limit": "2d", "after": [3], "begin": "now+90s"},
        recovery={"hang_timeout": "off"},
    )

    assert check(msgspec.to_builtins(whole), now=NOW) == whole
    assert check(msgspec.json.decode(msgspec.json.encode(whole)), now=NOW) == whole


def test_null_is_not_written() -> None:
    nothing = {section: dict.fromkeys(keys) for section, keys in SECTIONS.items()}
    nothing["project"]["name"] = "digits"
    nothing["training"]["script"] = "train.py"

    assert check(nothing, now=NOW) == spec()
    assert spec(resources=None, schedule=None) == spec()


def test_a_command_is_a_list_or_the_shells_text_and_is_not_retried_unless_told() -> None:
    listed = check({"project": {"name": "a"}, "training": {"command": ["make", "-j", 4]}}, now=NOW)
    text = check(
        {"project": {"name": "a"}, "training": {"command": "make all"}, "recovery": {"max_retries": 2}},
        now=NOW,
    )

    assert listed.training.command == ("make", "-j", "4")
    assert listed.recovery.max_retries == 0
    assert text.training.command == ("/bin/sh", "-c", "make all")
    assert text.recovery.max_retries == 2
    assert spec().recovery.max_retries == 3


def test_env_at_the_top_is_short_for_environment_env() -> None:
    assert spec(env={"A": "1"}, environment={"env": {"B": "2"}}).environment.env == {"A": "1", "B": "2"}
    assert mistake(env={"A": "1"}, environment={"env": {"A": "2"}}) == "environment.env.A: given twice"


def test_all_mistakes_are_told_at_once() -> None:
    assert mistakes(
        {
            "project": {"name": "9", "includ": []},
            "resources": {"gpus": 4, "cpu": 0, "gpu_memory": "10Gi"},
            "environment": {"env": {"RANK": 1, "1A": 2, "B": [3]}},
            "schedule": {"after": [1, "x"]},
        }
    ) == [
        "project.name: expected a name of at most 63 letters, digits, '.', '_' and '-' that begins with a"
        " letter, found 9",
        "project.includ: unknown key; did you mean include?",
        "resources.gpus: unknown key; did you mean gpu?",
        "resources.cpu: expected a whole number from 1 to 1000000, found 0",
        "resources.gpu_memory: sharing a GPU is not yet built; leave this key out",
        "environment.env.RANK: TrainForge sets this variable itself; choose another name",
        "environment.env.1A: expected a name of letters, digits and _ that does not begin with a digit,"
        " found 1A",
        "environment.env.B: expected a text, a number, true or false, found a list",
        "schedule.after[1]: expected a whole number, 1 or more, found x",
        "training: expected a script or a command, found neither",
    ]


def test_a_source_names_the_object_in_its_mistakes() -> None:
    with pytest.raises(SpecError) as refused:
        check({"project": {"name": "a"}}, now=NOW, source="job 12")

    assert refused.value.details == (
        ErrorDetail(path="training", message="expected a script or a command, found neither", file="job 12"),
    )


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_what_is_no_object_is_refused(value: Any) -> None:
    assert len(mistakes(value)) == 1


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ({"schedul": {}}, "schedul: unknown key; did you mean schedule?"),
        ({"gpu": 1}, "gpu: unknown key; did you mean resources.gpu?"),
        ({"resources": {"mem": 1}}, "resources.mem: unknown key; did you mean memory?"),
        (
            {"resources": {"time_limit": 1}},
            "resources.time_limit: unknown key; did you mean schedule.time_limit?",
        ),
        ({"checkpoints": {"zzz": 1}}, "checkpoints.zzz: unknown key; known here: dir, keep"),
    ],
)
def test_an_unknown_key_comes_with_the_one_that_was_meant(unknown: dict[str, Any], meant: str) -> None:
    assert mistake(**unknown) == meant


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({}, "training: expected a script or a command, found neither"),
        ({"script": "a", "command": "b"}, "training.command: expected a script or a command, found both"),
        ({"command": "b", "args": ["c"]}, "training.args: args go to a script; a command has its own"),
        ({"command": []}, "training.command: expected a program to run, found nothing"),
        ({"command": " "}, 'training.command: expected a command, as a text or a list, found " "'),
        ({"command": [["a"]]}, "training.command[0]: expected a text or a number, found a list"),
        ({"script": ""}, 'training.script: expected a text, found ""'),
        ({"script": 5}, "training.script: expected a text, found 5"),
        ({"script": "a", "args": "b"}, "training.args: expected a list of arguments, found b"),
        (["a"], "training: expected a map, found a list"),
    ],
)
def test_training_is_one_script_or_one_command(training: Any, told: str) -> None:
    assert mistake(training=training) == told


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../b", "~/x", "", " "], ids=lambda path: path.strip() or "empty"
)
def test_paths_stay_inside_the_project(path: str) -> None:
    for section, key in [("project", "include"), ("project", "exclude"), ("project", "link")]:
        assert "expected a path inside the project" in mistake(**{section: {"name": "a", key: [path]}})
    for section, key in [("checkpoints", "dir"), ("training", "requirements")]:
        extra = {"script": "a"} if section == "training" else {}
        assert "expected a path inside the project" in mistake(**{section: {key: path, **extra}})


def test_the_projects_root_is_no_place_to_link_or_for_checkpoints() -> None:
    assert "below the project's root" in mistake(checkpoints={"dir": "./"})
    assert "below the project's root" in mistake(project={"name": "a", "link": ["."]})


@pytest.mark.parametrize("name", ["a", "A" * 63, "cifar100-resnet50", "a._-9"])
def test_good_names(name: str) -> None:
    assert spec(project={"name": name}).project.name == name


@pytest.mark.parametrize("name", ["", "9a", "-a", "a b", "A" * 64, "ä", "a\n", 7, None, ["a"]])
def test_bad_names(name: Any) -> None:
    assert mistake(project={"name": name}).startswith("project.name: ")


@pytest.mark.parametrize(("written", "gpu"), [(0, 0), (4, 4), ("4", 4), ("2-8", "2-8"), ("3-3", 3)])
def test_gpus_are_a_number_or_a_range(written: Any, gpu: int | str) -> None:
    assert spec(resources={"gpu": written}).resources.gpu == gpu


@pytest.mark.parametrize(
    "written",
    [-1, "8-2", "0-4", "2-", "-", "1.5", 1.5, "04", "٣", True, 10**30, pytest.param(10**5000, id="huge")],
)
def test_other_gpus_are_refused(written: Any) -> None:
    assert mistake(resources={"gpu": written}).startswith("resources.gpu: expected a number of GPUs")


def test_the_nul_lone_surrogates_and_what_no_program_can_be_given_are_refused() -> None:
    assert mistake(env={"A": "a\0"}).endswith("found a NUL character in it")
    assert mistake(env={"A": "\udcff"}).endswith("found bytes in it that are not UTF-8")
    assert mistake(project={"name": "a", "\udcff": 1}).startswith("project.\\udcff: unknown key")
    assert "no program can be given that" in mistake(env={"A": "x" * 131072})
    assert "no program can be given that" in mistake(training={"script": "a", "args": ["ä" * 65536]})
    assert len(spec(env={"A": "x" * (131071 - 2)}).environment.env["A"]) == 131069
    assert mistake(project={"name": "a", "description": "\x9b31m"}).endswith("found control characters in it")


def test_every_variable_that_trainforge_sets_is_reserved() -> None:
    for name in sorted(RESERVED):
        assert mistake(env={name: "1"}).startswith(f"environment.env.{name}: TrainForge sets this variable")
    assert spec(env={"PYTHONPATH": "src"}).environment.env == {"PYTHONPATH": "src"}


@pytest.mark.parametrize("python", ["current", "isolated", "/usr/bin/python3"])
def test_pythons(python: str) -> None:
    assert spec(environment={"python": python}).environment.python == python


@pytest.mark.parametrize("python", ["3.11", "python3", "~/venv/bin/python", "/", "", 3])
def test_other_pythons_are_refused(python: Any) -> None:
    assert "expected current, isolated or an absolute path" in mistake(environment={"python": python})


def test_hang_timeout_is_a_word_or_a_duration() -> None:
    assert spec().recovery.hang_timeout == "auto"
    assert spec(recovery={"hang_timeout": "auto"}).recovery.hang_timeout == "auto"
    assert spec(recovery={"hang_timeout": "off"}).recovery.hang_timeout == "off"
    assert spec(recovery={"hang_timeout": "30m"}).recovery.hang_timeout == 1800


def test_a_thousand_mistakes_are_counted_not_listed() -> None:
    told = mistakes(described(resources={f"key{number}": 1 for number in range(1000)}))

    assert len(told) == 501
    assert told[-1] == "… and 500 more mistakes"
