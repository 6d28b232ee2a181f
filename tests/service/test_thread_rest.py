"""A thread that works beside the loop rests after each small piece, and only then."""

from __future__ import annotations

import pytest

from engine.service import thread_rest
from engine.service.thread_rest import PIECE_ITEMS, PIECE_S, REST, ThreadRest, rested


class Clock:
    """Time that passes when it is told to, and what was slept."""

    def __init__(self) -> None:
        self.now_s, self.slept_s = 100.0, list[float]()

    def thread_time(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(thread_rest, "time", clock)
    return clock


def test_law_rests_follow_work_in_proportion(clock: Clock) -> None:
    """Law: less than a piece of work is not rested after; more is, for REST times as long."""
    rest = ThreadRest()
    rest()
    assert clock.slept_s == [], "whatever a thread did before is not of this epoch"
    clock.now_s += PIECE_S / 2
    rest()
    assert clock.slept_s == []
    clock.now_s += PIECE_S
    rest()
    assert clock.slept_s == [pytest.approx(REST * 1.5 * PIECE_S)]
    rest()
    assert len(clock.slept_s) == 1


def test_another_thread_begins_anew(clock: Clock) -> None:
    """Law: the CPU time of another thread, which may be less, is no work of this one."""
    rest = ThreadRest()
    rest()
    clock.now_s = 3.0
    rest()
    clock.now_s += 2 * PIECE_S
    rest()
    assert clock.slept_s == [pytest.approx(REST * 2 * PIECE_S)]


def test_a_loop_rests_after_each_few_hundred_items() -> None:
    """Law: all items come, in their order, with rests in between and none before the first."""
    seen: list[int | str] = []
    for item in rested(range(2 * PIECE_ITEMS + 1), lambda: seen.append("rest")):
        seen.append(item)
    assert [item for item in seen if item != "rest"] == list(range(2 * PIECE_ITEMS + 1))
    assert [place for place, item in enumerate(seen) if item == "rest"] == [PIECE_ITEMS, 2 * PIECE_ITEMS + 1]
