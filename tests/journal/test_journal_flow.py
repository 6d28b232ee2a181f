"""Waiting and being told: groups, bounds, many waiters, the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from engine.domain.errors import InvalidInput, Overloaded, Unavailable
from engine.journal import GENESIS, Head, Journal, Limits
from engine.journal.durability import Durability

Stall = Callable[[Path], AbstractContextManager[None]]


def test_all_that_waits_is_committed_at_once(
    tmp_path: Path, stalled: Stall, transactions: Callable[[Path], int]
) -> None:
    with Journal.open(tmp_path) as journal:
        journal.append([b"first"], 1).result()
        before = transactions(tmp_path)
        with stalled(tmp_path):
            receipts = [journal.append([b"%d" % i, b"more"], i) for i in range(500)]
            assert journal.durable_sequence == 1
        assert [receipt.result() for receipt in receipts] == [2 * i + 3 for i in range(500)]
        assert transactions(tmp_path) - before <= 2, "what the writer had taken, and all the rest"


def test_what_is_gathered_is_written_together_and_in_order(
    tmp_path: Path, transactions: Callable[[Path], int]
) -> None:
    """Law 4: batches are numbered as they come, nothing is durable before the end, then all of it; an error
    inside does not lose what was taken."""
    with Journal.open(tmp_path) as journal:
        journal.append([b"first"], 1).result()
        before = transactions(tmp_path)
        with pytest.raises(ValueError, match="inside"), journal.gathering():
            receipts = [journal.append([b"%d" % i, b"more"], i) for i in range(100)]
            assert [receipt.sequence for receipt in receipts] == [2 * i + 3 for i in range(100)]
            assert journal.durable_sequence == 1
            raise ValueError("inside")
        assert [receipt.result() for receipt in receipts] == [2 * i + 3 for i in range(100)]
        assert transactions(tmp_path) - before <= 2, "what the writer had taken first, and all the rest"
        assert [entry.payload for entry in journal.replay(1)][::2] == [b"%d" % i for i in range(100)]


def test_many_waiters_cost_one_wake_up_of_the_loop_a_commit(tmp_path: Path, stalled: Stall) -> None:
    class CountingLoop(asyncio.SelectorEventLoop):
        wake_ups = 0

        def call_soon_threadsafe(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            self.wake_ups += 1
            return super().call_soon_threadsafe(*args, **kwargs)

    async def run(journal: Journal) -> list[int]:
        with stalled(tmp_path):
            waiting = [asyncio.ensure_future(journal.append([b"x"], 1)) for _ in range(300)]
            await asyncio.sleep(0)
            assert not any(future.done() for future in waiting)
        return await asyncio.gather(*waiting)

    loop = CountingLoop()
    with Journal.open(tmp_path) as journal:
        assert loop.run_until_complete(run(journal)) == list(range(1, 301))
        assert 1 <= loop.wake_ups <= 2
    loop.close()


@pytest.mark.parametrize("limits", [Limits(waiting_batches_max=3), Limits(waiting_bytes_max=12)])
def test_too_much_waiting_is_overload_and_nothing_is_enqueued(
    tmp_path: Path, stalled: Stall, limits: Limits
) -> None:
    with Journal.open(tmp_path, limits) as journal:
        for appended in (3, 6, 9):
            with stalled(tmp_path):
                for _ in range(3):
                    journal.append([b"four"], 1)
                with pytest.raises(Overloaded) as caught:
                    journal.append([b"four"], 1)
                assert caught.value.retry_after_s > 0
                assert journal.append([], 1).sequence == journal.appended_sequence == appended
            assert journal.append([], 1).result() == appended


def test_a_batch_larger_than_the_queue_goes_through_alone(tmp_path: Path) -> None:
    with Journal.open(tmp_path, Limits(waiting_bytes_max=10)) as journal:
        assert journal.append([b"x" * 1_000], 1).result() == 1


def test_no_events_are_a_barrier(tmp_path: Path, stalled: Stall) -> None:
    with Journal.open(tmp_path) as journal:
        with stalled(tmp_path):
            journal.append([b"one", b"two"], 1)
            barrier = journal.append([], 2)
            with pytest.raises(TimeoutError):
                barrier.result(timeout_s=0)
        assert barrier.result() == 2
        assert len(list(journal.replay())) == 2


def test_what_becomes_durable_while_a_waiter_enlists_is_not_missed() -> None:
    durability = Durability(GENESIS)

    class RacingLoop(asyncio.SelectorEventLoop):
        def create_future(self) -> asyncio.Future[None]:
            durability.advance(Head(1, bytes(32)))
            return super().create_future()

    loop = RacingLoop()
    waiting = loop.create_task(durability.reached(1))
    loop.run_until_complete(asyncio.sleep(0))
    assert waiting.done()
    loop.close()


def test_waiters_that_gave_up_hurt_nobody(tmp_path: Path, stalled: Stall) -> None:
    async def give_up_and_wait(journal: Journal) -> int:
        with stalled(tmp_path):
            given_up = asyncio.ensure_future(journal.append([b"one"], 1))
            kept = asyncio.ensure_future(journal.append([b"two"], 1))
            await asyncio.sleep(0)
            given_up.cancel()
        return await kept

    with Journal.open(tmp_path) as journal:
        assert asyncio.run(give_up_and_wait(journal)) == 2
        assert journal.append([b"three"], 1).result() == 3


def test_a_loop_closed_with_waiters_in_it_does_not_stop_the_writer(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    with Journal.open(tmp_path) as journal:
        abandoned = loop.create_task(journal.wait_durable(99))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        assert journal.append([b"one"], 1).result() == 1
        assert journal.append([b"two"], 1).result() == 2
        assert journal.failure is None
    assert not abandoned.done()


def test_waiting_for_what_never_comes_ends_with_the_journal(tmp_path: Path) -> None:
    async def run() -> None:
        journal = Journal.open(tmp_path)
        early = asyncio.ensure_future(journal.append([b"one"], 1))
        never = asyncio.ensure_future(journal.wait_durable(2))
        await asyncio.sleep(0)
        journal.close()
        assert await early == 1
        with pytest.raises(Unavailable, match="closed"):
            await never

    asyncio.run(run())


def test_a_closed_journal_is_unavailable_and_closes_again(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    receipt = journal.append([b"one"], 1)
    journal.close()
    journal.close()
    assert receipt.result() == journal.durable_sequence == 1
    with pytest.raises(Unavailable, match="closed"):
        journal.append([b"two"], 1)


@pytest.mark.parametrize(
    ("events", "recorded_at_us", "violations"),
    [
        ([b"fine", "text", bytearray(1)], 1, 2),
        ([b"four"], 1, 1),
        ([b"ok"], -1, 1),
        ([b"ok"], 2**63, 1),
    ],
)
def test_bad_events_never_reach_the_writer(
    tmp_path: Path, events: list[bytes], recorded_at_us: int, violations: int
) -> None:
    limits = Limits(event_bytes_max=3 if events == [b"four"] else 100)
    with Journal.open(tmp_path, limits) as journal:
        with pytest.raises(InvalidInput) as caught:
            journal.append(events, recorded_at_us)
        assert len(caught.value.violations) == violations
        assert journal.append([b"ok"], 0).result() == 1


def test_limits_name_every_bad_one() -> None:
    with pytest.raises(InvalidInput, match=r"waiting_batches_max.*event_bytes_max"):
        Limits(waiting_batches_max=0, event_bytes_max=-1)
