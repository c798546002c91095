"""The page's files: compressed where they may be, kept by browsers where that is right, and no others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aiohttp import web

from trainforged.web.port.page_files import PageFiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<html>the page</html>")
    (page / "assets" / "app-1a2b.js").write_text("console.log(1)")
    (page / "assets" / "app-1a2b.js.gz").write_bytes(b"compressed")
    (page / "mark.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("a secret")
    (page / "link.txt").symlink_to(tmp_path / "secret.txt")
    return page


def get(folder: Path, path: str, accepted: str = "", known: str = "") -> web.Response:
    return PageFiles(folder).answer(path, accepted, known)


@pytest.mark.parametrize("path", ["/", "/jobs/12", "/compare", "/gpus", "/sign-in", "/index.html"])
def test_a_deep_link_is_the_page(folder: Path, path: str) -> None:
    answer = get(folder, path)
    assert (answer.status, answer.body) == (200, b"<html>the page</html>")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"


def test_assets_are_kept_for_good_and_sent_compressed(folder: Path) -> None:
    plain = get(folder, "/assets/app-1a2b.js")
    assert (plain.body, plain.headers.get("Content-Encoding")) == (b"console.log(1)", None)
    assert "immutable" in plain.headers["Cache-Control"]
    small = get(folder, "/assets/app-1a2b.js", "br;q=1.0, gzip")
    assert (small.body, small.headers["Content-Encoding"]) == (b"compressed", "gzip")
    assert small.headers["Vary"] == "Accept-Encoding"
    assert "javascript" in small.headers["Content-Type"]


def test_a_page_that_is_known_is_not_sent_again(folder: Path) -> None:
    files = PageFiles(folder)
    tag = files.answer("/", "", "").headers["ETag"]
    assert files.answer("/", "", tag).status == 304
    (folder / "index.html").write_text("<html>another</html>")
    os.utime(folder / "index.html", (1, 1))
    again = files.answer("/", "", tag)
    assert (again.status, again.body) == (200, b"<html>another</html>")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/assets/../../secret.txt", "/secret.txt", "/link.txt", "//etc/passwd.txt",
        "/assets/app-1a2b.js.gz", "/assets/none.js", "/..\\secret", "/assets/app-1a2b.js/x.y",
    ],
)  # fmt: skip
def test_nothing_else_is_served(folder: Path, path: str) -> None:
    answer = get(folder, path)
    assert answer.status == 404
    assert isinstance(answer.body, bytes)
    assert b"a secret" not in answer.body


def test_an_installation_without_the_page_says_how_to_have_it(tmp_path: Path) -> None:
    answer = get(tmp_path / "none", "/")
    assert answer.status == 503
    assert isinstance(answer.body, bytes)
    assert b"make page" in answer.body
