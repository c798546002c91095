"""Job files are read as written, and laid over one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.jobfiles import LEAST, Write, env, mistakes, read


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "trainforge.yaml") -> str:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


CONFIG = """\
project:
  name: cifar100-resnet50
  description: ResNet-50 on CIFAR-100

training:
  script: train.py
  requirements: requirements.txt

resources:
  gpu: {gpu}
  cpu: {cpu}
  memory: {memory}

environment:
  base_image: pytorch/pytorch:2.0.1-cuda11.7-cudnn8-runtime
  env:
    BATCH_SIZE: {batch}
    EPOCHS: 200
    LEARNING_RATE: 0.1
    DISTRIBUTED: {distributed}
    SYNC_BN: true
    MIXED_PRECISION: true
    GRADIENT_CLIPPING: 1.0
    CHECKPOINT_INTERVAL: 10
"""


@pytest.mark.parametrize(
    ("gpu", "cpu", "memory", "size"), [(1, 4, "8Gi", 8), (4, 16, "32Gi", 32), (8, 32, "64Gi", 64)]
)
def test_the_three_configurations_and_fragments_over_them_run_as_they_stand(
    write: Write, gpu: int, cpu: int, memory: str, size: int
) -> None:
    distributed = str(gpu > 1).lower()
    config = write(CONFIG.format(gpu=gpu, cpu=cpu, memory=memory, batch=64 * gpu, distributed=distributed))
    fragment = write("env:\n  EPOCHS: 300\n  LEARNING_RATE: 0.05\n", "production.yaml")

    alone, laid = read(config), read(config, fragment)

    assert (alone.resources.gpu, alone.resources.cpu, alone.resources.memory) == (gpu, cpu, size << 30)
    assert alone.environment.base_image == "pytorch/pytorch:2.0.1-cuda11.7-cudnn8-runtime"
    assert alone.environment.env == {
        "BATCH_SIZE": str(64 * gpu),
        "EPOCHS": "200",
        "LEARNING_RATE": "0.1",
        "DISTRIBUTED": distributed,
        "SYNC_BN": "true",
        "MIXED_PRECISION": "true",
        "GRADIENT_CLIPPING": "1.0",
        "CHECKPOINT_INTERVAL": "10",
    }
    assert laid.environment.env == {**alone.environment.env, "EPOCHS": "300", "LEARNING_RATE": "0.05"}
    assert laid.resources == alone.resources


def test_the_file_in_the_contract_is_read(write: Write) -> None:
    spec = read(
        write("""\
project:
  name: cifar100-resnet50          # required
  include: []
  exclude: ["*.log"]
  link: [data]
training:
  command: ["bash", "-c", "make all"]
resources:
  gpu: 2-8
environment:
  python: /usr/bin/python3
schedule:
  priority: 0
  time_limit: 12:30:00
  after: [41, 42]
  begin: 22:00
recovery:
  backoff: 10s
  hang_timeout: off
  grace: 60s
checkpoints:
  dir: checkpoints
  keep: 3
""")
    )

    assert spec.resources.gpu == "2-8"
    assert spec.schedule.time_limit == 45000
    assert spec.schedule.after == (41, 42)
    assert spec.schedule.begin is not None
    assert spec.schedule.begin.astimezone().strftime("%H:%M") == "22:00"
    assert spec.training.command == ("bash", "-c", "make all")
    assert spec.recovery.max_retries == 0


def test_the_text_of_a_value_is_what_the_job_sees(write: Write) -> None:
    written = env(
        write,
        """\
