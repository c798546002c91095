"""`python -m benchmarks [NAME…]`: measure, print, and write down. Without a NAME: all of them.

    python -m benchmarks                    everything; about half an hour on a quiet machine
    python -m benchmarks commands idle      only these
    python -m benchmarks --quick commands   a few seconds, to see that it works: the figures mean little,
                                            and are written down only where --results says

A bound that is missed does not fail the run unless --strict is given. On a machine that is busy with
other things, --realtime (as root) takes what they take out of the times: everything measured, and what
it is measured beside, then goes before them; keep such a run short, since they stand still meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path

from benchmarks import machine, report
from benchmarks.figures import Result
from benchmarks.scene import Scene

BENCHMARKS = {
    "commands": "what a command costs in the shell",
    "submissions": "durable submissions: alone, together, by 500 clients at once",
    "starting": "from submission to the job's first instruction",
    "recovery": "from a killed rank to the next new step, and from a killed daemon to its jobs",
    "in_job": "what a report and a checkpoint cost the job",
    "training": "images per second under TrainForge and by hand",
    "training_speed": "images per second of the training project and of a straightforward loop",
    "training_accuracy": "what light and heavy augmentation are worth (needs DATA_DIR)",
    "gpu": "the training project on a GPU (needs one)",
    "metrics": "samples that jobs report: taking in, reading, room on disk",
    "long_queue": "with 100,000 jobs queued",
    "page": "the web page with 1,000 jobs, 50 of them running",
    "load": "`status` while 500 clients, slow readers, gigabytes and 10,000 records a second come in",
    "idle": "what the daemon and its shims cost when nothing happens",
    "peers": "beside task-spooler, gflow and Slurm, where they are installed",
}
RESULTS = Path(__file__).parent / "results"


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    if args.realtime:
        machine.go_first()
    met = True
    for name in args.names or BENCHMARKS:
        result = run(name, quick=args.quick)
        print(report.as_text(result), flush=True)
        met = met and not result.missed
        folder = args.results or (None if args.quick else RESULTS)
        if folder is not None:
            report.write(result, folder)
            report.write_summary(folder, BENCHMARKS)
    return 1 if args.strict and not met else 0


def run(name: str, *, quick: bool = False) -> Result:
    """One benchmark, in a folder and with daemons of its own."""
    module = importlib.import_module(f"benchmarks.{name}")
    before = machine.conditions()
    with Scene(quick=quick) as scene:
        disk = machine.fdatasyncs(scene.folder)
        measured = module.measure(scene)
    return Result(
        name=name,
        title=BENCHMARKS[name],
        figures=tuple(measured),
        notes=tuple(scene.notes),
        quick=quick,
        machine=machine.describe(scene.folder, disk),
        before=before,
        after=machine.conditions(),
    )


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    names = "\n".join(f"  {name:<12} {title}" for name, title in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--realtime", action="store_true", help="run before all else on this machine")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bound is missed")
    parser.add_argument("--results", type=Path, metavar="DIR", help=f"where to write (default: {RESULTS})")
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    return args


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and so end what was started
    sys.exit(main())
