"""One line for each GPU: its last minutes, how busy, full and hot it is, and who has it or why nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfctl.render.chart import sparkline
from tfctl.top.known import Known
from tfctl.top.spans import BAD, MUTED, WARNING, Column, Line, Span, clean, exactly, heading, row, total
from tfctl.top.trail import CELL, CELLS
from trainforge.api import GpuView, JobView
from trainforge.states import JobState

GIB = 2**30
WARM, HOT = 85, 92  # °C: from about here on data-centre GPUs slow themselves down
SHORTEST = 18  # cells of history: three minutes
HOLDER = 28  # cells for who has it
STYLES = {"free": MUTED, "releasing": WARNING, "foreign": WARNING, "set_aside": BAD, "drained": WARNING}


def pane(known: Known, width: int, rows: int, now: float) -> list[Line]:
    """The heading and at most `rows` GPUs; how many there are besides is said in the heading."""
    gpus = known.gpus.gpus if known.gpus is not None else ()
    trails, columns = _columns(width)
    hidden = len(gpus) - rows
    if hidden > 0:
        columns = (*columns[:-1], columns[-1]._replace(title=f"JOB … and {hidden} more"))
    lines = [exactly(heading(columns), width)]
    for gpu in gpus[:rows]:
        cells = _cells(known, gpu, trails, columns, now)
        lines.append(exactly(row(columns, cells), width))
    if not gpus and known.gpus is not None:
        problem = clean(known.gpus.problem or "the driver sees none; tfctl doctor says more")
        lines = [exactly((Span(f"no GPUs: {problem}", WARNING),), width)]
    return lines


def _columns(width: int) -> tuple[dict[str, int], tuple[Column, ...]]:
    """The columns, and the width of each history. A wide screen has a longer one, then more of them."""
    fixed = (
        Column("GPU", 3, right=True),
        Column("USE", 4, right=True),
        Column("MEM GiB", 9, right=True),
        Column("TEMP", 4, right=True),
        Column("POWER", 5, right=True),
    )
    room = width - total(fixed) - 2 - HOLDER
    trails = {"utilisation": max(0, min(CELLS, room))}
    if room >= 2 * SHORTEST + 1:
        names = ("utilisation", "memory", "power")[: 3 if room >= 4 * SHORTEST else 2]
        each = min(CELLS, (room - len(names)) // len(names))
        trails = dict.fromkeys(names, each)
    minutes = f"{trails['utilisation'] * CELL / 60:.0f} MIN"
    use, memory, temperature, power = fixed[1:]
    columns = [fixed[0], Column(f"USE, {minutes}", trails["utilisation"]), use._replace(title="")]
    columns += [Column(f"MEMORY, {minutes}", trails["memory"])] if "memory" in trails else []
    columns += [memory, temperature]
    if "power" in trails:
        columns += [Column(f"POWER, {minutes}", trails["power"]), power._replace(title="")]
    else:
        columns += [power]
    columns += [Column("JOB", max(8, width - 1 - total(columns)))]
    return trails, tuple(columns)


def _cells(
    known: Known, gpu: GpuView, trails: Mapping[str, int], columns: Sequence[Column], now: float
) -> list[Span]:
    def trail(figure: str, top: float | None, style: str) -> list[Span]:
        if figure not in trails:
            return []
        values = known.trails.of(gpu.uuid, figure).last(trails[figure], now)
        return [Span(sparkline(values, trails[figure], top or 1.0), style if gpu.job is not None else MUTED)]

    return [
        Span(str(gpu.index)),
        *trail("utilisation", 100.0, "green"),
        Span(_figure(gpu.utilisation, "%")),
        *trail("memory", float(gpu.memory_total), "cyan"),
        Span(_memory(gpu)),
        Span(_figure(gpu.temperature, "°C"), _warmth(gpu.temperature)),
        *trail("power", gpu.power_limit, "magenta"),
        Span(_figure(gpu.power, "W")),
        _holder(known.jobs, gpu, columns[-1].width),
    ]


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f}{unit}"


def _memory(gpu: GpuView) -> str:
    used = "-" if gpu.memory_used is None else _gib(gpu.memory_used)
    return f"{used}/{_gib(gpu.memory_total)}"


def _gib(amount: int) -> str:
    return f"{amount / GIB:.1f}" if amount < 100 * GIB else f"{amount / GIB:.0f}"


def _warmth(temperature: int | None) -> str:
    if temperature is None or temperature < WARM:
        return ""
    return BAD if temperature >= HOT else WARNING


def _holder(jobs: Mapping[int, JobView], gpu: GpuView, width: int) -> Span:
    """Whose job, or the state in a word, with the reason."""
    job = jobs.get(gpu.job) if gpu.job is not None else None
    if gpu.state == "leased" and gpu.job is not None:
        if job is None:
            return Span(f"{gpu.job}")
        state = "" if job.state is JobState.RUNNING else f" ({job.state})"
        named = f"{job.id} {job.name}{state}"
        whose = f"{named} · {clean(job.user)}"
        return Span(whose if len(whose) <= width else named)
    word = gpu.state.replace("_", " ")
    after = f" job {gpu.job}" if gpu.job is not None else ""
    reason = f": {clean(gpu.reason)}" if gpu.reason else ""
    return Span(word + after + reason, STYLES.get(gpu.state, MUTED))
