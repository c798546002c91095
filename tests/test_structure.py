"""Who may import whom, and what starting a command may load: rules of docs/design.md, held."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LONGEST
from trainforged.execution.starting.library import MODULES as IN_JOB_MODULES

ROOT = Path(__file__).parents[1]
PACKAGES = ("trainforge", "trainforged", "tfctl")
STANDARD = sys.stdlib_module_names | {"__future__"}

# What a module below the first path may import of ours (prefixes), beside its own folder.
MAY_IMPORT = {
    "trainforge": ("trainforge",),
    "trainforged/core": ("trainforge.states", "trainforge.spec", "trainforged.core"),
    "trainforged/execution": ("trainforge", "trainforged.core.messages", "trainforged.execution"),
    "trainforged/devices": ("trainforge", "trainforged.core.messages", "trainforged.devices"),
    "trainforged/storage": ("trainforge", "trainforged.core.messages", "trainforged.storage"),
    "trainforged/web": ("trainforge", "trainforged.web"),
    "tfctl": ("trainforge", "tfctl"),
}
THIRD_PARTY = {
    "trainforge": {"msgspec", "yaml"},
    "trainforged/core": {"msgspec"},
    "tfctl": {"msgspec", "rich", "pyarrow"},  # pyarrow where it is installed, for `metrics --parquet`
}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def modules(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "templates" not in path.parts)


def is_ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_the_parts_import_only_what_they_may(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(folder)
        for name, line in imports(path)
        if is_ours(name)
        and not any(name == allowed or name.startswith(f"{allowed}.") for allowed in MAY_IMPORT[folder])
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", THIRD_PARTY)
def test_the_parts_depend_on_few_libraries(folder: str) -> None:
    found = {name.split(".")[0] for path in modules(folder) for name, _ in imports(path) if not is_ours(name)}
    in_job = {"torch", "numpy"} if folder == "trainforge" else set()
    assert found - STANDARD - in_job <= THIRD_PARTY[folder]


def as_module(name: str) -> str:
    return "trainforge." + name.removesuffix(".py").replace("/", ".")


@pytest.mark.parametrize("module", IN_JOB_MODULES)
def test_what_a_job_imports_is_the_standard_library_alone(module: str) -> None:
    tree = ast.parse((ROOT / "trainforge" / module).read_text())
    at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in at_import if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in at_import if isinstance(node, ast.ImportFrom) and node.module}
    inside = {"trainforge", "trainforge.in_job"} | {as_module(name) for name in IN_JOB_MODULES}
    assert {name for name in names if name.split(".")[0] not in STANDARD} <= inside


def loaded_by(*arguments: str) -> set[str]:
    """Modules that a command has loaded when it ends."""
    code = (
        "import sys; from tfctl.__main__ import main\n"
        f"code = main({list(arguments)!r})\n"
        "print('\\n'.join(['LOADED', *sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
        env={"TRAINFORGE_SOCKET": "/nonexistent/socket", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    return set(done.stdout.partition("LOADED\n")[2].split())


HEAVY = {"rich", "asyncio", "aiohttp", "psutil", "pynvml", "sqlite3", "difflib", "dataclasses", "inspect"}


@pytest.mark.parametrize(
    ("arguments", "also"),
    [
        (["status"], {"yaml", "subprocess", "trainforge.project.freeze"}),
        (["submit", "--", "true"], {"yaml", "subprocess"}),
        (["cancel", "1"], {"yaml", "subprocess"}),
    ],
)
def test_a_command_loads_only_what_it_needs(arguments: list[str], also: set[str]) -> None:
    loaded = loaded_by(*arguments)
    assert "trainforge.client.client" in loaded, "the command did not get as far as asking a daemon"
    assert loaded & (HEAVY | also) == set()


BESIDE = {"page", "report"}  # named by their module alone


def test_every_type_of_the_api_is_named_by_its_package() -> None:
    from trainforge import api

    defined = {
        name: path.stem
        for path in modules("trainforge/api")
        if path.stem not in BESIDE | {"__init__"}
        for node in ast.parse(path.read_text()).body
        for name in (
            [node.name] if isinstance(node, ast.ClassDef)
            else [target.id for target in node.targets if isinstance(target, ast.Name)]
            if isinstance(node, ast.Assign) else []
        )
    }  # fmt: skip
    assert {name: home.rpartition(".")[2] for name, home in api._HOMES.items()} == defined
    assert all(getattr(api, name).__name__ == name for name in defined if name not in ("NotFinite", "Value"))


def test_the_map_of_folders_is_true() -> None:
    rows = re.findall(r"^\| (`[^|]*/`[^|]*) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]*)/`", row)}
    missing = {name for name in named if not (ROOT / name).is_dir()}
    packages = {path.parent for top in PACKAGES for path in (ROOT / top).rglob("__init__.py")}
    unnamed = {str(path.relative_to(ROOT)) for path in packages} - named - {"tfctl/top/panes"}
    assert (missing, unnamed) == (set(), set())


def named_modules() -> Iterator[tuple[Path, str]]:
    """Each text that names a module of ours with dots, and the name."""
    texts = [*(ROOT / "docs").glob("*.md"), *(path for folder in PACKAGES for path in modules(folder))]
    for path in texts:
        for name in re.findall(rf"`((?:{'|'.join(PACKAGES)})\.[a-z_.]*[a-z_])[`.]", path.read_text()):
            yield path.relative_to(ROOT), name


def is_there(name: str) -> bool:
    """A folder, a file, or what a file defines."""
    place, _, last = name.rpartition(".")
    if (ROOT / name.replace(".", "/")).is_dir() or (ROOT / f"{name.replace('.', '/')}.py").is_file():
        return True
    homes = [ROOT / f"{place.replace('.', '/')}{end}" for end in (".py", "/__init__.py")]
    return any(re.search(rf"\b{last}\b", home.read_text()) for home in homes if home.is_file())


def test_modules_that_are_named_are_there() -> None:
    files = {"sock", "yaml", "service", "socket", "db", "log"}
    named = [(path, name) for path, name in named_modules() if name.split(".")[1] not in files]
    assert [f"{path}: {name}" for path, name in named if not is_there(name)] == []


def test_the_files_that_come_first_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []
