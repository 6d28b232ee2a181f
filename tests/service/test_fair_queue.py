"""Who is served when not all can be (law 9: too much is refused with a hint, nothing is lost, nothing crashes)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput, Overloaded
from engine.service.fair_queue import FULL_RETRY_S, WAIT_MAX_S, FairQueue
from engine.service.plan_store import PLANS_MAX, PlanStore
from engine.service.planner_turns import RESERVED_S, PlannerTurns
from engine.trust.quotas import Buckets, Quotas
from tests.full_size import size

FAR_S = 1_000.0


class Steps:
    """A queue, a clock that moves when told, and calls that stay in until they are told to leave."""

    def __init__(self, running_max: int = 1, waiting_max: int = 64) -> None:
        self.now_s = 0.0
        self.queue = FairQueue(Quotas(running_max=running_max, waiting_max=waiting_max), lambda: self.now_s)
        self.served: list[str] = []
        self.leaving: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def call(self, name: str, *, mutates: bool, ends_s: float) -> None:
        since_s = await self.queue.enter(name.partition(" ")[0], mutates=mutates, ends_s=ends_s)
        self.served.append(name)
        try:
            await self.leaving[name].wait()
        finally:
            self.queue.leave(since_s)

    async def come(self, name: str, *, mutates: bool = True, ends_s: float = FAR_S) -> None:
        self.leaving[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self.call(name, mutates=mutates, ends_s=ends_s))
        await settle()

    async def go(self) -> None:
        """Whoever has been in longest leaves."""
        name = next(each for each in self.served if not self.leaving[each].is_set())
        self.leaving[name].set()
        await settle()

    async def finish(self) -> Counter[str]:
        """Let all of them through; outcomes by kind."""
        for event in self.leaving.values():
            event.set()
        done = await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        return Counter(type(each).__name__ for each in done)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_accounts_take_turns() -> None:
    """A flood of one account does not put it before another: after one of its calls comes the other's."""

    async def run() -> None:
        steps = Steps()
        for number in range(20):
            await steps.come(f"flood {number}")
        await steps.come("honest 0")
        await steps.come("honest 1")
        for _ in range(4):
            await steps.go()
        assert steps.served == ["flood 0", "flood 1", "honest 0", "flood 2", "honest 1"]
        assert (await steps.finish())["NoneType"] == 22

    asyncio.run(run())


def test_planted_queue_that_serves_who_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug, one line for all accounts, is seen by the test above."""
    honest = FairQueue._wait
    monkeypatch.setattr(FairQueue, "_wait", lambda self, line, _, ends_s: honest(self, line, "all", ends_s))
    with pytest.raises(AssertionError):
        test_accounts_take_turns()


def test_nobody_waits_for_longer_than_it_takes_to_come_back() -> None:
    """Law 9: a call that would wait for more than WAIT_MAX_S, by what calls took, is refused with a hint at once;
    one of another account, behind which nobody waits, is not."""

    async def run() -> None:
        steps = Steps(waiting_max=1_000)
        await steps.come("flood 0")
        steps.now_s += 1.0  # it took a second: the mean is above LEARNING
        await steps.go()
        await steps.come("flood running")
        for number in range(1, 100):
            await steps.come(f"flood {number}")
        waits = sum(not task.done() for task in steps.tasks.values()) - 1
        assert waits == int(WAIT_MAX_S / steps.queue._mean_s) + 1
        refusal = steps.tasks["flood 99"].exception()
        assert isinstance(refusal, Overloaded)
        assert (refusal.reason, refusal.retry_after_s) == ("QUEUE_FULL", FULL_RETRY_S)
        assert steps.queue.is_full("flood", mutates=True) and not steps.queue.is_full("honest", mutates=True)
        await steps.finish()

    asyncio.run(run())


def test_changes_go_before_reads() -> None:
    async def run() -> None:
        steps = Steps()
        await steps.come("a 0")
        await steps.come("a read", mutates=False)
        await steps.come("b change")
        await steps.go()
        assert steps.served == ["a 0", "b change"]
        await steps.finish()
        assert steps.served[-1] == "a read"

    asyncio.run(run())


def test_what_would_be_late_is_dropped_first() -> None:
    """A call whose deadline is gone, or nearly, takes no turn: it is told so and the next one is served."""

    async def run() -> None:
        steps = Steps()
        await steps.come("a 0")
        await steps.come("a late", ends_s=1.0)
        await steps.come("a in time")
        steps.now_s = 1.0
        await steps.go()
        assert steps.served == ["a 0", "a in time"]
        outcome = steps.tasks["a late"].exception()
        assert isinstance(outcome, Overloaded) and outcome.reason == "TOO_LATE" and outcome.retry_after_s > 0
        await steps.come("a never", ends_s=0.5)
        assert isinstance(steps.tasks["a never"].exception(), Overloaded)
        await steps.finish()

    asyncio.run(run())


def test_a_full_queue_refuses_its_own_account_only() -> None:
    async def run() -> None:
        steps = Steps(waiting_max=3)
        for number in range(6):
            await steps.come(f"flood {number}")
        full = [task.exception() for task in steps.tasks.values() if task.done()]
        assert [error.reason for error in full if isinstance(error, Overloaded)] == ["QUEUE_FULL"] * 2
        await steps.come("honest 0")
        assert not steps.tasks["honest 0"].done()
        assert (await steps.finish()) == Counter(NoneType=5, Overloaded=2)

    asyncio.run(run())


@settings(max_examples=size(60, 600), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["come", "go", "cancel"]), st.integers(0, 3), st.booleans(), st.floats(0.0, 20.0)
        ),
        max_size=40,
    ),
    st.integers(1, 3),
)
def test_nobody_is_lost_and_no_place_leaks(moves: list[tuple[str, int, bool, float]], running_max: int) -> None:
    """However calls come, go and are cancelled: at most running_max are in, all end, the gate opens again."""

    async def run() -> None:
        steps = Steps(running_max, waiting_max=4)
        for number, (move, account, mutates, ends_s) in enumerate(moves):
            steps.now_s += 0.5
            inside = [name for name in steps.served if not steps.tasks[name].done()]
            assert len(inside) <= running_max
            if move == "come":
                await steps.come(f"{account} {number}", mutates=mutates, ends_s=steps.now_s + ends_s)
            elif move == "go" and inside:
                steps.leaving[inside[0]].set()
            elif move == "cancel" and steps.tasks:
                list(steps.tasks.values())[account % len(steps.tasks)].cancel()
            await settle()
        outcomes = await steps.finish()
        assert sum(outcomes.values()) == len(steps.tasks)
        assert set(outcomes) <= {"NoneType", "Overloaded", "CancelledError"}
        for number in range(running_max):
            await steps.come(f"after {number}", ends_s=FAR_S)
            assert f"after {number}" in steps.served
        await steps.finish()

    asyncio.run(run())


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=60))
def test_a_bucket_gives_no_more_than_its_rate(calls: list[tuple[float, int]]) -> None:
    """In any time t an account gets at most burst + rate·t, and waiting as long as told is enough."""
    now_s = [0.0]
    buckets, given_ = Buckets(2.0, 10.0, lambda: now_s[0]), 0
    for after_s, cost in calls:
        now_s[0] += after_s
        if (missing_s := buckets.missing_s("a", cost)) > 0:
            now_s[0] += missing_s + 1e-6
            assert buckets.missing_s("a", cost) == 0.0
        buckets.take("a", cost)
        given_ += cost
        assert given_ <= 10.0 + 2.0 * now_s[0] + 1e-6
    assert buckets.missing_s("b", 10.0) == 0.0


@pytest.mark.parametrize("bad", [{"calls_per_s": 0}, {"running_max": -1}, {"waiting_max": float("nan")}])
def test_quotas_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Quotas(**bad)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.0, 6.0)), max_size=60))
def test_who_used_the_planner_lets_others_go_first(asks: list[tuple[str, float]]) -> None:
    """However two tenants ask, a search of one is followed by the other's if that was sent away and comes back."""
    now_s, busy_until_s, order = [0.0], 0.0, []
    turns = PlannerTurns(lambda: now_s[0])
    sent_away: dict[str, float] = {}
    for tenant, after_s in asks:
        now_s[0] += after_s
        other = "b" if tenant == "a" else "a"
        try:
            with turns.turn(tenant):
                if now_s[0] < busy_until_s:
                    raise Overloaded("another plan is being made", 5.0)
        except Overloaded as refusal:
            if refusal.reason != "PLANNER_TURN":
                sent_away[tenant] = now_s[0]
            continue
        waited_for = now_s[0] - sent_away.get(other, -RESERVED_S) < RESERVED_S
        assert not (order[-1:] == [tenant] and waited_for)
        order.append(tenant)
        sent_away.pop(tenant, None)
        busy_until_s = now_s[0] + 4.0


def test_a_busy_tenant_pushes_out_its_own_plans() -> None:
    """Plans beyond the limit are those of who keeps most: the only plan of another tenant stays."""
    store = PlanStore(lambda: 0)
    made: Any = None
    honest = store.add("honest", made, made, made, 0.0, "", {})
    for number in range(60):
        store.add(f"busy-{number % 5}", made, made, made, 0.0, "", {})
    assert store.find("honest", honest.plan_id) is not None
    assert len(store._plans) == PLANS_MAX
