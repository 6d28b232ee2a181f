"""The engine's own work lets calls through, and its garbage is collected in small steps."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest

from engine.service import garbage, pauses
from engine.service.garbage import Garbage
from engine.service.pauses import REST, Pauses


class Times:
    """A clock that pieces of work move, and what was slept."""

    def __init__(self) -> None:
        self.now_s, self.slept = 0.0, list[float]()

    def perf_counter(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def test_work_rests_as_long_as_calls_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: after a piece of work it rests REST times as long if a call came, and not at all otherwise."""
    times, engine = Times(), SimpleNamespace(calls=0)
    monkeypatch.setattr(pauses, "time", times)
    monkeypatch.setattr(pauses, "asyncio", times)
    work = Pauses(engine)  # type: ignore[arg-type]

    async def pieces() -> None:
        for took_s, called in ((0.004, 0), (0.002, 1), (0.001, 0), (0.008, 3)):
            times.now_s += took_s
            engine.calls += called
            await work.pause()

    asyncio.run(pieces())
    assert times.slept == pytest.approx([0, REST * 0.002, 0, REST * 0.008])


@pytest.fixture
def kept() -> Any:
    """Garbage on an engine; the interpreter is as before afterwards."""
    before, engine = gc.get_threshold(), SimpleNamespace(calls=0)
    tending = Garbage(engine)  # type: ignore[arg-type]
    tending.begin()
    yield tending, engine
    tending.end()
    gc.set_threshold(*before)
    gc.unfreeze()


class Cycle:
    """Refers to itself."""

    alive = 0

    def __init__(self) -> None:
        self.me = self
        Cycle.alive += 1

    def __del__(self) -> None:
        Cycle.alive -= 1


def test_what_survives_is_walked_once_and_cycles_go_in_a_quiet_moment(
    kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law: a full collection freezes what survives; a cycle that becomes garbage then stays until nobody calls."""
    tending, engine = kept
    monkeypatch.setattr(garbage, "WHOLE_AFTER", 2)
    young = Cycle()
    del young
    gc.collect()
    assert Cycle.alive == 0
    old = Cycle()
    gc.collect()
    assert not any(each is old for each in gc.get_objects()), "it is frozen"
    del old
    gc.collect()
    assert Cycle.alive == 1
    engine.calls += 1
    tending.tick()
    assert Cycle.alive == 1, "somebody called"
    tending.tick()
    assert Cycle.alive == 0
    frozen = Cycle()
    tending.tick()
    assert gc.get_freeze_count() and frozen.me, "too early to walk everything again"


def test_a_full_collection_comes_soon_after_the_start(kept: Any) -> None:
    """Law: Python's wait for a quarter of what lives does not apply to what is frozen."""
    tending, _ = kept
    before = tending._since_whole
    held = [[number] for number in range(60_000)]
    assert tending._since_whole > before and held
