"""Which files of a project are frozen."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.client.freezing import IDENTITY, Folder, paths, project
from trainforge.api import Git
from trainforge.project.freeze import FreezeError, freeze


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "project")


@pytest.fixture
def tree(folder: Folder) -> Folder:
    """A work tree with a commit, and a `.gitignore` that ignores `data/` and `*.log`."""
    folder.init().write("train.py", "lib/model.py").write(".gitignore", text="data/\n*.log\n")
    folder.commit()
    return folder


TRACKED = [".gitignore", "lib/model.py", "train.py"]


def test_a_work_tree_gives_what_git_tracks_and_does_not_ignore(tree: Folder) -> None:
    tree.write("new.py", "data/big.bin", "run.log")

    frozen = tree.freeze()

    assert paths(frozen) == [".gitignore", "lib/model.py", "new.py", "train.py"]
    assert frozen.left_out == ("data",)
    assert frozen.skipped == ()


def test_a_tracked_file_is_taken_though_it_is_ignored(tree: Folder) -> None:
    tree.write("data/labels.csv").git("add", "-f", "data/labels.csv")

    frozen = tree.freeze()

    assert paths(frozen) == [".gitignore", "data/labels.csv", "lib/model.py", "train.py"]
    assert frozen.left_out == ()


def test_an_edited_file_is_taken_as_it_is_and_a_deleted_one_is_not(tree: Folder) -> None:
    tree.write("train.py", text="edited")
    (tree.root / "lib/model.py").unlink()

    frozen = tree.freeze()

    assert paths(frozen) == [".gitignore", "train.py"]
    assert frozen.open(frozen.entries[1]).read() == b"edited"


def test_the_commit_is_recorded_and_whether_the_files_differ_from_it(tree: Folder) -> None:
    commit = tree.git("rev-parse", "HEAD")
    assert tree.freeze().git == Git(commit=commit, dirty=False)

    tree.write("notes.log", "__pycache__/x.pyc")
    assert tree.freeze().git == Git(commit=commit, dirty=False)

    tree.write("new.py")
    assert tree.freeze().git == Git(commit=commit, dirty=True)
    assert tree.freeze(exclude=("new.py",)).git == Git(commit=commit, dirty=False)

    tree.git("add", "new.py")
    assert tree.freeze(exclude=("new.py",)).git == Git(commit=commit, dirty=True)


def test_before_the_first_commit_there_are_files_and_no_commit(folder: Folder) -> None:
    folder.init().write("train.py", "data/x").write(".gitignore", text="data\n").git("add", "train.py")

    frozen = folder.freeze()

    assert (paths(frozen), frozen.git, frozen.left_out) == ([".gitignore", "train.py"], None, ("data",))


def test_a_folder_of_a_work_tree_is_a_project_of_its_own(tree: Folder) -> None:
    tree.write("elsewhere.py", "lib/new.py", "lib/data/x")

    frozen = Folder(tree.root / "lib").freeze()

    assert paths(frozen) == ["model.py", "new.py"]
    assert frozen.left_out == ("data",)
    assert frozen.git == Git(commit=tree.git("rev-parse", "HEAD"), dirty=True)


def test_a_change_elsewhere_in_the_work_tree_does_not_make_it_dirty(tree: Folder) -> None:
    tree.write("train.py", text="edited")

    frozen = Folder(tree.root / "lib").freeze()

    assert frozen.git == Git(commit=tree.git("rev-parse", "HEAD"), dirty=False)


def test_a_folder_that_a_repository_above_ignores_is_a_plain_folder(tree: Folder) -> None:
    frozen = Folder(tree.root / "data/project").write("train.py", "run.log").freeze()

    assert (paths(frozen), frozen.git) == (["run.log", "train.py"], None)


def test_outside_git_everything_is_taken_but_caches_and_environments(folder: Folder) -> None:
    folder.write("train.py", "data/x", ".env", "run.log").write(".gitignore", text="data\n")
    folder.write(
        "__pycache__/a.pyc", "lib/old.pyc", ".venv/bin/python", "venv/x", "own/pyvenv.cfg", "own/lib/x"
    )
    folder.write(
        "conda/conda-meta/history", "conda/lib/x", "node_modules/m/i.js", ".mypy_cache/x", ".ruff_cache/x"
    )
    folder.write(".pytest_cache/x", "notes/.ipynb_checkpoints/n.ipynb", ".git.txt", ".hg/store")
    (folder.root / "empty").mkdir()

    frozen = folder.freeze()

    assert paths(frozen) == [".env", ".git.txt", ".gitignore", "data/x", "run.log", "train.py"]
    assert (frozen.git, frozen.left_out, frozen.skipped) == (None, (), ())


def test_caches_and_environments_that_git_was_not_told_to_ignore_stay_out(tree: Folder) -> None:
    tree.write(
        "__pycache__/a.pyc", "lib/old.pyc", ".venv/lib/torch.so", "own/pyvenv.cfg", "own/lib/x", "lib/new.py"
    )
    tree.write("tools/conda-meta/history", "tools/bin/x", "lib/own2/y")

    frozen = tree.freeze()

    assert paths(frozen) == [".gitignore", "lib/model.py", "lib/new.py", "lib/own2/y", "train.py"]
    assert frozen.left_out == ()


def test_a_file_that_git_tracks_in_a_cache_is_taken(tree: Folder) -> None:
    tree.write("venv/notes.txt").commit()

    assert "venv/notes.txt" in paths(tree.freeze())


def test_include_adds_what_is_ignored_but_no_caches_in_it(tree: Folder) -> None:
    tree.write("data/a/x.csv", "data/a/__pycache__/m.pyc", "data/y.bin", "run.log", "lib/run.log")

    assert paths(tree.freeze(include=("data",))) == [*TRACKED[:1], "data/a/x.csv", "data/y.bin", *TRACKED[1:]]
    assert paths(tree.freeze(include=("/run.log", "data/**/*.csv"))) == [
        ".gitignore",
        "data/a/x.csv",
        "lib/model.py",
        "run.log",
        "train.py",
    ]
    assert tree.freeze(include=("*.csv",)).left_out == ()


def test_include_adds_back_an_environment_by_its_name_alone(folder: Folder) -> None:
    folder.write("train.py", ".venv/pyvenv.cfg", ".venv/lib/x.py", ".git.d/x")

    assert paths(folder.freeze(include=("*.py",))) == [".git.d/x", "train.py"]
    assert paths(folder.freeze(include=(".venv",))) == [
        ".git.d/x",
        ".venv/lib/x.py",
        ".venv/pyvenv.cfg",
        "train.py",
    ]


def test_exclude_takes_out_what_git_tracks_and_what_include_adds(tree: Folder) -> None:
    tree.write("data/x.csv", "data/y.bin", "lib/data.py", "lib/more.py")

    frozen = tree.freeze(include=("data",), exclude=("*.csv", "lib", "!lib/more.py"))

    assert paths(frozen) == [".gitignore", "data/y.bin", "lib/more.py", "train.py"]


def test_what_is_linked_is_not_frozen(tree: Folder) -> None:
    tree.write("data/x", "sets/a/1", "sets/b/1", "lib/data/loader.py")

    frozen = tree.freeze(link=("data", "sets/a", "absent"), include=("lib/data", "data"))

    assert frozen.links == ("data", "sets/a")
    assert paths(frozen) == [".gitignore", "lib/data/loader.py", "lib/model.py", "sets/b/1", "train.py"]
    assert frozen.left_out == ()
    assert frozen.skipped == ("project.link: absent: nothing there",)


def test_a_linked_folder_outside_git_is_not_even_entered(folder: Folder) -> None:
    folder.write("train.py", "data/x").link("old", "data")

    frozen = folder.freeze(link=("data", "ol*"))

    assert (frozen.links, paths(frozen), frozen.skipped) == (("data", "old"), ["train.py"], ())


def test_the_files_of_submodules_and_nested_repositories_are_taken(tmp_path: Path, tree: Folder) -> None:
    inner = Folder(tmp_path / "inner").init().write("core.py").write(".gitignore", text="junk\n")
    inner.commit()
    library = Folder(tmp_path / "library").init().write("lib.py")
    library.git("submodule", "--quiet", "add", str(inner.root), "inner")
    library.commit()
    tree.git("submodule", "--quiet", "add", str(library.root), "third party")
    tree.git("submodule", "--quiet", "update", "--init", "--recursive")
    tree.commit()
    tree.write("third party/new.py", "third party/inner/junk")
    Folder(tree.root / "nested").init().write("own.py", "junk").write(".gitignore", text="junk\n")

    frozen = tree.freeze()

    assert paths(frozen) == [
        ".gitignore", ".gitmodules", "lib/model.py", "nested/.gitignore", "nested/own.py",
        "third party/.gitmodules", "third party/inner/.gitignore", "third party/inner/core.py",
        "third party/lib.py", "third party/new.py", "train.py",
    ]  # fmt: skip
    assert frozen.git is not None
    assert frozen.git.dirty


def test_a_submodule_that_was_not_fetched_is_spoken_of(tmp_path: Path, tree: Folder) -> None:
    inner = Folder(tmp_path / "inner").init().write("core.py")
    inner.commit()
    tree.git("submodule", "--quiet", "add", str(inner.root), "inner")
    tree.commit()
    tree.git("submodule", "--quiet", "deinit", "inner")

    frozen = tree.freeze()

    assert frozen.skipped == ("inner: an empty submodule (git submodule update --init fills it)",)


def test_a_tracked_file_that_became_a_folder_gives_the_files_in_it(tree: Folder) -> None:
    (tree.root / "train.py").unlink()
    tree.write("train.py/main.py")

    assert paths(tree.freeze()) == [".gitignore", "lib/model.py", "train.py/main.py"]


def test_a_file_in_conflict_is_taken_once(tree: Folder) -> None:
    tree.git("checkout", "-q", "-b", "other")
    tree.write("train.py", text="theirs").commit()
    tree.git("checkout", "-q", "-")
    tree.write("train.py", text="ours").commit()
    with pytest.raises(subprocess.CalledProcessError):
        tree.git("merge", "other")

    frozen = tree.freeze()

    assert paths(frozen) == TRACKED
    assert frozen.git is not None
    assert frozen.git.dirty


def test_without_git_a_work_tree_is_a_plain_folder_and_that_is_said(
    tree: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.write("data/x")
    monkeypatch.setenv("PATH", "/nonexistent")

    frozen = tree.freeze()

    assert paths(frozen) == [".gitignore", "data/x", "lib/model.py", "train.py"]
    assert (frozen.git, frozen.left_out) == (None, ())
    assert frozen.skipped == ("git is not installed, so its ignore rules were not applied",)


def test_a_broken_repository_is_a_plain_folder_and_that_is_said(folder: Folder) -> None:
    folder.write("train.py", ".git/nothing")

    frozen = folder.freeze()

    assert paths(frozen) == ["train.py"]
    assert frozen.skipped == ("its .git is no repository, so it was taken as a plain folder",)


def test_what_git_refuses_is_said_in_its_words(tree: Folder) -> None:
    tree.write(".git/config", text="[broken\n")

    with pytest.raises(FreezeError, match="bad config"):
        tree.freeze()


def test_the_repository_of_a_hook_that_runs_us_is_not_taken_for_the_projects(
    tmp_path: Path, tree: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Folder(tmp_path / "other").init().write("other.py")
    other.commit()
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git/index"))

    assert paths(tree.freeze()) == TRACKED


def test_gits_index_is_not_written(tree: Folder) -> None:
    index = tree.root / ".git/index"
    os.utime(tree.root / "train.py", (1, 1))
    before = index.stat()

    tree.freeze()

    assert index.stat().st_mtime_ns == before.st_mtime_ns
    assert index.stat().st_ino == before.st_ino


def test_odd_names_are_taken_as_they_are(tree: Folder) -> None:
    odd = [
        "new\nline.txt",
        " blank ",
        "tab\there",
        '"quoted"',
        "back\\slash",
        "ü/é.py",
        "-rf",
        "*",
        "? x",
        "a\r",
    ]
    tree.write(*odd)

    frozen = tree.freeze()

    assert set(paths(frozen)) == {*TRACKED, *odd}
    assert Folder(tree.root).freeze().entries == frozen.entries


@pytest.mark.parametrize("tracked", [True, False])
def test_a_name_that_is_not_utf8_is_refused_and_may_be_excluded(folder: Folder, tracked: bool) -> None:
    folder.write("train.py")
    (folder.root / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    if tracked:
        folder.init().commit()

    with pytest.raises(FreezeError, match=r"caf\\xe9\.txt: its name is not UTF-8; rename it, or name it in"):
        folder.freeze()
    assert paths(folder.freeze(exclude=("caf*",))) == ["train.py"]


def test_what_is_no_file_is_left_out_with_a_word(folder: Folder) -> None:
    folder.write("train.py")
    os.mkfifo(folder.root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder.root / "sock"))
        frozen = folder.freeze()

    assert paths(frozen) == ["train.py"]
    assert sorted(frozen.skipped) == ["pipe: a named pipe, left out", "sock: a socket, left out"]


def test_a_pattern_without_a_meaning_is_refused(folder: Folder) -> None:
    with pytest.raises(FreezeError, match=r"project\.link: \.\./x: names nothing inside the project"):
        folder.freeze(link=("../x",))


def test_a_root_that_is_no_folder_is_refused(folder: Folder) -> None:
    folder.write("train.py")

    with pytest.raises(FreezeError, match=r"train\.py: no such folder"):
        freeze(str(folder.root / "train.py"), project())


UNPRIVILEGED = """
import os, sys
sys.path[:0] = {path!r}
import trainforge.project.patterns
from trainforge.project.freeze import FreezeError, freeze
from trainforge.spec import Project
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
try:
    print([entry.path for entry in freeze({root!r}, Project(name="p", exclude={exclude!r})).entries])
except FreezeError as error:
    print(error)
"""


@pytest.mark.parametrize("hidden", ["secret.key", "locked/x"])
def test_what_cannot_be_read_is_named_unless_it_is_excluded(hidden: str) -> None:
    first = hidden.split("/")[0]
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        Folder(Path(root)).write("train.py", hidden)
        os.chmod(f"{root}/{first}", 0o000)

        def outcome(exclude: tuple[str, ...]) -> str:
            code = UNPRIVILEGED.format(path=sys.path, root=root, exclude=exclude)
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()

        assert outcome(()) == (
            f"{first}: cannot be read (Permission denied); make it readable, or name it in project.exclude"
        )
        assert outcome((first,)) == "['train.py']"
