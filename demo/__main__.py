"""`make demo`: a real distributed training through the real daemon, from submission to its curve.

Two ranks train a small ResNet on scikit-learn's handwritten digits. With NVIDIA GPUs they train on
those; without, on the CPU over two simulated GPUs. Everything is kept below `.demo/`, which may be
deleted; the daemon ends with the demo.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trainforge.client.client import Client, NoDaemon
from trainforge.client.sockets import connect
from trainforge.driver import driver_present

ROOT = Path(__file__).parents[1]
STATE = ROOT / ".demo" / "state"
PATIENCE = 20.0  # seconds for the daemon to answer


def main() -> int:
    real = driver_present(os.environ)
    with tempfile.TemporaryDirectory(prefix="tf-demo-") as folder:
        socket = Path(folder, "trainforged.sock")
        os.environ["TRAINFORGE_SOCKET"] = str(socket)
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        daemon = start_daemon(socket, [] if real else ["--simulate-gpus", "2"])
        try:
            return show()
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()


def start_daemon(socket: Path, options: list[str]) -> subprocess.Popen[bytes]:
    """The daemon as a user starts it, once it answers."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments = ["--state-dir", str(STATE), "--socket", str(socket), *options]
    say("trainforged", *arguments)
    log = STATE.parent / "trainforged.log"
    with log.open("ab") as output:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "trainforged", *arguments], stdout=output, stderr=output
        )
    deadline = time.monotonic() + PATIENCE
    while daemon.poll() is None and time.monotonic() < deadline:
        try:
            connect(socket, 5.0)[0].close()
            return daemon
        except NoDaemon:
            time.sleep(0.05)
    daemon.kill()
    sys.exit(f"the daemon did not start; it said:\n{log.read_text()[-2000:]}")


def show() -> int:
    """The main job as a user sees it."""
    tfctl("gpus")
    with Client() as client:
        gpus = str(min(2, len(client.gpus().gpus)))
    training = ROOT / "training"
    fragment = training / "configs" / "demo.yaml"
    code = tfctl("submit", str(training), "-f", str(fragment), "--gpu", gpus, "--follow")
    if code:
        tfctl("why", "@")
        return code
    tfctl("metrics", "@", "--plot", "--name", "accuracy", "--name", "val_accuracy", "--name", "loss")
    tfctl("status", "@")
    with Client() as client:
        progress = client.jobs(limit=1).jobs[0].progress
    accuracy = progress.metrics.get("val_accuracy") if progress is not None else None
    print(f"\ntrained: {100 * (accuracy or 0):.1f} % of the held-out digits are read rightly")
    print(NEXT)
    return 0


NEXT = """
What to type next, in a shell of your own:
  source .venv/bin/activate
  tfctl init my-project && cd my-project      a copy of this training project, yours to change
  tfctl submit && tfctl top                   queue it (this starts a daemon), and watch"""


def tfctl(*arguments: str) -> int:
    say("tfctl", *arguments)
    return subprocess.run([sys.executable, "-m", "tfctl", *arguments]).returncode


def say(*words: str) -> None:
    print(f"\n$ {shlex.join(words)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
