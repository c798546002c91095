"""What is typed and what is meant by it, where no daemon is needed to find out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.daemon import Daemon
from tfctl.__main__ import main
from tfctl.commands.init import TEMPLATES
from tfctl.failures import described
from trainforge.api import SubmitRequest
from trainforge.client.client import Client, NoDaemon

JOB_FILE = """\
project:
  name: shapes
training:
  script: train.py
  args: [--deep]
resources:
  gpu: 2
"""
SEE_LOGS = "; tfctl logs --help says what there is"
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
    [("kill", "cancel"), ("delete", "rm"), ("run", "submit"), ("squeue", "status"), ("canel", "cancel"),
     ("stop", "cancel, or daemon stop"), ("tail", "logs -f"), ("queue", "status, or submit")],
)  # fmt: skip
def test_what_other_tools_call_it(tfctl: Tfctl, word: str, meant: str) -> None:
    assert tfctl.refused(word) == f"tfctl: there is no command {word!r}; did you mean {meant}?"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("logs 1 --tail -5", f"argument --tail: expected a whole number, 0 or more, found '-5'{SEE_LOGS}"),
        ("logs 1 --tail 1.5", f"argument --tail: expected a whole number, 0 or more, found '1.5'{SEE_LOGS}"),
        ("logs 1 --rank -1", f"argument --rank: expected a whole number, 0 or more, found '-1'{SEE_LOGS}"),
        ("logs 1 --lines 5", "unknown: --lines 5; did you mean --tail?"),
        ("submit --prioritiy 5", "unknown: --prioritiy; did you mean --priority?"),
        ("submit --dependency=3", "unknown: --dependency=3; did you mean --after, --afterany, --afternotok?"),
        ("submit --gres gpu:2 -- make", "unknown: --gres; did you mean --gpu?"),
        ("why", "the following arguments are required: JOB; tfctl why --help says what there is"),
        ("completion zhs", "argument shell: expected bash, zsh, fish, found 'zhs'; did you mean zsh?"),
        ("gpus --xyzzy", "unknown: --xyzzy; tfctl gpus --help says what there is"),
    ],
)  # fmt: skip
def test_wrong_options_are_told_in_a_line_with_what_was_meant(tfctl: Tfctl, typed: str, said: str) -> None:
    assert tfctl.refused(*typed.split()) == f"tfctl {typed.split()[0]}: {said}"


def test_that_no_daemon_runs_is_said_shortly_and_what_is_odd_at_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRAINFORGE_SOCKET")
    absent = {Path("/a"): "No such file or directory", Path("/b"): "No such file or directory"}
    assert described(NoDaemon(absent)) == [
        "no daemon runs; tfctl submit starts one, and so does tfctl daemon start"
    ]
    first, second = described(NoDaemon(absent | {Path("/b"): "Connection refused"}))
    assert "/b: Connection refused" in first
    assert second == "to start one: tfctl daemon start"


def test_help_of_a_command_is_asked_for_in_either_way(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help", "why"], ["why", "--help"]):
        with pytest.raises(SystemExit):
            main(words)
    first, second = capsys.readouterr().out.split("usage: ")[1:]
    assert first == second
    assert main(["help"]) == 0
    assert main(["version"]) == 0


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


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("template", TEMPLATES)
def test_init_writes_what_this_machine_can_run(
    tfctl: Tfctl, project: Path, monkeypatch: pytest.MonkeyPatch, template: str, gpu: bool
) -> None:
    monkeypatch.setattr("tfctl.commands.init.driver_present", lambda: gpu)
    said = tfctl.said("init", "new", "--template", template)
    assert len(said) <= 3
    files = [path.name for path in (project / "new").iterdir()]
    assert not [name for name in files if "cpu" in name]
    here = ("new", "--set", "training.requirements=")  # whatever is installed where the test runs
    assert tfctl.dry(*here) == f"would submit new: train.py, gpu {1 if gpu else 0}"
    if template == "image-classification":
        text = (project / "new" / "trainforge.yaml").read_text()
        assert ("MODEL: resnet50\n" in text) == gpu
        assert ("\nscikit-learn" in (project / "new" / "requirements.txt").read_text()) == (not gpu)


def test_init_says_why_the_job_is_a_small_one(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfctl.commands.init.driver_present", lambda: False)
    assert main(["init", "new"]) == 0
    assert capsys.readouterr().err.startswith("note: no GPU was found here, so the job is a small one")
    assert main(["init", "new"]) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("trainforge.yaml/new", "trainforge.yaml/new: Not a directory"),
        ("/proc/new", "/proc/new: No such file or directory"),
    ],
)
def test_what_the_system_refuses_is_said_in_a_line(
    folder: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", folder, "--template", "blank"]) == 1
    assert capsys.readouterr().err == f"tfctl: {said}\n"


def test_init_writes_all_of_it_also_where_nobody_reads_what_it_says(project: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-u", "-m", "tfctl", "init", "new", "--template", "blank"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, cwd=project, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in (project / "new").iterdir()} == {"train.py", "trainforge.yaml"}
    assert "name: new" in (project / "new" / "trainforge.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("cancel", "--now", ""), "JOB"), (("rm", ""), "JOB"), (("hold", " \t"), "JOB"),
        (("status", ""), "JOB"),
        (("submit", "--after", "", "--", "true"), "JOB"), (("logs", "\n"), "JOB"), (("drain", ""), "GPU"),
        (("submit", "--resume-from", "", "--", "true"), "JOB"),
    ],
)  # fmt: skip
def test_an_empty_word_is_not_all_of_them(
    tfctl: Tfctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], what: str
) -> None:
    with Daemon(tmp_path / "d.sock") as daemon, Client(daemon.path) as client:
        client.submit(SubmitRequest(spec={"project": {"name": "one"}}, request_id="a", workdir="/w"))
        monkeypatch.setenv("TRAINFORGE_SOCKET", str(daemon.path))
        assert tfctl.refused(*words).startswith(f"tfctl: {what}: expected one, found ")
        assert [event.type for event in daemon.service.history] == ["job_submitted"]


def test_a_range_says_what_is_wrong_with_it(
    tfctl: Tfctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Daemon(tmp_path / "d.sock") as daemon:
        monkeypatch.setenv("TRAINFORGE_SOCKET", str(daemon.path))
        assert tfctl.refused("cancel", "1-99999999999").endswith(
            "spans at most 100,000 numbers, this one 99,999,999,999"
        )
        assert tfctl.refused("cancel", "1-" + "9" * 30).endswith("numbers of jobs are not that large")
        assert tfctl.refused("cancel", "9-1").endswith("a range goes from a lower to a higher number")


def test_a_current_folder_that_is_gone_is_told_of(tfctl: Tfctl, project: Path) -> None:
    gone = project / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    for words in (("submit", "--", "true"), ("submit",), ("init",)):
        assert tfctl.refused(*words).startswith("tfctl: the current folder cannot be used")


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tfctl: Tfctl, project: Path) -> None:
    os.mkfifo(project / "pipe")
    irregular = "cannot be read: it is not a regular file"
    assert tfctl.refused("submit", "-f", "pipe", "--", "make") == f"tfctl: pipe: {irregular}"
    assert tfctl.refused("submit", "-f", "/dev/zero", "--", "make").endswith(irregular)
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    os.mkfifo(project / ".gitignore")
    assert tfctl.refused("submit", "--dry-run") == "tfctl: .gitignore is not a regular file"
    (project / ".gitignore").unlink()
    (project / "trainforge.yaml").unlink()
    os.mkfifo(project / "trainforge.yaml")
    assert tfctl.refused("submit").endswith(irregular)


@pytest.mark.parametrize("streams", [">&-", ">/dev/full", "2>/dev/full", "<&- >&- 2>&-"])
def test_a_stream_that_cannot_be_written_to(tmp_path: Path, streams: str) -> None:
    """What is done counts, and is done once; a command that only shows something says that it could not."""
    with Daemon(tmp_path / "d.sock") as daemon:

        def run(words: str) -> tuple[int, str]:
            line = f'exec "$0" -m tfctl {words} {streams}'
            env = os.environ | {"TRAINFORGE_SOCKET": str(daemon.path)}
            done = subprocess.run(
                ["sh", "-c", line, sys.executable], env=env, stderr=subprocess.PIPE, timeout=60, check=False
            )
            return done.returncode, done.stderr.decode()

        full = streams == ">/dev/full"
        told = "tfctl: standard output: No space left on device\n" * full
        code, said = run("submit -- true")
        assert (code, said.endswith(told), "Traceback" in said) == (0, True, False)
        assert len(daemon.service.all) == 1
        assert run("cancel 1") == (0, told)
        assert run("status") == run("submit --help") == run("gpus --json") == (int(full), told)


def test_the_largest_grid_is_taken(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every job's files, shell and settings on their own would be hundreds of MiB."""
    for number in range(20):
        (project / f"module_{number}.py").write_text(f"{number}\n")
    values = ",".join(map(str, range(100)))
    with Daemon(tmp_path / "d.sock") as daemon:
        monkeypatch.setenv("TRAINFORGE_SOCKET", str(daemon.path))
        monkeypatch.setenv("A_LONG_ONE", "x" * 10_000)
        words = ["submit", "--set", "resources.gpu=1", "--sweep", f"A={values}", "--sweep", f"B={values}"]
        assert main(words) == 0
        assert len(daemon.service.all) == 10_000
    assert capsys.readouterr().out.splitlines()[-1] == "submitted job 10000 (shapes): A=99 B=99"


def test_an_interrupt_while_it_starts_shows_no_traceback() -> None:
    code = "import tfctl; raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
