"""What keys do to the live view: choosing, sorting, asking, and never by accident."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.topping import NOW, gpu, history, job, known, looked, training
from tfctl.top.control import Ask, Change, Effect, OpenLog, Order, Quit, Rows, View, press, rows, settle
from tfctl.top.keys import decode
from tfctl.top.known import Known
from tfctl.top.trail import CELLS, Trail, Trails
from trainforge.api import GpuList, Progress
from trainforge.states import JobState


def typed(found: Known, keys: list[str], view: View | None = None) -> tuple[View, list[Effect]]:
    """The view and the effects after these keys."""
    view, effects = view or View(), []
    for key in keys:
        view, effect = press(view, key, rows(found, view.order, NOW.time))
        effects += [effect] if effect is not None else []
    return view, effects


@pytest.fixture
def found() -> Known:
    """Jobs 1 and 2 run, 3 waits, 4 is held, 5 has just ended."""
    return known(
        training(1),
        training(2, 0.75),
        job(3, JobState.QUEUED),
        job(4, JobState.HELD),
        job(5, JobState.FAILED),
    )


def test_arrows_go_through_both_lists(found: Known) -> None:
    seen = []
    view = View()
    for key in ("down", "j", "j", "down", "down", "up", "k", "home", "end", "pageup", "G", "g"):
        view, _ = typed(found, [key], view)
        seen.append(view.selected)
    assert seen == [2, 5, 3, 4, 4, 3, 5, 1, 4, 1, 4, 1]
    assert typed(known(), ["down", "l", "c", "h"]) == (View(), [])


def test_cancelling_asks_first(found: Known) -> None:
    view, effects = typed(found, ["c"])
    assert view.confirming == Change(Ask.CANCEL, 1)
    assert effects == []
    assert typed(found, ["c", "y"]) == (View(selected=1), [Change(Ask.CANCEL, 1)])
    for other in ("n", "q", "c", "enter", "escape", "down"):
        assert typed(found, ["c", other]) == (View(selected=1), [])


def test_holding_asks_only_for_what_runs(found: Known) -> None:
    assert typed(found, ["h"])[1] == []
    assert typed(found, ["h", "y"])[1] == [Change(Ask.HOLD, 1)]
    assert typed(found, ["h"], View(selected=3))[1] == [Change(Ask.HOLD, 3)]
    assert typed(found, ["h"], View(selected=4))[1] == [Change(Ask.RELEASE, 4)]


def test_an_ended_job_only_has_a_log(found: Known) -> None:
    keys = ["c", "y", "h", "y", "l", "enter", "L"]
    assert typed(found, keys, View(selected=5))[1] == [OpenLog(5), OpenLog(5), OpenLog(5, pager=True)]


def test_the_other_keys(found: Known) -> None:
    assert typed(found, ["q"])[1] == [Quit()]
    assert typed(found, ["?"])[0].helping
    assert typed(found, ["?", "q"]) == (View(), [])
    assert typed(found, ["x", "escape", "left", "ä"]) == (View(selected=1), [])
    assert [typed(found, ["s"] * n)[0].order for n in range(5)] == [*Order, Order.ID]


def test_orders() -> None:
    jobs = [
        training(1, 0.2, user="carol", progress=Progress(fraction=0.2, eta=10.0)),
        training(2, user="bob", progress=None),
        training(3, user="alice", progress=Progress(fraction=0.9, eta=500.0)),
        job(9, JobState.QUEUED, user="bob"),
        job(4, JobState.QUEUED, user="alice"),
    ]
    orders = {order: [job.id for job in rows(known(*jobs), order, NOW.time).all] for order in Order}
    assert orders == {
        Order.ID: [1, 2, 3, 9, 4],
        Order.PROGRESS: [3, 1, 2, 9, 4],
        Order.ETA: [1, 3, 2, 9, 4],
        Order.USER: [3, 2, 1, 4, 9],
    }


def test_when_the_chosen_job_ends_its_neighbour_is_chosen() -> None:
    before, after = known(training(1), training(2), training(3)), known(training(1), training(3))
    after.take(looked(training(1), training(3), job(2, JobState.SUCCEEDED)))

    def shown(found: Known) -> Rows:
        return rows(found, Order.ID, NOW.time)

    assert settle(View(selected=2), shown(before), shown(after)).selected == 3
    assert settle(View(selected=3), shown(before), shown(known(training(1)))).selected == 1
    assert settle(View(selected=1), shown(before), shown(after)).selected == 1
    assert settle(View(selected=2), shown(after), shown(after)).selected == 2, "it was chosen as it is"
    assert settle(View(selected=2), shown(before), shown(known())).selected == 2


# ------------------------------------------------------------ keys of a terminal


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]), (b"\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]), (b"\r\n", ["enter", "enter"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~", ["pageup", "pagedown", "home", "end"]),
        (b"\x1b[1;5A\x1b[200~x\x1b[?1;2c", ["x"]), (b"\x1b", ["escape"]), (b"\x1bq", ["escape", "q"]),
        ("äj界".encode(), ["ä", "j", "界"]), (b"\x01\x02 \x7f", ["space", "backspace"]),
        (b"\xff\xfe", []),
    ],
)  # fmt: skip
def test_bytes_as_keys(data: bytes, keys: list[str]) -> None:
    assert decode(data, whole=True) == (keys, b"")


@given(
    st.lists(st.sampled_from([b"q", b"\x1b[A", b"\x1bOB", b"\x1b[5~", "ä界".encode(), b"\r"]), max_size=8),
    st.data(),
)
def test_keys_may_come_in_pieces(parts: list[bytes], data: st.DataObject) -> None:
    """A key whose bytes come one by one is the same key."""
    whole = b"".join(parts)
    expected, _ = decode(whole, whole=True)
    keys, rest = [], b""
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        more, rest = decode(rest + whole[:size])
        keys += more
        whole = whole[size:]
    assert (keys, rest) == (expected, b"")


@given(st.binary(max_size=40))
def test_any_bytes_are_read_to_their_end(data: bytes) -> None:
    keys, rest = decode(data, whole=True)
    assert rest == b""
    assert all(key and key.isprintable() for key in keys)


# ------------------------------------------------------------ histories


def test_a_trail_keeps_means_bound_to_the_clock() -> None:
    trail = Trail()
    for when, value in ((100.0, 10.0), (109.9, 30.0), (110.0, 50.0), (131.0, None), (132.0, 7.0)):
        trail.add(when, value)
    assert trail.last(5, 135.0) == [None, 20.0, 50.0, None, 7.0]
    assert trail.last(3, 140.0) == [None, 7.0, None]
    for n in range(1000):
        trail.add(200.0 + n, float(n))
    assert len(trail.last(CELLS, 1199.0)) == CELLS
    assert trail.last(200, 1199.0).count(None) == 200 - CELLS - 1


def test_the_daemons_history_is_where_trails_begin() -> None:
    trails = Trails()
    trails.fill(GpuList(gpus=(gpu(0, history=history(600, 1.0)), gpu(1))), 1000.0)
    values = trails.of("GPU-0", "utilisation").last(60, 1000.0)
    assert None not in values
    assert values == sorted(values)  # type: ignore[type-var]
    assert trails.of("GPU-1", "utilisation").last(3, 1000.0) == [None] * 3
    trails.add(GpuList(gpus=(gpu(0), gpu(1, power=None))), 1011.0)
    assert trails.of("GPU-0", "utilisation").last(1, 1011.0) == [97.0]
    assert trails.of("GPU-1", "power").last(1, 1011.0) == [None]
