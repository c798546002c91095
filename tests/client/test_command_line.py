"""What is typed and what is meant by it, where no daemon is needed to find out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfctl.__main__ import main

JOB_FILE = """\
project:
  name: shapes
training:
  script: train.py
  args: [--deep]
resources:
  gpu: 2
"""
WHOLE = "project: {name: other}\ntraining: {command: [make]}\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is a project, and no daemon is to be found."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    (folder / "trainforge.yaml").write_text(JOB_FILE)
    (folder / "train.py").write_text("print('trains')\n")
    (folder / "part.yaml").write_text("resources: {gpu: 1}\n")
    (folder / "whole.yaml").write_text(WHOLE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRAINFORGE_SOCKET", str(tmp_path / "none"))
    return folder


@pytest.fixture
def tfctl(capsys: pytest.CaptureFixture[str]) -> Tfctl:
    return Tfctl(capsys)


class Tfctl:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def dry(self, *words: str) -> str:
        """The first line of what would be submitted."""
        at = words.index("--") if "--" in words else len(words)
        assert main(["submit", *words[:at], "--dry-run", *words[at:]]) == 0
        return self._capsys.readouterr().out.splitlines()[0]

    def refused(self, *words: str) -> str:
        """What is said, in a line, of what exits with 2."""
        try:
            code: object = main(list(words))
        except SystemExit as error:
            code = error.code
        assert code == 2
        return self._capsys.readouterr().err.splitlines()[-1]

    def said(self, *words: str) -> list[str]:
        assert main(list(words)) == 0
        return self._capsys.readouterr().out.splitlines()


def test_a_fragment_lies_over_this_folders_job_file(tfctl: Tfctl) -> None:
    assert tfctl.dry() == "would submit shapes: train.py, gpu 2"
    assert tfctl.dry("-f", "part.yaml") == "would submit shapes: train.py, gpu 1"
    assert tfctl.dry("-f", "trainforge.yaml", "-f", "part.yaml") == "would submit shapes: train.py, gpu 1"


def test_a_whole_file_stands_for_itself(tfctl: Tfctl) -> None:
    assert tfctl.dry("-f", "whole.yaml") == "would submit other: make, gpu 1"
    assert tfctl.dry("-f", "part.yaml", "-f", "whole.yaml") == "would submit other: make, gpu 1"
    assert tfctl.dry(".", "-f", "part.yaml", "--name", "mine") == "would submit mine: train.py, gpu 1"


def test_a_fragment_alone_is_told_what_it_lacks(tfctl: Tfctl, project: Path) -> None:
    (project / "trainforge.yaml").unlink()
    assert tfctl.refused("submit", "-f", "part.yaml").endswith(
        "expected a script or a command, found neither"
    )


def test_a_command_for_a_project_runs_in_it_frozen(
    tfctl: Tfctl, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    assert main(["submit", "shapes", "--dry-run", "--", "make", "all"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"would submit shapes: make all, gpu 2\nfrozen from {project}: 4 files")
    assert "in place" not in said.err
    assert tfctl.dry("shapes/trainforge.yaml", "--", "make").startswith("would submit shapes: make")
    refused = tfctl.refused("submit", "shapes", "--", "--lr", "0.1")
    assert refused.endswith("""--set "training.args=['--lr', '0.1']\"""")
    (project / "trainforge.yaml").unlink()
    assert tfctl.refused("submit", "shapes", "--", "make").startswith(
        "tfctl: shapes/trainforge.yaml does not exist"
    )


def test_a_command_alone_takes_a_fragment_too(tfctl: Tfctl, capsys: pytest.CaptureFixture[str]) -> None:
    assert tfctl.dry("-f", "part.yaml", "--", "make") == "would submit make: make, gpu 1"
    assert main(["submit", "--dry-run", "--", "make"]) == 0
    assert "note: runs in place" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("python x.py", "a command goes behind --: tfctl submit -- python x.py"),
        ("--gpu 1 sh -c ls", "a command goes behind --: tfctl submit --gpu 1 -- sh -c ls"),
        ("sh", "a command goes behind --: tfctl submit -- sh"),
        (
            "train.py --lr 0.1 --gpu 1",
            "a script's arguments go behind --: tfctl submit train.py --gpu 1 -- --lr 0.1",
        ),
    ],
)
def test_a_forgotten_dash_dash(tfctl: Tfctl, typed: str, meant: str) -> None:
    assert tfctl.refused("submit", *typed.split()).endswith(f"; {meant}")


def test_each_job_of_a_grid_is_named_by_what_it_got(tfctl: Tfctl) -> None:
    words = ("submit", "--dry-run", "--sweep", "LR=0.1,0.2", "--sweep", "resources.gpu=1,2", "--", "make")
    assert tfctl.said(*words) == [
        f"would submit make: make, gpu {gpu}: LR={rate} resources.gpu={gpu}"
        for rate in ("0.1", "0.2")
        for gpu in (1, 2)
    ]


def test_an_interpreter_that_is_not_there_is_refused(tfctl: Tfctl, project: Path) -> None:
    (project / "part.yaml").write_text("environment:\n  python: /nope/python\n")
    missing = "environment.python: /nope/python is not an interpreter that can be run"
    assert tfctl.refused("submit", "-f", "part.yaml") == f"tfctl: part.yaml:2: {missing}"
    assert tfctl.refused("submit", "--set", "environment.python=/nope/python").endswith(missing)
    assert tfctl.refused("submit", "--set", "environment.python=/usr", "--", "make").endswith(
        "/usr is not an interpreter that can be run"
        + "; did you mean /usr/bin/python?" * Path("/usr/bin/python").exists()
    )


@pytest.mark.parametrize(
    ("word", "meant"),
    [("kill", "cancel"), ("delete", "rm"), ("run", "submit"), ("list", "status"), ("canel", "cancel"),
     ("stop", "cancel, or daemon stop"), ("tail", "logs -f"), ("queue", "status, or submit")],
)  # fmt: skip
def test_what_other_tools_call_it(tfctl: Tfctl, word: str, meant: str) -> None:
    assert tfctl.refused(word) == f"tfctl: there is no command {word!r}; did you mean {meant}?"


def test_init_says_what_it_wrote_and_what_it_kept(tfctl: Tfctl, project: Path) -> None:
    assert tfctl.said("init", "new", "--template", "blank") == [
        "wrote new/train.py",
        "wrote new/trainforge.yaml",
        "project new is ready; queue it with: tfctl submit new",
    ]
    (project / "new" / "train.py").unlink()
    assert tfctl.said("init", "new", "--template", "blank", "--name", "other") == [
        "wrote new/train.py",
        "kept new/trainforge.yaml, but for project.name",
        "project other is ready; queue it with: tfctl submit new",
    ]
    assert tfctl.said("init", "new", "--template", "blank")[1:] == [
        "kept new/trainforge.yaml",
        "the project is ready; queue it with: tfctl submit new",
    ]