TIME: 22:00
OCTAL: 010
DECIMAL: 0.10
BIG: 1_000
HEX: 0x10
EXP: 1e5
ON: on
YES: yes
NO: No
NULL_: null
TILDE: ~
EMPTY:
DATE: 2026-01-01
TRUE: true
True: True
FALSE: FALSE
QUOTED: "True"
SPACES: ' a '
LINES: "a\\nb"
HASH: a#b # comment
""",
    )

    assert written == {
        "TIME": "22:00",
        "OCTAL": "010",
        "DECIMAL": "0.10",
        "BIG": "1_000",
        "HEX": "0x10",
        "EXP": "1e5",
        "ON": "on",
        "YES": "yes",
        "NO": "No",
        "NULL_": "null",
        "TILDE": "~",
        "EMPTY": "",
        "DATE": "2026-01-01",
        "TRUE": "true",
        "True": "true",
        "FALSE": "false",
        "QUOTED": "True",
        "SPACES": " a ",
        "LINES": "a\nb",
        "HASH": "a#b",
    }


def test_keys_and_names_that_yaml_would_take_for_booleans_are_text(write: Write) -> None:
    spec = read(write("project: {name: on, description: 5}\ntraining: {script: yes, args: [no, 010, '']}\n"))

    assert (spec.project.name, spec.project.description, spec.training.script) == ("on", "5", "yes")
    assert spec.training.args == ("no", "010", "")


def test_later_files_lie_over_earlier_ones(write: Write) -> None:
    base = write(
        f"{LEAST}resources: {{gpu: 4, cpu: 8}}\nschedule: {{after: [1, 2], time_limit: 1h}}\n"
        "environment: {env: {A: 1, B: 2}}\n"
    )
    over = write(
        "resources: {gpu: 1}\nschedule: {after: [3], time_limit: }\nenv: {B: 3}\nenvironment:\n", "over.yaml"
    )

    spec = read(base, over)

    assert (spec.resources.gpu, spec.resources.cpu) == (1, 8)
    assert (spec.schedule.after, spec.schedule.time_limit) == ((3,), None)
    assert spec.environment.env == {"A": "1", "B": "3"}


def test_a_section_with_every_line_commented_out_takes_nothing_away(write: Write) -> None:
    base = write(f"{LEAST}env: {{A: 1}}\n")

    assert read(base, write("env:\n  # A: 2\n", "over.yaml")).environment.env == {"A": "1"}


def test_anchors_and_merge_keys_mean_what_they_mean_in_yaml(write: Write) -> None:
    spec = read(
        write(
            "project: {name: a, include: &list [x, y], exclude: *list}\n"
            "training: {script: t.py}\n"
            "env:\n  <<: [{A: 1, B: 1}, {B: 2, C: 2}]\n  A: 0\n"
        )
    )

    assert spec.project.include == spec.project.exclude == ("x", "y")
    assert spec.environment.env == {"A": "0", "B": "1", "C": "2"}


def test_mistakes_of_all_files_and_flags_come_at_once_with_their_lines(write: Write) -> None:
    base = write(
        "project:\n  name: a\n  name: b\ntraining:\n  script: t.py\nresources:\n  gpu: 1\n\n  gpus: 4\n"
    )
    over = write("resources:\n  cpu:\n    - 1\nenv:\n  A: !!python/name:os.system x\n", "over.yaml")

    assert mistakes(base, over, sets=["schedule.prio=1"], envs=["RANK=0"]) == [
        "trainforge.yaml:3: project.name: given twice; first on line 2",
        "trainforge.yaml:9: resources.gpus: unknown key; did you mean gpu?",
        "over.yaml:3: resources.cpu: expected a whole number from 1 to 1000000, found a list",
        "over.yaml:5: env.A: the tag !!python/name:os.system is not supported",
        "--set: schedule.prio: unknown key; did you mean priority?",
        "--env: environment.env.RANK: TrainForge sets this variable itself; choose another name",
    ]


def test_what_is_missing_is_told_where_it_should_stand(write: Write) -> None:
    assert mistakes(write("resources: {gpu: 1}\nproject:\n  description: x\n")) == [
        "trainforge.yaml:2: project.name: required, and not given",
        "trainforge.yaml: training: expected a script or a command, found neither",
    ]


def test_both_spellings_of_env_may_not_hold_the_same_name(write: Write) -> None:
    assert mistakes(write(f"{LEAST}env: {{A: 1}}\nenvironment: {{env: {{A: 2, B: 3}}}}\n")) == [
        "trainforge.yaml:3: environment.env.A: given twice; first on line 4"
    ]
    assert mistakes(write(f"{LEAST}env: {{1: 2}}\nenvironment: []\n")) == [
        "trainforge.yaml:3: env.1: expected a name of letters, digits and _ that does not begin with a digit,"
        " found 1",
        "trainforge.yaml:4: environment: expected a map, found a list",
    ]
