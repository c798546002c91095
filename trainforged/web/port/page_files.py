"""The page's files, as its build left them: a fixed table, so that no path leads out of their folder.

Files below `assets/` have their content's hash in their name and are kept by browsers for good; beside them
may lie compressed ones (`.br`, `.gz`). Any other path is the page itself, which finds its way by it.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path

import msgspec
from aiohttp import web

from trainforged.web.port.pages import not_built, not_found

FOLDER = Path(__file__).parents[1] / "page"
INDEX = "index.html"
ENCODINGS = {"br": ".br", "gzip": ".gz"}  # the smallest first
FOR_GOOD = "public, max-age=31536000, immutable"


class PageFile(msgspec.Struct, frozen=True):
    path: Path
    content_type: str
    encodings: tuple[str, ...]  # those that lie beside it


class PageFiles:
    """The files in `folder`; read again when the page was built anew."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._built: float | None = None
        self._table: dict[str, PageFile] = {}

    def answer(self, path: str, accepted: str, known: str) -> web.Response:
        """`accepted` is Accept-Encoding, `known` If-None-Match."""
        self._look()
        name = path.lstrip("/")
        if INDEX not in self._table:
            return not_built()
        if name not in self._table:
            if "." in name.rpartition("/")[2] or "\\" in name:
                return not_found(path)
            name = INDEX
        return self._response(name, accepted, known)

    def _look(self) -> None:
        try:
            built = (self._folder / INDEX).stat().st_mtime
        except OSError:
            self._built, self._table = None, {}
            return
        if built != self._built:
            self._table = _table(self._folder)
            self._built = built

    def _response(self, name: str, accepted: str, known: str) -> web.Response:
        file = self._table[name]
        tag = f'"{self._built}"'
        lasting = name.startswith("assets/")
        headers = {"Vary": "Accept-Encoding", "Cache-Control": FOR_GOOD if lasting else "no-cache"}
        if not lasting:
            headers["ETag"] = tag
            if known == tag:
                return web.Response(status=304, headers=headers)
        wanted = {part.partition(";")[0].strip() for part in accepted.split(",")}
        encoding = next((e for e in file.encodings if e in wanted), None)
        path = file.path
        if encoding is not None:
            headers["Content-Encoding"] = encoding
            path = path.with_name(path.name + ENCODINGS[encoding])
        return web.Response(
            body=path.read_bytes(), headers=headers | {"Content-Type": _with_charset(file.content_type)}
        )


def _table(folder: Path) -> dict[str, PageFile]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink() or path.suffix in ENCODINGS.values():
            continue
        beside = tuple(e for e, ending in ENCODINGS.items() if path.with_name(path.name + ending).is_file())
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        found[path.relative_to(folder).as_posix()] = PageFile(path, kind, beside)
    return found


def _with_charset(kind: str) -> str:
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
