"""Laws of orders and failures over random lives of a market, and planted bugs that show each law can fail."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import AuditFailed
from engine.market import failure, failure_decision, failure_placement, order_decision, order_queue, orders
from engine.market.end_reasons import EndReason
from engine.market.events import FleetLoaded, LeaseEnded, LeaseMoved, LeaseSpared
from engine.market.fleet_columns import Freed
from engine.market.order_prices import OrderPrices
from engine.market.state import Lease
from engine.service import failure_runner
from solvers.wake import MAYBE
from tests.full_size import size
from tests.market import upkeep_laws as laws
from tests.market.upkept import Life

ACTS = 24


def broken_laws(draw: random.Random, acts: int = ACTS) -> list[str]:
    """Live and check every law at every version or after the work, as it says; the first laws that break."""
    life, found = Life(draw), list[str]()
    market = life.market

    def check(event: Any) -> None:
        if isinstance(event, FleetLoaded):
            return  # its prices follow in the same batch
        found.extend(laws.conservation(market) + laws.beside(market) + laws.whole_gangs(market))
        if isinstance(event, LeaseMoved):
            found.extend(laws.constraints(market, event))
        if isinstance(event, LeaseEnded):
            lease = market.state.leases[event.lease_id]
            found.extend(laws.refunds(event, lease) + laws.given_up(market, event, lease))

    market.after_event = check
    for _ in range(acts):
        life.act()
        if draw.random() < 0.6:
            market.settle()
            found += laws.no_ground_lost(market) + laws.none_forgotten(market) + laws.conservation(market)
            found += laws.all_told(market)
        found += laws.fills(market)
        if found:
            return found
    if market.replayed().hash() != market.state.hash():
        found.append("a replay gives another state")
    return found


@settings(max_examples=size(15, 1_000))
@given(st.randoms(use_true_random=False))
def test_the_laws_of_orders_and_failures(draw: random.Random) -> None:
    """Laws 1 to 4 and 10, and those of orders: conservation, whole gangs, constraints and price after a move,
    exact refunds, no order above its limit, filled twice or forgotten, and the same hash after a replay."""
    assert broken_laws(draw) == []


def deaf_to_freed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Freed, "note", lambda self, nodes: None)


def deaf_to_prices(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OrderPrices, "moved", lambda self: None)


def cap_ignored(patch: pytest.MonkeyPatch) -> None:
    true = order_decision.terms_of

    def generous(state: Any, request: Any, book: Any) -> Any:
        terms = true(state, msgspec.structs.replace(request, max_price_micro_usd_per_gpu_hour=None), book)
        return msgspec.structs.replace(terms, request=request)

    patch.setattr(order_decision, "terms_of", generous)
    patch.setattr(OrderPrices, "price", lambda self, rows, fell: fell[:0])
    patch.setattr(order_queue.OrderIndex, "could_hold", lambda self, rows: np.full(rows.size, MAYBE))


def filled_and_still_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(orders, "_close", lambda state, order_id, how, at_us: None)


def any_site_will_do(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        failure_placement, "_close_to", lambda inventory, *_: np.ones(len(inventory.sites.names), dtype=bool)
    )
    patch.setattr(failure_placement, "_audit", lambda *_: None)


def torn_gang(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(failure_placement, "_joined", lambda inventory, kept, added: added)
    patch.setattr(failure_placement, "_audit", lambda *_: None)


def dearer_place(patch: pytest.MonkeyPatch) -> None:
    true = failure_placement._placed
    patch.setattr(failure_placement, "_placed", lambda inventory, demand, budget: true(inventory, demand, 10**12))
    patch.setattr(failure_placement, "_audit", lambda *_: None)


def no_refund(patch: pytest.MonkeyPatch) -> None:
    true = failure_decision.lease_ended
    patch.setattr(
        failure_decision,
        "lease_ended",
        lambda *given: msgspec.structs.replace(true(*given), refund_micro_usd=0),
    )


def loss_unseen(patch: pytest.MonkeyPatch) -> None:
    def nothing(state: Any, lease: Any) -> Any:
        return np.zeros(lease.standing.node_numbers.size, dtype=bool)

    patch.setattr(failure_decision, "uprooted", nothing)


def nobody_looks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(failure_runner, "uprooted_leases", lambda state, lease_ids: [])


def notice_without_end(patch: pytest.MonkeyPatch) -> None:
    true = failure_decision._lost

    def never(state: Any, lease: Any, reason: EndReason, now_us: int) -> Any:
        return [] if reason is EndReason.SUPPLIER_DRAINED else true(state, lease, reason, now_us)

    patch.setattr(failure_decision, "_lost", never)


def nobody_is_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(failure_decision, "_noticed", lambda state, lease, nodes, now_us: [])


def ended_by_the_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lease, "must_move", False)


def told_for_ever(patch: pytest.MonkeyPatch) -> None:
    true = failure_decision._noticed

    def deaf(*given: Any) -> Any:
        return [event for event in true(*given) if not isinstance(event, LeaseSpared)]

    patch.setattr(failure_decision, "_noticed", deaf)


def lent_and_kept(patch: pytest.MonkeyPatch) -> None:
    """The GPUs that a lease gives back for a look stay free in the eyes of placements."""
    true, forever = failure_placement._given_back, []

    def keep(inventory: Any, terms: Any) -> Any:
        if not terms.request.is_plain:
            return true(inventory, terms)
        forever.append(true(inventory, terms))
        forever[-1].__enter__()
        return nullcontext()

    patch.setattr(failure_placement, "_given_back", keep)


def remembers_too_little(patch: pytest.MonkeyPatch) -> None:
    """What is lost is kept somewhere that no event reaches."""
    true = failure.set_states

    def forgetful(state: Any, event: Any) -> None:
        true(state, event)
        state.liveness.heard.add(len(SEEN))
        SEEN.append(event)

    patch.setattr(failure, "set_states", forgetful)


SEEN: list[Any] = []
PLANTED: tuple[tuple[Callable[[pytest.MonkeyPatch], None], str], ...] = (
    (deaf_to_freed, "could be served and is not"),
    (deaf_to_prices, "could be served and is not"),
    (cap_ignored, "its limit makes"),
    (filled_and_still_open, "is OPEN with the lease"),
    (any_site_will_do, "ms apart"),
    (torn_gang, "has"),
    (dearer_place, "would cost"),
    (no_refund, "refunds 0"),
    (loss_unseen, "could have gone on"),
    (nobody_looks, "is told"),
    (notice_without_end, "is still on"),
    (nobody_is_told, "is told"),
    (told_for_ever, "is told"),
    (ended_by_the_clock, "could have gone on"),
    (lent_and_kept, "placements see other free GPUs"),
    (remembers_too_little, "a replay gives another state"),
)

RARE = {any_site_will_do: 30, told_for_ever: 90}
"""Of some that few lives show: where a quick run begins to look."""


@pytest.mark.parametrize(("plant", "finding"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_bug_breaks_a_law(
    plant: Callable[[pytest.MonkeyPatch], None], finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each law can fail: within 150 lives the bug is found, by the law that is meant to find it."""
    plant(monkeypatch)
    for seed in range(size(RARE.get(plant, 0), 0), 150):
        try:
            found = broken_laws(random.Random(seed), acts=40)
        except AuditFailed:
            continue
        if found:
            assert any(finding in each for each in found), found
            return
    raise AssertionError("not found")
