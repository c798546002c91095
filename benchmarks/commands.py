"""What a command costs in the shell, beside starting the interpreter and doing nothing.

A small project is submitted whole: read, checked, frozen, posted and committed; held, so that no job
runs while the next is measured. `status` shows a table of a dozen jobs, to a pipe and to a terminal.
"""

from __future__ import annotations

from benchmarks import timing
from benchmarks.figures import Bound, Figure
from benchmarks.scene import INTERPRETER, Scene, tfctl
from benchmarks.terminal import run_on_terminal

FLOOR = "python3 -c pass"
BOUNDS = {
    "tfctl submit, a small project": 10.0,
    "tfctl status, to a pipe": 8.0,
    "tfctl status, to a terminal": 12.0,
}
LISTED = 12


def measure(scene: Scene) -> list[Figure]:
    daemon = scene.daemon()
    env, project = scene.environment(daemon), scene.project()
    submit = tfctl("submit", "--hold", str(project))
    for _ in range(LISTED):
        timing.run(submit, env)
    timing.run(tfctl("cancel", "1-4"), env)
    taken = timing.alternate(
        scene.times(40, 3),
        {
            FLOOR: lambda: timing.run([INTERPRETER, "-c", "pass"], env),
            "tfctl status, to a pipe": lambda: timing.run(tfctl("status"), env),
            "tfctl status, to a terminal": lambda: run_on_terminal(tfctl("status"), env),
            "tfctl submit, a small project": lambda: _submit_and_remove(scene, submit, env),
        },
    )
    floor = taken[FLOOR]
    return [_figure(what, taken[what], floor, limit) for what, limit in BOUNDS.items()]


def _submit_and_remove(scene: Scene, submit: list[str], env: dict[str, str]) -> timing.Seconds:
    """The list must not grow while `status` is measured."""
    took = timing.run(submit, env)
    timing.run(tfctl("cancel", "@"), env)
    timing.run(tfctl("rm", "@"), env)
    return took


def _figure(what: str, taken: list[float], floor: list[float], limit: float) -> Figure:
    return Figure(
        what=what,
        value=1000 * timing.median(taken),
        unit="ms",
        others={FLOOR: 1000 * timing.median(floor)},
        ratio=timing.ratio(taken, floor),
        bound=Bound(limit=limit, of="ratio"),
        samples=len(taken),
        spread=_milliseconds(taken),
    )


def _milliseconds(taken: list[float]) -> tuple[float, float]:
    low, high = timing.quartiles(taken)
    return 1000 * low, 1000 * high
