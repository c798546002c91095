"""When two requirements files ask for the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.shell.execution.installing import tiny_package
from trainforged.execution.environments.requirements import fingerprint


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def project(folder: Path) -> Path:
    """One whose requirements name every kind of thing."""
    tiny_package(folder / "local")
    tiny_package(folder / "named")
    tiny_package(folder / "in place")
    write(folder / "parts/more.txt", "numpy\n-r even-more.txt\n")
    write(folder / "parts/even-more.txt", "scipy\n-r more.txt\n")
    write(folder / "limits.txt", "numpy<3\n")
    write(folder / "x-1-py3-none-any.whl", "wheel")
    text = (
        "torch>=2  # the usual\n-r parts/more.txt\n--constraint=limits.txt\n-r absent.txt\n"
        f"./local[fast] ; python_version > '3'\nnamed @ file://{folder}/named\n"
        "x-1-py3-none-any.whl\nhttps://example.org/y.whl\n"
    )
    return write(folder / "requirements.txt", text)


CHANGES: dict[str, Callable[[Path], object]] = {
    "the text": lambda root: write(root / "requirements.txt", "torch"),
    "an included file": lambda root: write(root / "parts/more.txt", "numpy<2\n-r even-more.txt\n"),
    "what that includes": lambda root: write(root / "parts/even-more.txt", "scipy<2\n"),
    "a constraint": lambda root: write(root / "limits.txt", "numpy<2\n"),
    "a local project": lambda root: write(root / "local/tf_tiny.py", "VALUE = 2\n"),
    "a new file in it": lambda root: write(root / "local/data.txt", ""),
    "one named by an address": lambda root: write(root / "named/tf_tiny.py", "VALUE = 2\n"),
    "a wheel": lambda root: write(root / "x-1-py3-none-any.whl", "other"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_it_changes_with_everything_that_is_installed(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    requirements = project(tmp_path)
    before = fingerprint(requirements)

    change(tmp_path)

    assert fingerprint(requirements) != before


def test_it_does_not_change_with_what_building_leaves_behind(tmp_path: Path) -> None:
    requirements = project(tmp_path)
    before = fingerprint(requirements)

    for path in ("build/lib/x.py", "tf_tiny.egg-info/PKG-INFO", "__pycache__/backend.pyc", "dist/x.whl"):
        write(tmp_path / "local" / path, "made")

    assert fingerprint(requirements) == before


def test_the_same_project_elsewhere_asks_for_the_same(tmp_path: Path) -> None:
    text = "-r more.txt\n./local\n"
    for name in ("a", "b"):
        tiny_package(tmp_path / name / "local")
        write(tmp_path / name / "more.txt", "numpy\n")
        write(tmp_path / name / "requirements.txt", text)

    assert fingerprint(tmp_path / "a/requirements.txt") == fingerprint(tmp_path / "b/requirements.txt")


def test_a_project_installed_in_place_belongs_to_its_folder_and_its_code_does_not_count(
    tmp_path: Path,
) -> None:
    first, second = (write(tmp_path / name / "requirements.txt", "-e ./local\n") for name in ("a", "b"))
    for name in ("a", "b"):
        tiny_package(tmp_path / name / "local")
    before = fingerprint(first)
    assert before != fingerprint(second)

    write(tmp_path / "a/local/tf_tiny.py", "VALUE = 2\n")
    assert fingerprint(first) == before

    write(tmp_path / "a/local/setup.cfg", "[options]\ninstall_requires = numpy\n")
    assert fingerprint(first) != before


def test_the_project_itself_may_be_required_and_a_folder_that_is_none_is_not_read(tmp_path: Path) -> None:
    requirements = write(tiny_package(tmp_path) / "requirements.txt", ".\n/proc\n")
    before = fingerprint(requirements)

    write(tmp_path / "tf_tiny.py", "VALUE = 2\n")

    assert fingerprint(requirements) != before


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_bytes(b"\xff\xfe torch\n-r \xff.txt\n")

    assert len(fingerprint(requirements)) == 64
