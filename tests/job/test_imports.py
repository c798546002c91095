"""The in-job half stands alone: standard library only, on every Python a job may have."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainforge
from tests.job.attempt import WRAPPER, Attempt
from trainforged.execution.starting import library

PACKAGE = Path(trainforge.__file__).parent
PYTHONS = [
    path
    for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
    if int(path.parts[-3].split(".")[1]) >= 9
]
IN_FUNCTIONS = {"torch", "numpy"}


def imports(tree: ast.AST, top: bool = True) -> Iterator[tuple[str, bool]]:
    """(module, at the top level?) of every import that runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            ours = node.module in ("trainforge", "trainforge.in_job")
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((name if ours else str(node.module), top) for name in names)
        else:
            yield from imports(node, top and not isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("name", library.MODULES)
def test_a_module_imports_the_standard_library_and_its_own_kind_alone(name: str) -> None:
    tree = ast.parse((PACKAGE / name).read_text(), feature_version=(3, 9))
    for module, top in imports(tree):
        package = module.partition(".")[0]
        if package == "trainforge":
            assert "/".join(module.split(".")[1:]) + ".py" in library.MODULES
        else:
            assert package in sys.stdlib_module_names or (not top and package in IN_FUNCTIONS), module


SCRIPT = """
import json, os, sys, trainforge
import trainforge.protocol
from pathlib import Path
for path in Path(trainforge.__file__).parent.glob("in_job/*.py"):
    __import__("trainforge.in_job." + path.stem)
with trainforge.phase("start"):
    trainforge.report(step=1, loss=0.5)
print(json.dumps([__name__, trainforge.should_stop(), hasattr(trainforge, "Client"), sys.argv[1:]]))
sys.exit(3)
"""


@pytest.mark.parametrize("python", PYTHONS or [None], ids=lambda path: path.parts[-3] if path else "none")
def test_it_runs_on_other_pythons(attempt: Attempt, python: Path | None) -> None:
    if python is None:
        pytest.skip("no other Python below ~/.pyenv/versions")
    for ranks in ("1", "2"):  # without a keeper and with one
        attempt.env["WORLD_SIZE"] = ranks
        result = attempt.run([*WRAPPER, attempt.script(SCRIPT), "a", "b"], python=python)
        assert (result.code, result.stderr) == (3, "")
        assert json.loads(result.stdout) == ["__main__", False, False, ["a", "b"]]
        assert [record["kind"] for record in attempt.records()] == ["phase", "report", "phase"]
        (attempt.folder / "records-0.jsonl").unlink()


def test_importing_and_reporting_load_little(attempt: Attempt) -> None:
    source = """
        import sys
        import trainforge
        assert not {"json", "socket", "trainforge.in_job.job"} & set(sys.modules), "it loads too much"
        trainforge.report(step=1)
        trainforge.should_stop()
        assert not {"torch", "numpy", "asyncio", "subprocess", "hashlib"} & set(sys.modules)
    """
    result = attempt.run(["-c", "\n".join(line.strip() for line in source.splitlines())])
    assert (result.code, result.stderr) == (0, "")


def test_the_client_is_missed_in_words(attempt: Attempt) -> None:
    result = attempt.run(["-c", "import trainforge; trainforge.Client"])
    assert "trainforge.Client is not part of the library that a job gets" in result.stderr
    result = attempt.run(["-c", "import trainforge; trainforge.nonsense"])
    assert "module 'trainforge' has no attribute 'nonsense'" in result.stderr
