"""Laws of a slow store: callers are told, nothing is lost, and it goes on by itself when the store does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine.domain.errors import Unavailable
from engine.journal import Journal, Limits, Place

STALL = Limits(stall_s=5)


class Store:
    """Holds back commits, and with them the clock by which the journal calls them slow."""

    def __init__(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self._go_on, self._begun = threading.Event(), threading.Event()
        append = journal._writer._pen.append

        def held_back(*arguments: Any) -> None:
            self._begun.set()
            self._go_on.wait()
            append(*arguments)

        monkeypatch.setattr(journal._writer._pen, "append", held_back)
        monkeypatch.setattr("engine.journal.writer.time.perf_counter", lambda: self.now_s)

    def pass_s(self, seconds: float) -> None:
        """Time goes on, the commit under way does not."""
        assert self._begun.wait(30)
        self.now_s += seconds

    def go_on(self) -> None:
        self._go_on.set()


@pytest.fixture
def held(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Journal, Store]]:
    with Journal.open_at(place, STALL) as journal:
        store = Store(journal, monkeypatch)
        yield journal, store
        store.go_on()


def test_a_stalled_journal_refuses_until_the_store_goes_on(held: tuple[Journal, Store]) -> None:
    journal, store = held
    receipt = journal.append([b"slow"], 1)
    store.pass_s(5)
    journal.append([b"waits"], 2)  # slow, but not stalled yet
    store.pass_s(0.1)
    for events in ([b"more"], []):
        with pytest.raises(Unavailable, match="nothing became durable for 5 s"):
            journal.append(events, 3)
    store.go_on()
    assert receipt.result() == 1
    assert journal.append([], 4).result() == 2
    assert journal.append([b"again"], 5).result() == 3
    assert [entry.payload for entry in journal.replay()] == [b"slow", b"waits", b"again"]


def test_those_who_wait_are_told_that_the_outcome_is_unknown(held: tuple[Journal, Store]) -> None:
    journal, store = held

    async def run() -> None:
        waiting = [asyncio.ensure_future(_until(journal.append([b"%d" % n], n))) for n in range(3)]
        await asyncio.sleep(0)
        journal.refuse_stalled()
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiting), "nothing is stalled yet"
        store.pass_s(6)
        journal.refuse_stalled()
        for each in waiting:
            with pytest.raises(Unavailable, match="not confirmed"):
                await each
        store.go_on()
        assert await journal.wait_durable(3) == 3, "and then it happened after all"

    asyncio.run(run())


async def _until(receipt: Any) -> int:
    return int(await receipt)


def test_an_idle_journal_is_not_stalled(held: tuple[Journal, Store]) -> None:
    journal, store = held
    store.go_on()
    journal.append([b"one"], 1).result()
    store.pass_s(1_000)
    assert journal.append([b"two"], 2).result() == 2
