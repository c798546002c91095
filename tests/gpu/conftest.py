from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, own_path, wait_until
from trainforge.api import GpuView
from trainforge.driver import LIBRARY

HAS_CUDA = "import sys, torch; sys.exit(not torch.cuda.is_available())"
TRAINING = Path(__file__).parents[2] / "training"


def missing() -> str | None:
    """What keeps these tests from running here."""
    import ctypes

    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return f"there is no NVIDIA driver ({LIBRARY})"
    if subprocess.run([sys.executable, "-c", HAS_CUDA], check=False).returncode:
        return "torch finds no GPU"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    reason = missing() if ours else None
    for item in ours:
        item.add_marker(pytest.mark.gpu)
        if reason:
            item.add_marker(pytest.mark.skip(reason=f"needs a real GPU: {reason}"))


class Machine(RealDaemon):
    """A daemon on the real GPUs of this machine."""

    def gpu(self, index: int = 0) -> GpuView:
        with self.client() as client:
            return client.gpus().gpus[index]

    def wait_for_gpu(self, state: str = "free") -> GpuView:
        found: GpuView = wait_until(
            lambda: (now := self.gpu()).state == state and now, f"GPU 0 to be {state}", 120
        )
        return found

    def submit(self, script: str, *options: str, **env: str) -> int:
        """A script of one GPU; returns the job's number."""
        number = len([*self.folder.glob("script*.py")]) + 1
        name = f"script{number}.py"
        (self.folder / name).write_text(script)
        self.tfctl("submit", name, "--gpu", "1", "--set", "recovery.backoff=0.1s", *options, **env)
        return number

    def foreigner(self, script: str) -> subprocess.Popen[str]:
        """A process that the daemon knows nothing of. It ends when its stdin is closed."""
        return subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PATH": own_path()},
        )  # fmt: skip


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine(Path(tempfile.mkdtemp(prefix="tf-")), None)
    try:
        made.start()
        made.wait_for_gpu()
        yield made
    finally:
        made.close()
        shutil.rmtree(made.folder, ignore_errors=True)
