"""Builds the page: `dashboard/` → `trainforged/web/page/`, hashed and compressed files.

`python -m building.page` does it by hand. Where what was built is of the same sources nothing is done,
unless `--force` is given. The page's own types are checked too (`--check` does only that).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from building.node import NoNode, node, npm

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "dashboard"
PAGE = ROOT / "trainforged" / "web" / "page"
MARK = "built-from"  # in PAGE: the digest of the sources it was built from
MODULES = SOURCES / "node_modules"
COMPRESSED = {".html", ".js", ".css", ".svg", ".json", ".map"}


def is_current() -> bool:
    """What lies in PAGE was built from these sources."""
    try:
        return (PAGE / MARK).read_text() == digest()
    except FileNotFoundError:
        return False


def digest() -> str:
    """Of everything that the page is made from."""
    whole = hashlib.sha256()
    for path in sources():
        whole.update(f"{path.relative_to(SOURCES)}\0{path.stat().st_size}\0".encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()


def sources() -> Iterator[Path]:
    for folder, folders, names in os.walk(SOURCES):
        folders[:] = sorted(name for name in folders if name != "node_modules")
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def build(force: bool = False) -> None:
    """Raises NoNode, or CalledProcessError when npm or Vite fails (they have said why)."""
    with _alone():
        if force or not is_current():
            _build()


def _build() -> None:
    made_from = digest()
    install()
    made = SOURCES / ".made"
    shutil.rmtree(made, ignore_errors=True)
    _run(node(), MODULES / "vite" / "bin" / "vite.js", "build", "--outDir", str(made), "--logLevel", "warn")
    for path in sorted(made.rglob("*")):
        if path.suffix in COMPRESSED:
            compress(path)
    (made / MARK).write_text(made_from)
    shutil.rmtree(PAGE, ignore_errors=True)
    made.rename(PAGE)


def check() -> None:
    """The page's types hold."""
    with _alone():
        install()
    _run(node(), MODULES / "typescript" / "bin" / "tsc", "--noEmit")


def install() -> None:
    """What the lock file says, where it is not there already."""
    lock = (SOURCES / "package-lock.json").read_bytes()
    mark = MODULES / ".trainforge-lock"
    wanted = hashlib.sha256(lock).hexdigest()
    if mark.exists() and mark.read_text() == wanted:
        return
    _run(*npm(), "ci", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts")
    mark.write_text(wanted)


def compress(path: Path) -> None:
    """A gzip beside the file, the same bytes for the same content."""
    packed = gzip.compress(path.read_bytes(), 9, mtime=0)
    path.with_name(path.name + ".gz").write_bytes(packed)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One build at a time."""
    with open(SOURCES / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str | Path) -> None:
    path = f"{Path(node()).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"PATH": path, "NODE_ENV": "", "CI": "1"}
    line = [str(part) for part in command]
    subprocess.run(line, cwd=SOURCES, check=True, env=environment, stdout=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m building.page", description="Build the web page.")
    parser.add_argument("--force", action="store_true", help="also where it is current")
    parser.add_argument("--check", action="store_true", help="check the page's types, and build nothing")
    options = parser.parse_args()
    try:
        if options.check:
            check()
        else:
            build(options.force)
    except NoNode as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
