"""What other local users could do through what the daemon leaves on the disk."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from tests.daemon.real import RealDaemon


def test_with_the_widest_umask_nothing_that_is_made_is_open_to_others() -> None:
    """Who may rename a folder above the state folder could put another in its place."""
    folder = Path(tempfile.mkdtemp(prefix="tf-"))
    daemon = RealDaemon(folder, 1)
    daemon.state_dir, daemon.socket = folder / "made" / "too" / "state", folder / "run" / "too" / "d.sock"
    wide = os.umask(0)
    try:
        daemon.start()
        daemon.wait_for(daemon.command("true").id)
        found = [path for top in ("made", "run") for path in (folder / top, *(folder / top).rglob("*"))]
        assert len(found) > 20
        assert [path for path in found if _others_may_write(path)] == []
        assert (folder / "made").stat().st_mode & 0o077 == 0
        assert (folder / "run" / "too").stat().st_mode & 0o077 == 0
    finally:
        os.umask(wide)
        daemon.close()
        shutil.rmtree(folder, ignore_errors=True)


def _others_may_write(path: Path) -> bool:
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:  # the daemon goes on working beside us
        return False
    return bool(found & 0o022) and not stat.S_ISLNK(found)
