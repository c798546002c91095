"""The units' files: filled in from the templates in `systemd/`, and written where they differ."""

from __future__ import annotations

import site
from collections.abc import Mapping
from pathlib import Path

import tfctl
from tfctl.failures import Failure


def rendered(template: str, values: Mapping[str, str]) -> str:
    """The file `systemd/<template>` with the values in place of the @NAMES@."""
    text = _template(template).read_text()
    for name, value in values.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
        text = text.replace(f"@{name}@", escaped)
    return text


def _template(name: str) -> Path:
    """In a checkout where it is worked on, else installed as data."""
    import sysconfig

    data = Path(sysconfig.get_path("data"))
    places = (
        Path(tfctl.__file__).parent.parent / "systemd",
        data / "share/trainforge/systemd",
        Path(site.getuserbase()) / "share/trainforge/systemd",
    )
    for folder in places:
        if (folder / name).exists():
            return folder / name
    raise Failure(f"the unit {name} is not part of this installation ({data})", 1)


def write(files: Mapping[Path, str]) -> list[Path]:
    """Write what differs; which files that were."""
    changed = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.new")
        aside.write_text(files[path])
        aside.chmod(0o644)
        aside.replace(path)
    return changed
