"""Which Python `current` is, and what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainforge.project.interpreter import current_python, missing_requirements


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def executable(path: Path, text: str = "#!/bin/sh\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


# ------------------------------------------------------------------------------ which one


def test_the_active_environment_comes_first_and_its_link_is_not_followed(tmp_path: Path) -> None:
    real = executable(tmp_path / "usr/bin/python3")
    for name in ("venv", "conda"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin/python").symlink_to(real)
    environ = {
        "VIRTUAL_ENV": f"{tmp_path}/venv",
        "CONDA_PREFIX": f"{tmp_path}/conda",
        "PATH": f"{tmp_path}/usr/bin",
    }

    assert current_python(environ, "/") == f"{tmp_path}/venv/bin/python"
    del environ["VIRTUAL_ENV"]
    assert current_python(environ, "/") == f"{tmp_path}/conda/bin/python"
    del environ["CONDA_PREFIX"]
    assert current_python(environ, "/") == real


def test_an_environment_that_was_deleted_is_passed_over(tmp_path: Path) -> None:
    real = executable(tmp_path / "usr/bin/python3")

    assert current_python({"VIRTUAL_ENV": f"{tmp_path}/gone", "PATH": f"{tmp_path}/usr/bin"}, "/") == real


def test_python3_anywhere_on_the_path_comes_before_python(tmp_path: Path) -> None:
    executable(tmp_path / "a/python")
    (tmp_path / "a/python3").mkdir()
    real = executable(tmp_path / "b/python3")
    environ = {"PATH": f"{tmp_path}/a:{tmp_path}/b"}

    assert current_python(environ, "/") == real
    os.chmod(real, 0o644)
    assert current_python(environ, "/") == f"{tmp_path}/a/python"


def test_a_relative_folder_on_the_path_is_relative_to_the_shells(tmp_path: Path) -> None:
    real = executable(tmp_path / "bin/python3")

    assert current_python({"PATH": "bin"}, str(tmp_path)) == real
    assert current_python({"PATH": "/nonexistent"}, str(tmp_path)) is None


def test_behind_pyenvs_shim_the_version_is_chosen_as_pyenv_does(tmp_path: Path) -> None:
    executable(tmp_path / "pyenv/shims/python3", "#!/bin/sh\nexit 1\n")
    versions = {
        name: executable(tmp_path / f"pyenv/versions/{name}/bin/python3")
        for name in ("3.11.7", "3.12.1", "ml")
    }
    (tmp_path / "pyenv/version").write_text("3.11.7\n")
    (tmp_path / "project/src").mkdir(parents=True)
    environ = {"PATH": f"{tmp_path}/pyenv/shims"}
    inside = str(tmp_path / "project/src")

    assert current_python(environ, inside) == versions["3.11.7"]
    (tmp_path / "project/.python-version").write_text("absent\n3.12.1\n")
    assert current_python(environ, inside) == versions["3.12.1"]
    assert current_python({**environ, "PYENV_VERSION": "ml"}, inside) == versions["ml"]
    assert current_python({**environ, "PYENV_VERSION": "system"}, inside) == f"{tmp_path}/pyenv/shims/python3"


# ------------------------------------------------------------------------------ what it lacks


def install(folder: Path, name: str, version: str) -> None:
    """As much of a distribution as its metadata."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture
def packages(tmp_path: Path) -> dict[str, str]:
    """A shell whose interpreter has `tf_present` 1.2.3 and `Tf.Mixed` 2.1.0+cu118."""
    install(tmp_path / "site", "tf_present", "1.2.3")
    install(tmp_path / "site", "Tf.Mixed", "2.1.0+cu118")
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site")}


def missing(text: str, environ: dict[str, str]) -> tuple[str, ...]:
    return missing_requirements(sys.executable, text, environ)


def test_what_is_not_there_or_too_old_is_named(packages: dict[str, str]) -> None:
    text = """
    # what we need
    tf-present
    TF_Present[extra] >= 1.2, < 2   # fine
    tf_present>=9
    tf-mixed==2.1.0
    tf.mixed <2.1
    tf-absent
    tf-absent ~= 1.0 --hash=sha256:00
    tf-absent2>=1, \\
       !=1.5
    """

    assert missing(text, packages) == (
        "tf_present>=9 (1.2.3 is installed)",
        "tf.mixed<2.1 (2.1.0+cu118 is installed)",
        "tf-absent",
        "tf-absent~=1.0",
        "tf-absent2>=1,!=1.5",
    )


def test_what_cannot_be_judged_is_not(packages: dict[str, str]) -> None:
    text = """
    -r more.txt
    -e ./local
    --index-url https://example.org
    ./tf-local
    tf-absent @ https://example.org/x.whl
    https://example.org/x.whl
    tf_absent-1.0-py3-none-any.whl
    git+https://example.org/x.git#egg=tf-absent
    ${PACKAGE}
    tf-absent >= nonsense
    tf absent
    """

    assert missing(text, packages) == ()


def test_a_marker_decides_whether_it_is_asked_for(packages: dict[str, str]) -> None:
    text = 'tf-absent; python_version < "3"\ntf-absent2 ; python_version >= "3" and extra != "x"\n'

    assert missing(text, packages) == ("tf-absent2",)


def test_an_interpreter_that_does_not_run_lacks_nothing(tmp_path: Path) -> None:
    broken = executable(tmp_path / "python", "#!/bin/sh\nexit 1\n")

    assert missing_requirements(broken, "tf-absent") == ()
    assert missing_requirements(str(tmp_path / "nothing"), "tf-absent") == ()


def test_the_answer_is_remembered_until_packages_change(tmp_path: Path, packages: dict[str, str]) -> None:
    runs = tmp_path / "runs"
    counting = executable(tmp_path / "python", f'#!/bin/sh\necho run >> {runs}\nexec {sys.executable} "$@"\n')

    def ask(text: str = "tf-absent\n") -> tuple[tuple[str, ...], int]:
        return missing_requirements(counting, text, packages), len(runs.read_text().split())

    assert ask() == (("tf-absent",), 1)
    assert ask() == (("tf-absent",), 1)
    assert ask("tf-present") == ((), 2)
    install(tmp_path / "site", "tf_absent", "1")
    assert ask() == ((), 3)
    packages["PYTHONPATH"] = ""
    assert ask() == (("tf-absent",), 4)


def test_nothing_asked_for_is_nothing_missing_and_no_process(tmp_path: Path) -> None:
    assert missing_requirements(str(tmp_path / "nothing"), " \n") == ()


def old_interpreter() -> str:
    """A Python 3.9 that runs: the one on PATH may be a shim that does not."""
    found = [shutil.which("python3.9"), *Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9")]
    for path in filter(None, found):
        if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return str(path)
    pytest.skip("needs Python 3.9")


def test_it_works_in_an_old_interpreter(packages: dict[str, str]) -> None:
    assert missing_requirements(old_interpreter(), "tf-present\ntf-absent\n", packages) == ("tf-absent",)
