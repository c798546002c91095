"""The live view's screens, as text: what stands where, what is left out, and that nothing ever spills."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.client.topping import (
    NOW,
    TODAY,
    busy,
    event,
    gpu,
    job,
    known,
    looked,
    replaced,
    row_of,
    screen,
    training,
)  # fmt: skip
from tests.support import quickest, spent
from tfctl.top.control import Ask, Change, View
from tfctl.top.frame import Size, frame
from tfctl.top.known import Away, Known, Notice
from trainforge.api import Progress
from trainforge.states import JobState


def test_everything_is_on_a_screen_of_80_by_24() -> None:
    lines = screen(busy())

    assert lines[0].startswith("TrainForge  8 GPUs, 0 free  8 running  14 queued")
    assert lines[0].endswith(f"{TODAY.astimezone():%H:%M:%S}")
    assert lines[1].split() == ["GPU", "USE,", "4", "MIN", "MEM", "GiB", "TEMP", "POWER", "JOB"]
    assert [line[:3].strip() for line in lines[2:10]] == list("01234567")
    assert lines[2].rstrip().endswith("▇████  97% 40.0/80.0 71°C  512W 1 cifar100-resnet1 · alice")
    assert lines[10].startswith("8 RUNNING … 2 more    PROGRESS")
    assert lines[11] == "▸  1 cifar100-resnet1 ━━━──────────    50/200   1.235 0.6123   1234  1:30:00   1"
    assert [line[:4].strip() for line in lines[12:17]] == list("23456")
    assert lines[17].startswith("14 WAITING … and 11 more GPU WHY")
    assert lines[18].rstrip() == "   9 job-9               1   4 GPUs: 2 free; job 11 holds GPU 2, 3 …"
    assert lines[21].split() == [f"{TODAY.astimezone():%H:%M:%S}", "job", "39", "attempt", "1", "started"]
    assert lines[22].split()[2] == "38"
    assert lines[23].startswith("q quit   ↑↓ choose   l log   c cancel   h hold   s sort: id   ? help")


def test_a_wide_screen_shows_more() -> None:
    lines = screen(busy(), 200, 50)

    assert "MEMORY, 8 MIN" in lines[1]
    assert "POWER, 8 MIN" in lines[1]
    assert lines[0].rstrip().split("  ")[-4:-1] == [
        " 60/64 cores free",
        "50.0 GiB of memory free",
        "load 1.5",
    ]
    heading = next(line for line in lines if "RUNNING" in line).split()
    assert row_of(" ".join(heading[2:])) == (
        "GPUS PROGRESS % EPOCH LOSS ACC VAL ACC IMG/S CORES MEMORY ELAPSED ETA TRY"
    )
    queue = next(line for line in lines if "WAITING" in line)
    assert "SINCE" in queue
    assert queue.index("│") < queue.index("EVENTS"), "queue and events stand beside each other"
    assert sum("attempt 1 started" in line for line in lines) > 20


def test_a_tall_screen_gives_every_list_its_room() -> None:
    lines = screen(busy(), 120, 60)
    assert any(line.startswith("8 RUNNING ") for line in lines)
    assert any(line.startswith("14 WAITING ") and "more" not in line for line in lines)
    assert any(line.startswith("EVENTS") for line in lines)


ANY_TEXT = st.text(max_size=60) | st.sampled_from(
    ["精度" * 30, "a\x1b[2Jb\nc\r\x00", "🧪" * 20, "e\u0301" * 50]
)


@given(
    st.integers(1, 220), st.integers(1, 70), st.integers(0, 18), st.integers(0, 20), st.integers(0, 30),
    ANY_TEXT, st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_a_frame_is_exactly_as_large_as_the_screen(
    width: int, height: int, gpus: int, running: int, waiting: int, words: str, helping: bool
) -> None:
    """Whatever is said, and however small the screen is."""
    progress = Progress(epoch=3.0, metrics={words: 1.0, "loss": None}, phase=words)
    jobs = [
        training(n, user=words, progress=progress if n % 2 else Progress(metrics={words: 2.0}))
        for n in range(running)
    ]
    jobs += [
        job(100 + n, JobState.HELD if n % 5 == 0 else JobState.QUEUED, why=words) for n in range(waiting)
    ]
    jobs.append(job(10**9, JobState.FAILED, why=words))
    devices = [
        gpu(n, state="foreign" if n % 3 else "leased", job=n or None, reason=words) for n in range(gpus)
    ]
    found = known(*jobs, gpus=devices, events=[event(1, message=words), event(2, "gpu_found", None, words)])

    lines = frame(found, View(helping=helping), Size(width, height), NOW)

    assert len(lines) == height
    for line in lines:
        assert sum(cell_len(span.text) for span in line) == width
        assert all(span.text.isprintable() for span in line)


def test_what_does_not_fit_is_counted() -> None:
    many = known(*(training(n) for n in range(20)), gpus=[gpu(n) for n in range(16)], queued=100_000)
    lines = screen(many)
    shown = sum("━" in line for line in lines)
    assert f"20 RUNNING … {20 - shown} more" in "\n".join(lines)
    gpus = sum("512W" in line for line in lines)
    assert 4 <= gpus < 16
    assert f"JOB … and {16 - gpus} more" in lines[1]

    queue = known(*(job(n, JobState.QUEUED) for n in range(40)), queued=100_000)
    assert any(line.startswith("100000 WAITING ") for line in screen(queue))


def test_the_edges() -> None:
    found = known(training(1), job(2, JobState.HELD), job(3, JobState.BACKOFF), gpus=[gpu(0, simulated=True)])
    assert "1 simulated GPU, 1 free  1 running  0 queued  1 backoff  1 held" in screen(found)[0]
    assert "h release" in screen(found, view=View(selected=2))[-1]
    assert screen(found, view=View(confirming=Change(Ask.CANCEL, 1)))[-1].startswith(
        "cancel job 1 (job-1)?  y / n"
    )
    found.take(Notice(at=NOW.ticks - 1, text="job 1\nis stopping"))
    assert screen(found)[-1].startswith("job 1 is stopping")
    found.take(Notice(at=NOW.ticks - 60, text="job 1 is stopping"))
    assert screen(found)[-1].startswith("q quit")
    found.take(Away(since=TODAY))
    assert f"daemon away since {TODAY.astimezone():%Y-%m-%d %H:%M}, waiting for it" in screen(found)[0]
    found.take(Away(since=None))
    assert "away" not in screen(found)[0]
    full = looked(training(1))
    found.take(replaced(full, status=replaced(full.status, disk_free=2**30)))
    assert "1.0 GiB of disk left" in screen(found)[0]
    assert screen(Known())[0].startswith("TrainForge  connecting …")


def test_help_fits() -> None:
    lines = screen(busy(), view=View(helping=True))
    assert not any("…" in line for line in lines)
    assert any(line.startswith("  q ") for line in lines)
    assert lines[-1].startswith("any key goes back")


def test_a_frame_is_cheap() -> None:
    """Two a second must stay below a twentieth of a core, so a frame has 25 ms; it takes about 2."""
    found = busy()

    def twenty() -> None:
        for n in range(20):
            frame(found, View(), Size(80, 24), NOW._replace(ticks=NOW.ticks + n))

    assert quickest(lambda: spent(twenty) / 20, 0.015) < 0.015
