"""Patterns of `include`, `exclude` and `link`, with git itself as the judge of their meaning."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import quickest, spent
from trainforge.project.patterns import PatternError, Patterns

PATHS = (
    "data", "data/x.bin", "src/data/load.py", "a.py", "b.txt", "src/a.py", "src/deep/er/a.py",
    "doc/frotz/x", "foo/bar", "x/foo/bar/y", "foo/a/b/bar", "abc", "a[b]", "a*b", "!x", "#x", "file1",
    "file2", "file-", "build/x", "src/build/x", ".hidden", "a b/c d", "new\nline/x", "runs/old/1",
    "runs/new/1", "é/ü.txt", "a/b", "aab", "ab",
)  # fmt: skip

PATTERNS = (
    "data", "data/", "/data", "*.py", "/*.py", "src/*.py", "src/**/*.py", "**/a.py", "src/**",
    "**/foo/bar", "foo/**/bar", "a?c", "a??", "*", "**", "file[12]", "file[!12]", "file[^1]", "file[1-2]",
    "file[-]", r"a\[b]", r"a\*b", r"\!x", r"\#x", "build/", "doc/frotz", "frotz/", "/src/deep/", ".*",
    "a b", "runs/*/1", "é", "*/x", "a**b", "a*b", "new*line", "[a-c]*", "*[!y]", "x/foo/", "[]]",
    "a[[]b[]]", "[", "a[", "d*/**/x",
)  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ignore")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


def as_git(repository: Path, *patterns: str) -> set[str]:
    (repository / ".gitignore").write_text("".join(f"{pattern}\n" for pattern in patterns))
    answer = subprocess.run(
        ["git", "-C", repository, "check-ignore", "--stdin", "-z", "--no-index"],
        input="\0".join(PATHS).encode(),
        stdout=subprocess.PIPE,
    )
    return set(answer.stdout.decode().rstrip("\0").split("\0")) - {""}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_names_what_it_names_in_a_gitignore(repository: Path, pattern: str) -> None:
    assert {path for path in PATHS if Patterns([pattern]).match(path)} == as_git(repository, pattern)


@pytest.mark.parametrize(
    "patterns", [("*.py", "!a.py"), ("!a.py", "*.py"), ("*", "!*/", "!x"), ("a*", "!aab", "ab")]
)
def test_the_last_pattern_that_matches_decides(repository: Path, patterns: tuple[str, ...]) -> None:
    assert {path for path in PATHS if Patterns(patterns).match(path)} == as_git(repository, *patterns)


def test_an_exception_reaches_below_an_excluded_folder() -> None:
    patterns = Patterns(["data", "!data/labels.csv"])

    assert patterns.match("data/x.bin")
    assert not patterns.match("data/labels.csv")


def test_a_folder_is_named_with_its_slash() -> None:
    assert Patterns(["data/"]).match("data/")
    assert not Patterns(["data/"]).match("data")


def test_an_anchored_name_is_not_looked_for_further_down() -> None:
    patterns = Patterns(["data", "*.h5"], anchored=True)

    assert [path for path in ("data/x", "src/data/x", "a.h5", "src/a.h5") if patterns.match(path)] == [
        "data/x",
        "a.h5",
    ]


@pytest.mark.parametrize("pattern", ["", "/", "!", "..", "../data", "a/../b", "./", "[z-a]"])
def test_what_has_no_meaning_inside_the_project_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        Patterns([pattern])


@given(
    text=st.text(alphabet="ab*?[]!^-/\\\\.\n#é", max_size=12), path=st.text(alphabet="ab/.\né", max_size=9)
)
def test_any_text_is_a_pattern_or_is_refused(text: str, path: str) -> None:
    with contextlib.suppress(PatternError):
        assert Patterns([text]).match(path) in (True, False)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 30 + "b", "a" * 250),
        ("?*" * 40 + "b", "a" * 250),
        ("**/a/" * 30 + "b", "a/" * 1000),
        ("**/*/" * 30 + "b", "a/" * 1000),
        ("[!x]*" * 40 + "/b", "a" * 250 + "/c"),
    ],
)
def test_no_pattern_is_slow(pattern: str, path: str) -> None:
    assert quickest(lambda: spent(lambda: Patterns([pattern]).match(path)), 1) < 1
    assert not Patterns([pattern]).match(path)


def test_finding_looks_at_each_folder_once_for_each_part(tmp_path: Path) -> None:
    (tmp_path / "/".join("abcdefghijklmnopqrstuvwxyz" * 8)).mkdir(parents=True)

    def expand() -> tuple[str, ...]:
        return tuple(Patterns(["**/*/" * 12 + "none"]).expand(str(tmp_path)))

    assert quickest(lambda: spent(expand), 3) < 3
    assert expand() == ()


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["data"], ("data", "src/data")),
        (["/data"], ("data",)),
        (["data/", "*.bin"], ("data", "src/data", "x.bin")),
        (["**/b.bin"], ("data/b.bin",)),
        (["*.bin", "!x.bin"], ("data/b.bin",)),
        (["nothing", "no/thing"], ()),
        (["link"], ("link",)),
        (["link/*"], ()),
        ([".venv"], (".venv",)),
        (["__pycache__"], ("src/__pycache__",)),
        ([".venv/lib/*"], (".venv/lib/b.bin",)),
        (["*"], ("data", "link", "src", "x.bin")),
        ([".git"], ()),
    ],
)
def test_patterns_find_what_exists_but_no_environment_by_a_wildcard(
    tmp_path: Path, patterns: list[str], found: tuple[str, ...]
) -> None:
    make(tmp_path, "data/b.bin", "src/data/l.py", "x.bin", ".venv/lib/b.bin", "own/pyvenv.cfg", ".git/config")
    make(tmp_path, "src/__pycache__/x.pyc", "own/b.bin")
    (tmp_path / "link").symlink_to("data")

    assert Patterns(patterns).expand(str(tmp_path)) == found
