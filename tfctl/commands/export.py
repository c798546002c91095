"""Print a batch script for Slurm that runs what `tfctl submit` would run: tfctl export > job.sbatch

It takes what submit takes to say which job that is. Nothing is queued, and no daemon is needed.
"""

from __future__ import annotations

import argparse
import datetime

from tfctl.commands import submit
from tfctl.render.slurm import script
from tfctl.targets import read_target
from trainforge.jobfile.checks import check

split, hint = submit.split, submit.hint


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "tfctl export [PROJECT_DIR|JOB_FILE|SCRIPT.py] [options] [-- COMMAND or script arguments]"
    submit.what_to_run(parser)


def run(args: argparse.Namespace) -> int:
    target = read_target(args, args.words, {})
    spec = check(target.tree, now=datetime.datetime.now().astimezone())
    print(script(spec, target.root), end="")
    return 0
