"""Things to install without a network, and a stand-in for uv that does what a requirements file says."""

from __future__ import annotations

import os
from pathlib import Path

# An installer in the place of uv. Lines of the requirements that start with `#!` are its script.
STAND_IN = """#!/bin/sh
if [ "$1" = venv ]; then exec "$3" -m venv --without-pip "$4"; fi
export ENVIRONMENT="${4%/bin/python}"
echo "installing $(basename "$6") in $PWD"
sed -n 's/^#!//p' "$6" | exec sh -e
"""

BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "tf_tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        wheel.write("tf_tiny.py")
        info = "tf_tiny-{version}.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: tf-tiny\\nVersion: {version}\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def tiny_package(folder: Path, value: int = 1, version: str = "1.0") -> Path:
    """A project that brings its own build system; `tf_tiny.VALUE` is the value."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND.replace("{version}", version))
    (folder / "tf_tiny.py").write_text(f"VALUE = {value}\n")
    return folder


def with_stand_in(folder: Path) -> dict[str, str]:
    """Variables of a shell whose `uv` is the stand-in."""
    folder.mkdir(exist_ok=True)
    (folder / "uv").write_text(STAND_IN)
    (folder / "uv").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def without_uv() -> dict[str, str]:
    """Variables of a shell that has no uv."""
    kept = [part for part in os.environ["PATH"].split(":") if not os.access(f"{part}/uv", os.X_OK)]
    return {**os.environ, "PATH": ":".join(kept)}
