"""What was used over time, as the page draws it. Pure, from what storage gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from trainforge.api.page import AttemptSpan, GpuLane, GpuSeries, GpusHistory, GpusTimeline, JobHistory, Span
from trainforged.core import messages as m
from trainforged.daemon.answering.views import moment
from trainforged.storage.metrics.history import Grid, KeptSpan, SeenGpu

SHORTEST = 1.0  # s that is told to be unknown
Held = Mapping[str, Sequence[tuple[float, float]]]  # UUID → from when to when


def gpus_history(
    gpus: Sequence[SeenGpu], grids: Mapping[str, Grid], since: float, until: float
) -> GpusHistory:
    step = next((grid.step for grid in grids.values()), 1)
    series = tuple(_series(gpu, grids[gpu.uuid]) for gpu in gpus if gpu.uuid in grids)
    return GpusHistory(from_=since, to=until, step=step, gpus=series)


def _series(gpu: SeenGpu, grid: Grid) -> GpuSeries:
    utilization, memory, temperature, power = (grid.column(number) for number in range(4))
    return GpuSeries(
        uuid=gpu.uuid,
        index=gpu.index,
        name=gpu.name,
        times=grid.times,
        utilization=utilization,
        memory=memory,
        memory_total=gpu.memory_total,
        temperature=temperature,
        power=power,
    )


def timeline(
    gpus: Sequence[SeenGpu],
    spans: Sequence[KeptSpan],
    shown: set[str],
    first_seen: Mapping[str, float],
    since: float,
    until: float,
) -> GpusTimeline:
    """Lanes of the GPUs in `shown`, and of all that have spans; cut to the time asked for. What was before a
    GPU was first seen is not known: it was not idle."""
    by_gpu: dict[str, list[Span]] = {}
    for span in [*_before(spans, first_seen, since, until), *spans]:
        by_gpu.setdefault(span.uuid, []).append(
            Span(
                from_=max(span.start, since),
                to=min(span.end, until),
                kind=span.kind,
                job=span.job,
                name=span.name,
                attempt=span.attempt,
                reason=span.reason,
            )
        )
    lanes = tuple(
        GpuLane(uuid=gpu.uuid, index=gpu.index, name=gpu.name, spans=tuple(by_gpu.get(gpu.uuid, ())))
        for gpu in gpus
        if gpu.uuid in shown or gpu.uuid in by_gpu
    )
    return GpusTimeline(from_=since, to=until, gpus=lanes)


def _before(
    spans: Sequence[KeptSpan], first_seen: Mapping[str, float], since: float, until: float
) -> Iterator[KeptSpan]:
    """The time in which nothing was known yet of each GPU."""
    first_span = {span.uuid: span.start for span in reversed(spans)}
    for uuid, seen in first_seen.items():
        begin = min(seen, first_span.get(uuid, until))
        if begin - since > SHORTEST:
            yield KeptSpan(uuid=uuid, start=since, end=min(begin, until), kind="unknown")


def job_history(
    used: Grid,
    gpus: Sequence[SeenGpu],
    grids: Mapping[str, Grid],
    attempts: Sequence[m.Attempt],
    until: float,
) -> JobHistory:
    held = held_times(attempts, until)
    cpu, memory, read, written, received, sent = (used.column(number) for number in range(6))
    return JobHistory(
        times=used.times,
        cpu=cpu,
        memory=memory,
        read=read,
        written=written,
        received=received,
        sent=sent,
        gpus=tuple(
            _series(gpu, _while_held(grids[gpu.uuid], held[gpu.uuid]))
            for gpu in gpus
            if gpu.uuid in held and gpu.uuid in grids
        ),
        attempts=tuple(
            AttemptSpan(
                attempt=attempt.number,
                started_at=moment(attempt.started_at or attempt.granted_at),
                ended_at=moment(attempt.ended_at) if attempt.ended_at is not None else None,
                reason=attempt.reason,
            )
            for attempt in attempts
        ),
    )


def held_times(attempts: Iterable[m.Attempt], until: float) -> Held:
    held: dict[str, list[tuple[float, float]]] = {}
    for attempt in attempts:
        for uuid in attempt.gpus:
            end = attempt.ended_at if attempt.ended_at is not None else until
            held.setdefault(uuid, []).append((attempt.granted_at, end))
    return held


def _while_held(grid: Grid, held: Sequence[tuple[float, float]]) -> Grid:
    """Of a step that begins before the job had the GPU and ends in it, the whole counts."""
    rows = {
        t: row
        for t, row in grid.rows.items()
        if any(start < t + grid.step and t <= end for start, end in held)
    }
    return Grid(start=grid.start, step=grid.step, count=grid.count, rows=rows)
