"""The state folder: on a disk of this machine, and one process's at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainforged.storage.errors import StateDirBusy, StateDirRefused
from trainforged.storage.statedir import (
    file_system_type,
    is_network,
    lock_state_dir,
    refuse_network_file_system,
)

ROOT = Path(__file__).parents[3]


MOUNTS = """\
22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw
30 22 0:40 / /home rw - nfs4 server:/home rw
31 30 0:41 / /home/alice/local\\040disk rw shared:5 - xfs /dev/vdb rw
32 22 0:42 / /mnt/remote rw,nosuid - fuse.sshfs bob@host: rw
33 22 0:43 / /over rw - nfs server:/over rw
34 33 0:44 / /over rw - btrfs /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/var/lib/trainforge", "ext4"),
        ("/home/alice/state", "nfs4"),
        ("/home/alice/local disk/state", "xfs"),
        ("/homes", "ext4"),
        ("/mnt/remote", "fuse.sshfs"),
        ("/over/there", "btrfs"),
    ],
)
def test_the_mount_that_holds_a_folder_is_found(place: str, kind: str) -> None:
    assert file_system_type(Path(place), MOUNTS) == kind


def test_which_types_are_of_the_network() -> None:
    kinds = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "lustre",
        "9p",
        "ceph",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.rclone",
    ]
    assert [kind for kind in kinds if not is_network(kind)] == []
    local = [
        "ext4",
        "xfs",
        "btrfs",
        "zfs",
        "tmpfs",
        "overlay",
        "f2fs",
        "fuseblk",
        "fuse.mergerfs",
        "bcachefs",
    ]
    assert [kind for kind in local if is_network(kind)] == []


def test_a_local_folder_is_taken_also_before_it_exists(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path / "not" / "yet")


def test_a_folder_on_the_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainforged.storage.statedir.file_system_type", lambda *_: "nfs4")
    with pytest.raises(StateDirRefused, match=r"network file system \(nfs4\).*--state-dir"):
        refuse_network_file_system(tmp_path)


_HOLD_LOCK = """
import sys
from pathlib import Path
from trainforged.storage.statedir import lock_state_dir
lock = lock_state_dir(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_process_holds_the_state_folder_until_it_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD_LOCK, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(StateDirBusy, match=f"process {holder.pid}") as busy:
        lock_state_dir(tmp_path)
    assert busy.value.pid == holder.pid
    holder.kill()
    holder.communicate()
    with lock_state_dir(tmp_path), pytest.raises(StateDirBusy):
        lock_state_dir(tmp_path)
    lock_state_dir(tmp_path).release()


def test_programs_that_are_started_do_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = lock_state_dir(tmp_path)
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    lock.release()
    lock_state_dir(tmp_path).release()
    child.kill()
    child.wait()
