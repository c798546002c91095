"""Series that jobs reported: the newest values, all of them, or curves; several jobs side by side."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfctl.failures import NO_SUCH_JOB, Failure
from tfctl.output import coloured, print_json, styled, to_terminal, write_bytes
from tfctl.render.chart import Curve, chart
from tfctl.render.figures import counted, metric
from tfctl.render.plain import table
from tfctl.render.settings import differences
from tfctl.render.words import one_line
from tfctl.selection import job_argument, select
from tfctl.session import with_daemon
from trainforge.api import JobView, MetricsAnswer, PointsAnswer, Series
from trainforge.client.client import Client

COLOURS = tuple(f"\x1b[{code}m" for code in (36, 33, 32, 35, 34, 31, 96, 93))
HEIGHT = 12
LABEL = 40  # characters
MOST_POINTS = 10_000  # of a series in one answer
FEWEST_POINTS = 2


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser)
    parser.add_argument("--name", action="append", default=[], metavar="M", help="only this series")
    parser.add_argument("--plot", action="store_true", help="draw the curves")
    parser.add_argument("--json", action="store_true", help="one JSON document, up to 10,000 points of each")
    parser.add_argument(
        "--csv", action="store_true", help="a row for each point recorded, of all ranks, to standard output"
    )
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="the same, into a file (needs pyarrow)")


def run(args: argparse.Namespace) -> int:
    jobs, answers = with_daemon(args, lambda client: _fetch(client, args))
    if args.json:
        print_json(answers[0] if len(answers) == 1 else answers)
        return 0
    if not any(answer.series for answer in answers):
        raise Failure(_nothing(args, jobs), NO_SUCH_JOB if args.name else 1)
    if _exports(args):
        return _export(jobs, answers, args)
    if args.plot:
        styled().write("\n".join(plots(jobs, answers)) + "\n")
    else:
        print(_table(jobs, answers))
    return 0


def _nothing(args: argparse.Namespace, jobs: Sequence[JobView]) -> str:
    """That there is no series, or none of that name, and what there is."""
    names = [name for job in jobs if job.progress is not None for name in job.progress.metrics]
    if not args.name or not names:
        return "no series has been reported" + (": trainforge.report(loss=…) makes one" if not names else "")
    return f"no series called {', '.join(args.name)}; there are {', '.join(dict.fromkeys(names))}"


def _export(jobs: Sequence[JobView], answers: Sequence[MetricsAnswer], args: argparse.Namespace) -> int:
    """Where both are asked for, both are given. Of as many points as there may be, a part at a time."""
    from tfctl.render import export

    with Client() as client:
        if args.parquet is not None:
            count = export.write_parquet(export.rows(jobs, _parts(client, answers)), args.parquet)
            print(f"{counted(count, 'row')} in {args.parquet}", file=sys.stderr)
        if args.csv:
            for text in export.as_csv(export.rows(jobs, _parts(client, answers))):
                write_bytes(text)
    return 0


def _exports(args: argparse.Namespace) -> bool:
    return bool(args.csv) or args.parquet is not None


def _parts(client: Client, answers: Sequence[MetricsAnswer]) -> Iterator[PointsAnswer]:
    """Every point of the series that the answers name."""
    for answer in answers:
        for series in answer.series:
            cursor = None
            while True:
                part = client.points(answer.job, series.name, rank=answer.rank, cursor=cursor)
                yield part
                if (cursor := part.next) is None:
                    break


def _fetch(client: Client, args: argparse.Namespace) -> tuple[list[JobView], list[MetricsAnswer]]:
    """Of what is to be exported, hardly more than the names."""
    ids = select(client, args.jobs)
    points = MOST_POINTS if args.json else FEWEST_POINTS if _exports(args) else 1000
    answers = [client.metrics(i, args.name, points=points) for i in ids]
    if _exports(args) and not args.json:
        for answer in tuple(answers):
            others = [rank for rank in answer.ranks if rank != answer.rank]
            answers += [client.metrics(answer.job, args.name, points=points, rank=rank) for rank in others]
    return [client.job(i) for i in ids], answers


def _table(jobs: Sequence[JobView], answers: Sequence[MetricsAnswer]) -> str:
    """The newest values; above them, of several jobs, the settings in which they differ."""
    names = list(dict.fromkeys(series.name for answer in answers for series in answer.series))
    columns = [f"JOB {job.id}" for job in jobs] + ["LEAST", "MOST", "POINTS"][: 3 * (len(jobs) == 1)]
    rows = [["METRIC", *columns], *([name, *_values(name, answers)] for name in names)]
    if different := differences(jobs):
        settings = [[name, *map(one_line, values)] for name, values in different.items()]
        rows = [["SETTING", *columns], *settings, [""] * len(rows[0]), *rows]
    return table(rows[0], rows[1:], right=range(1, len(columns) + 1))


def _values(name: str, answers: Sequence[MetricsAnswer]) -> list[str]:
    """The newest value of each job; of a single job also the least, the most and how many."""
    out = []
    for answer in answers:
        series = next((series for series in answer.series if series.name == name), None)
        out.append(metric(series.value[-1]) if series is not None and series.value else "-")
        if len(answers) == 1 and series is not None:
            known = [value for value in series.numbers if value is not None]
            out += [metric(min(known)), metric(max(known))] if known else ["-", "-"]
            out.append(str(len(series.value)))
    return out


def plots(jobs: Sequence[JobView], answers: Sequence[MetricsAnswer], width: int | None = None) -> list[str]:
    """One chart for each series, with all jobs in it that reported any."""
    width = width or (shutil.get_terminal_size().columns if to_terminal() else 100)
    lines: list[str] = []
    drawn = [(job, answer) for job, answer in zip(jobs, answers, strict=True) if answer.series]
    jobs, answers = [job for job, _ in drawn], [answer for _, answer in drawn]
    labels = _labels(jobs)
    for name in dict.fromkeys(series.name for answer in answers for series in answer.series):
        curves = [
            _curve(series, label or one_line(name, LABEL))
            for label, answer in zip(labels, answers, strict=True)
            for series in answer.series
            if series.name == name
        ]
        lines += [one_line(name), *chart(curves, width, HEIGHT, COLOURS if coloured() else ()), ""]
    return lines[:-1]


def _labels(jobs: Sequence[JobView]) -> list[str]:
    """`job 3 LR=0.1` of several jobs; empty of a single one, whose curves are named by their series."""
    if len(jobs) == 1:
        return [""]
    different = differences(jobs)
    return [
        one_line(
            " ".join([f"job {job.id}", *(f"{name}={row[at]}" for name, row in different.items())]), LABEL
        )
        for at, job in enumerate(jobs)
    ]


def _curve(series: Series, label: str) -> Curve:
    changes = zip(series.attempt, series.attempt[1:], series.step[1:], strict=False)
    marks = [step for before, after, step in changes if before != after]
    return Curve(label, series.step, series.numbers, marks)
