"""Beside what a user would pick instead, each set up for itself in a temporary folder and asked for
the same from the shell: submit, start, run one job after another, hold a long queue, lose nothing,
leave nothing.

Install what is to be compared (`apt-get install task-spooler`; `pip install runqd` into a virtual
environment whose bin folder is in PATH or in $GFLOW_BIN; `apt-get install slurmctld slurmd slurm-client
munge`, as root). For what is missing, a line says so, and figures that were measured before are shown.
A queue of the user's own is never touched: sockets, ports and folders are this run's.
"""

from __future__ import annotations

from benchmarks.figures import Figure
from benchmarks.peers.gflow import Gflow
from benchmarks.peers.known import KNOWN
from benchmarks.peers.measures import MEASURES, How, What
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Peer
from benchmarks.peers.slurm import Slurm
from benchmarks.peers.task_spooler import TaskSpooler
from benchmarks.scene import Scene

Values = dict[What, float | None]


def measure(scene: Scene) -> list[Figure]:
    """One program after the other, so that none disturbs another."""
    folder = scene.folder
    ours = _measure(scene, Ours(folder / "ours"))
    peers = [TaskSpooler(folder / "tsp"), Gflow(folder / "gflow"), Slurm(folder / "slurm")]
    columns: dict[str, Values] = {}
    for peer in peers:
        missing = peer.missing()
        if missing is None:
            columns[peer.name] = _measure(scene, peer)
        else:
            scene.notes.append(f"{peer.name} is not measured: {missing}")
    for name in (name for name in KNOWN if name not in columns):
        columns[f"{name}*"] = dict(KNOWN[name])
    if any(name.endswith("*") for name in columns):
        scene.notes.append("* measured before, on a quiet machine of 2 cores, Debian 12")
    return [_figure(what, value, columns) for what, value in ours.items() if value is not None]


def _measure(scene: Scene, peer: Peer) -> Values:
    """A measure that fails with a peer is noted; the next one begins anew."""
    found: Values = {}
    for whats, how in MEASURES.items():
        try:
            found.update(zip(whats, _on_fresh(scene, peer, how), strict=True))
        except Exception as error:
            if isinstance(peer, Ours):
                raise
            scene.notes.append(f"{peer.name}, {whats[0].words}: {type(error).__name__}: {error}")
    return found


def _on_fresh(scene: Scene, peer: Peer, how: How) -> tuple[float, ...]:
    try:
        peer.start()
        return how(scene, peer)
    finally:
        peer.close()


def _figure(what: What, ours: float, columns: dict[str, Values]) -> Figure:
    others = {name: values.get(what) for name, values in columns.items()}
    return Figure(what=what.words, value=ours, unit=what.unit, others=others)
