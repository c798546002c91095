"""What keeps a daemon from starting is said in a line: the option, the setting or the place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainforged.__main__ import main


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What is said last of options that a daemon does not start with."""
    try:
        code: object = main(list(options))
    except SystemExit as error:
        code = error.code
    assert code in (1, 2)
    return capsys.readouterr().err.splitlines()[-1].removeprefix("trainforged: ").removeprefix("error: ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--simulate-gpus", "-1"), "argument --simulate-gpus: expected a number from 0 to 1024, found '-1'"),
        (
            ("--simulate-gpus", "1", "--simulate-cpu", "0"),
            "argument --simulate-cpu: expected a number of cores, 1 or more, found '0'",
        ),
        (("--simulate-cpu", "2"), "--simulate-cpu and --simulate-memory need --simulate-gpus"),
        (("--config", "/nowhere"), "/nowhere: cannot be read: No such file or directory"),
    ],
)
def test_an_option_that_cannot_be(
    options: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("--socket", str(tmp_path / "s"), "--state-dir", str(tmp_path / "state"), "--web", "off")
    assert refused(capsys, *own, *options) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "log: {level: loud}",
            "log.level: expected one of debug, info, warning, error; Invalid enum value 'loud'",
        ),
        ("web: {listen: 5}", "web.listen: Expected `bool | str`, got `int`"),
        ("prometheus: {listen: '1.2.3.4:99999'}", "expected HOST:PORT or off, found '1.2.3.4:99999'"),
    ],
)
def test_a_setting_that_cannot_be(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trainforged.yaml"
    file.write_text(text)
    found = refused(capsys, "--config", str(file), "--state-dir", str(tmp_path / "state"))
    assert found.startswith(f"{file}: ")
    assert found.endswith(said)


def test_a_place_where_nothing_can_be_made(tmp_path: Path) -> None:
    words = ("--state-dir", "/proc/nowhere", "--socket", str(tmp_path / "s"), "--web", "off")
    done = subprocess.run(
        [sys.executable, "-m", "trainforged", *words], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (1, "trainforged: /proc/nowhere: No such file or directory\n")
