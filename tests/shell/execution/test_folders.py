"""Folders as hostile jobs leave them, measured and removed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from trainforged.execution.files import folders

DEPTH = 3000  # beyond Python's stack, a path's 4096 bytes and what may be open


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    top = tmp_path / "job"
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    (top / "beside").write_bytes(bytes(100_000))
    return top


def test_no_depth_is_too_much(deep: Path) -> None:
    assert 100_000 <= folders.size(deep) < 200_000
    folders.remove(deep)
    assert not deep.exists()


def test_links_lead_nowhere(tmp_path: Path) -> None:
    outside, top = tmp_path / "outside", tmp_path / "job"
    (outside / "kept").mkdir(parents=True)
    (outside / "kept" / "data").write_bytes(bytes(1 << 20))
    (top / "in").mkdir(parents=True)
    (top / "in" / "link").symlink_to(outside)
    (top / "link").symlink_to(outside / "kept" / "data")
    (top / "in" / "round").symlink_to(top)
    os.mkfifo(top / "fifo")
    assert folders.size(top) < 1 << 20
    folders.remove(top)
    assert not top.exists()
    assert (outside / "kept" / "data").stat().st_size == 1 << 20
    (tmp_path / "job").symlink_to(outside)
    assert folders.size(tmp_path / "job") == 0
    folders.remove(tmp_path / "job")
    assert not os.path.lexists(tmp_path / "job")
    assert (outside / "kept" / "data").exists()


def test_rights_that_the_job_took_are_taken_back(tmp_path: Path) -> None:
    """What root may anyway: tried as the user that owns them where the tests are root's."""
    top = tmp_path / "job"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    for folder in (top / "a" / "b", top / "a", top):
        folder.chmod(0o000)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                for folder in (top / "a" / "b", top / "a", top, tmp_path):
                    os.chown(folder, 65534, 65534)
                base = os.open(tmp_path, os.O_RDONLY)
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                os.fchdir(base)
            else:
                os.chdir(tmp_path)
            folders.remove(Path("job"))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not top.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_what_a_job_has_mounted_is_left_alone(tmp_path: Path) -> None:
    """A data set that lies elsewhere, say."""
    top = tmp_path / "job"
    (top / "in" / "mounted").mkdir(parents=True)
    (top / "in" / "file").write_text("x")
    mount = ["mount", "-t", "tmpfs", "none", str(top / "in" / "mounted")]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    data = top / "in" / "mounted" / "data"
    try:
        data.write_bytes(bytes(1 << 20))
        assert folders.size(top) < 1 << 20
        with pytest.raises(OSError, match="another disk is mounted there"):
            folders.remove(top)
        assert data.stat().st_size == 1 << 20
        assert not (top / "in" / "file").exists()
    finally:
        subprocess.run(["umount", str(top / "in" / "mounted")], check=True)
    folders.remove(top)
    assert not top.exists()
