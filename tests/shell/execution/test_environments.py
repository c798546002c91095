"""Isolated environments: built once, shared, never half-built."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.shell.execution.installing import tiny_package, with_stand_in, without_uv
from trainforged.execution.environments.isolated import Environments
from trainforged.execution.errors import EnvironmentFailed

PYTHON = Path(sys.executable)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "environments"


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    return with_stand_in(tmp_path / "bin")


class Build:
    """One call of `ensure`, with what it says."""

    def __init__(
        self, root: Path, requirements: str | Path, shell: dict[str, str], python: Path = PYTHON
    ) -> None:
        self.environments = Environments(root)
        self.said: list[str] = []
        if isinstance(requirements, str):
            file = root.parent / "requirements.txt"
            file.write_text(requirements)
            requirements = file
        self.call = self.environments.ensure(python, requirements, self.said.append, shell)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def value(python: Path) -> str:
    code = "import sys, tf_tiny; print(tf_tiny.VALUE, sys.prefix)"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def folders(root: Path) -> list[str]:
    return [name for name in os.listdir(root) if not name.endswith(".lock")]


# ------------------------------------------------------------------------------ real installers


@pytest.mark.parametrize("installer", ["pip", "uv"])
async def test_what_is_required_can_be_imported_and_nothing_is_installed_twice(
    tmp_path: Path, root: Path, installer: str
) -> None:
    if installer == "uv" and shutil.which("uv") is None:
        pytest.skip("needs uv")
    shell = without_uv() if installer == "pip" else dict(os.environ)
    tiny_package(tmp_path / "project/tiny", value=7)
    requirements = tmp_path / "project/requirements.txt"
    requirements.write_text("--no-index\n./tiny\n")

    first = Build(root, requirements, shell)
    python = await first.call
    again = Build(root, requirements, shell)
    assert await again.call == python

    assert value(python) == f"7 {python.parent.parent}"
    assert python.parent.parent.parent == root
    assert any("tf-tiny" in line.replace("_", "-") for line in first.said)
    assert again.said == []


# ------------------------------------------------------------------------------ what is said


async def test_every_line_of_the_installer_is_said_as_it_comes(root: Path, shell: dict[str, str]) -> None:
    build = Build(root, "#!printf 'one\\n\\ntwo\\rthree\\n  four'; echo five >&2\n", shell)

    python = await build.call

    assert build.said == [
        f"$ {shell['PATH'].split(':')[0]}/uv venv --python {PYTHON} {python.parent.parent}",
        f"$ {shell['PATH'].split(':')[0]}/uv pip install --python {python} -r {root.parent}/requirements.txt",
        f"installing requirements.txt in {root.parent}",
        "one",
        "two",
        "three",
        "  fourfive",
    ]


async def test_a_failure_ends_with_the_installers_last_words_and_leaves_nothing(
    root: Path, shell: dict[str, str]
) -> None:
    build = Build(root, "#!seq 100; echo no such package >&2; exit 3\n", shell)

    with pytest.raises(EnvironmentFailed) as failed:
        await build.call

    first, *last = str(failed.value).splitlines()
    assert first.endswith(f"-r {root.parent}/requirements.txt` failed (status 3):")
    assert last == [*(str(number) for number in range(87, 101)), "no such package"]
    assert folders(root) == []
    with pytest.raises(EnvironmentFailed):
        await Build(root, "#!seq 100; echo no such package >&2; exit 3\n", shell).call


async def test_what_is_not_there_is_named(root: Path, shell: dict[str, str]) -> None:
    with pytest.raises(EnvironmentFailed, match=r"requirements/none\.txt: No such file or directory"):
        await Build(root, Path("/requirements/none.txt"), shell).call
    with pytest.raises(EnvironmentFailed, match="/no/python cannot be run: No such file or directory"):
        await Build(root, "", shell, Path("/no/python")).call


async def test_the_shells_variables_reach_the_installer_but_for_those_that_mislead_it(
    root: Path, shell: dict[str, str]
) -> None:
    shell |= {
        "PIP_INDEX_URL": "https://example.org",
        "VIRTUAL_ENV": "/other",
        "PYTHONPATH": "/x",
        "PIP_TARGET": "/y",
    }
    build = Build(
        root, "#!echo ${PIP_INDEX_URL} ${VIRTUAL_ENV-none} ${PYTHONPATH-none} ${PIP_TARGET-none}\n", shell
    )

    await build.call

    assert build.said[-1] == "https://example.org none none none"


# ------------------------------------------------------------------------------ several builders


async def test_of_several_builders_one_builds_and_the_others_wait(root: Path, shell: dict[str, str]) -> None:
    builds = [Build(root, f"#!echo >> {root.parent}/built; sleep 0.3\n", shell) for _ in range(4)]

    pythons = await asyncio.gather(*(build.call for build in builds))

    assert len(set(pythons)) == 1
    assert (root.parent / "built").read_text() == "\n"
    waited = [
        build.said
        for build in builds
        if build.said == ["waiting for another builder of the same environment"]
    ]
    assert len(waited) == 3


async def test_when_the_builder_fails_one_that_waits_tries_again(root: Path, shell: dict[str, str]) -> None:
    script = f"#!echo >> {root.parent}/tried; test $(wc -l < {root.parent}/tried) = 2\n"
    builds = [Build(root, script, shell) for _ in range(2)]

    outcomes = await asyncio.gather(*(build.call for build in builds), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["EnvironmentFailed", "PosixPath"]


HANGS = "#!trap '' TERM INT; sh -c 'echo $$ > pids; echo $PPID >> pids; echo begun; exec sleep 600' & wait\n"


def processes(folder: Path) -> list[int]:
    with open(folder / "pids") as file:
        return [int(line) for line in file]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_cancelled_build_leaves_no_process_and_no_environment(
    root: Path, shell: dict[str, str]
) -> None:
    build = Build(root, HANGS, shell)
    task = asyncio.create_task(build.call)
    await until(lambda: "begun" in build.said)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    pids = processes(root.parent)
    assert len(pids) == 2
    await until(lambda: not any(map(alive, pids)))
    assert folders(root) == []


async def test_one_that_waits_can_be_cancelled_and_harms_nobody(root: Path, shell: dict[str, str]) -> None:
    text = f"#!while [ ! -e {root.parent}/go ]; do sleep 0.05; done\n"
    builder, waiter = Build(root, text, shell), Build(root, text, shell)
    building = asyncio.create_task(builder.call)
    await until(lambda: len(builder.said) == 3)
    waiting = asyncio.create_task(waiter.call)
    await until(lambda: waiter.said)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (root.parent / "go").touch()

    assert (await building).exists()


BUILDER = """
import asyncio, sys
from pathlib import Path
from trainforged.execution.environments.isolated import Environments
say = lambda line: print(line, flush=True)
asyncio.run(Environments(Path(sys.argv[1])).ensure(Path(sys.executable), Path(sys.argv[2]), say))
"""


async def test_after_a_killed_daemon_its_installer_is_waited_for_and_all_is_done_anew(
    root: Path, shell: dict[str, str]
) -> None:
    go, requirements = root.parent / "go", root.parent / "requirements.txt"
    requirements.write_text(
        f"#!touch $ENVIRONMENT/by-$$; echo > begun; while [ ! -e {go} ]; do sleep 0.05; done\n"
    )
    command = [sys.executable, "-c", BUILDER, str(root), str(requirements)]
    daemon = await asyncio.create_subprocess_exec(*command, env=shell, stdout=subprocess.DEVNULL)
    await until((root.parent / "begun").exists)
    daemon.kill()
    await daemon.wait()
    build = Build(root, requirements, shell)
    task = asyncio.create_task(build.call)
    await until(lambda: build.said == ["waiting for another builder of the same environment"])

    go.touch()
    python = await task

    assert len(list(python.parent.parent.glob("by-*"))) == 1
    assert (python.parent.parent / ".complete").exists()


# ------------------------------------------------------------------------------ collecting


async def test_environments_that_are_long_unused_are_removed_and_built_again_when_asked_for(
    root: Path, shell: dict[str, str]
) -> None:
    pythons = {name: await Build(root, f"# {name}\n", shell).call for name in ("unused", "running", "recent")}
    for name in ("unused", "running"):
        os.utime(pythons[name].parent.parent / ".complete", (1, 1))
    (root / "abandoned").mkdir()

    removed = Environments(root).collect({pythons["running"]}, unused_for=3600)

    assert set(removed) == {pythons["unused"], root / "abandoned/bin/python"}
    assert sorted(folders(root)) == sorted(pythons[name].parent.parent.name for name in ("running", "recent"))
    assert await Build(root, "# unused\n", shell).call == pythons["unused"]
    assert pythons["unused"].exists()


async def test_being_asked_for_keeps_an_environment(root: Path, shell: dict[str, str]) -> None:
    python = await Build(root, "", shell).call
    os.utime(python.parent.parent / ".complete", (1, 1))
    await Build(root, "", shell).call

    assert Environments(root).collect((), unused_for=3600) == ()


async def test_one_that_is_being_built_is_not_removed(root: Path, shell: dict[str, str]) -> None:
    build = Build(root, f"#!while [ ! -e {root.parent}/go ]; do sleep 0.05; done\n", shell)
    building = asyncio.create_task(build.call)
    await until(lambda: len(build.said) == 3)

    assert build.environments.collect((), unused_for=0) == ()

    (root.parent / "go").touch()
    assert (await building).exists()
