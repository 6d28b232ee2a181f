"""Giving back replicas: what stays is the cheapest choice that keeps every constraint, against trying all."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import AuditFailed, InvalidInput, Refused
from engine.market import shrink_decision
from engine.market.audit import placement_faults
from engine.market.events import LeaseMoved
from engine.market.state import Lease
from tests.full_size import size
from tests.market.small_market import SmallMarket
from tests.service.loopback import PLACES, node

ROWS = st.lists(
    st.tuples(st.sampled_from((2_600_000, 2_700_000, 2_800_000)), st.integers(0, 2), st.sampled_from((2, 4)),
              st.sampled_from(tuple(PLACES))),
    min_size=2,
    max_size=6,
)  # fmt: skip
"""(ask above the posted price, supplier, GPUs, site)."""


def market(rows: list[tuple[int, int, int, str]]) -> SmallMarket:
    return SmallMarket(
        node(f"n{place}", ask_micro_usd_per_gpu_hour=ask, supplier_id=f"s{supplier}", gpu_count=gpus, site_id=site)
        for place, (ask, supplier, gpus, site) in enumerate(rows)
    )


def deployed(place: SmallMarket, replicas: int, per_node: int, share: float | None, rtt_ms: float | None) -> Lease:
    wanted: dict[str, Any] = {"gpu_count": replicas * per_node, "gpus_per_node": per_node, "duration_s": 7_200}
    return place.deploy(**wanted, max_supplier_share=share, max_cluster_rtt_ms=rtt_ms)


def best_rate(lease: Lease, suppliers: list[int], staying: int) -> int | None:
    """The least Σ gpus·price of so many staying GPUs with no supplier above its share, by trying every choice."""
    standing, best = lease.standing, None
    unit, share = standing.request.gpus_per_node, standing.request.max_supplier_share
    rooms = [range(0, gpus + 1, unit) for gpus in standing.gpus_per_node.tolist()]
    for chosen in product(*rooms):
        if sum(chosen) != staying:
            continue
        given = np.bincount(suppliers, weights=chosen)
        if share is not None and (given > np.floor(share * staying + 1e-9)).any():
            continue
        rate = int(np.dot(chosen, standing.prices))
        best = rate if best is None else min(best, rate)
    return best


@settings(max_examples=size(30, 600))
@given(
    ROWS,
    st.integers(2, 8),
    st.sampled_from((1, 2)),
    st.sampled_from((None, 0.5, 0.67)),
    st.sampled_from((None, 80.0)),
    st.integers(1, 7),
)
def test_what_stays_is_the_cheapest_choice(
    rows: list[tuple[int, int, int, str]], replicas: int, per_node: int, share: float | None, rtt_ms: float | None,
    given_back: int,
) -> None:  # fmt: skip
    """Laws 2 and 3: whole replicas leave; shares, RTTs and the rest hold; no other choice costs less; if there is
    none, it is refused. The refund of now is the difference of the rates over the hours left."""
    place = market(rows)
    try:
        lease = deployed(place, replicas, per_node, share, rtt_ms)
    except (Refused, InvalidInput):
        return
    before, inventory = lease.standing, place.state.inventory
    suppliers = inventory.nodes.supplier[before.node_numbers].tolist()
    staying = before.request.gpu_count - given_back * per_node
    best = best_rate(lease, suppliers, staying) if staying > 0 else None
    if best is None:
        with pytest.raises((Refused, InvalidInput)):
            place.shrink(lease, given_back)
        assert lease.standing == before and lease.refunded_micro_usd == 0
        return
    refund = place.shrink(lease, given_back)
    after = lease.standing
    assert after.rate_micro_usd_per_hour == best
    assert (after.request.gpu_count, int(after.gpus_per_node.sum())) == (staying, staying)
    seen = inventory.glance(after.node_numbers)
    assert not placement_faults(inventory, after, seen._replace(unused=seen.unused + after.gpus_per_node))
    assert refund == 2 * (before.rate_micro_usd_per_hour - best)
    assert int(inventory.leased.sum()) == staying and lease.fencing_epoch == 2
    assert place.release(lease) == 2 * best


def test_ties_free_whole_nodes_first() -> None:
    """Law 10: among equal prices the node leaves that becomes idle by it, then the one with fewer replicas, then
    the less reliable, then the later id."""
    place = SmallMarket([
        node("a", gpu_count=4, reliability=0.9), node("b", gpu_count=4), node("c", gpu_count=8, gpu_free=4),
    ])  # fmt: skip
    lease = place.deploy(gpu_count=12)
    names = []
    while lease.standing.request.gpu_count > 4:
        place.shrink(lease, 4)
        names.append([place.state.inventory.node_ids[number] for number in lease.standing.node_numbers])
    assert names == [["b", "c"], ["c"]]


def test_a_lease_that_was_moved_gives_back_what_was_paid_for_its_dearest() -> None:
    """Laws 2 and 6: after a move the nodes of now decide who leaves, the prices as sold what is paid back."""
    asks = {"a": 2_600_000, "b": 2_800_000, "c": 3_500_000}
    place = SmallMarket([node(name, gpu_count=2, ask_micro_usd_per_gpu_hour=ask) for name, ask in asks.items()])
    lease = place.deploy(gpu_count=4)
    nodes, gpus, prices = ([0, 2], "<i4"), ([2, 2], "<i4"), ([2_700_000, 2_700_000], "<i8")
    columns = [np.array(values).astype(kind).tobytes() for values, kind in (nodes, gpus, prices)]
    place.take(
        LeaseMoved(
            at_us=place.now_us,
            lease_id=lease.lease_id,
            nodes=columns[0],
            gpus=columns[1],
            prices_micro_usd_per_gpu_hour=columns[2],
        )
    )
    assert place.shrink(lease, 1) == 2_800_000
    assert lease.standing.gpus_per_node.tolist() == [2, 1]
    place.extend(lease, 3_600)
    assert place.release(lease) == lease.paid_micro_usd - 2_800_000
    assert place.replayed().hash() == place.state.hash()


def test_a_share_that_cannot_hold_is_refused() -> None:
    """Law 3: half and half of four cannot become three with at most half from each."""
    place = SmallMarket([node("a", gpu_count=2), node("b", gpu_count=2, supplier_id="bolt")])
    lease = place.deploy(gpu_count=4, max_supplier_share=0.5)
    with pytest.raises(Refused) as refusal:
        place.shrink(lease, 1)
    assert refusal.value.reason == "MAX_SUPPLIER_SHARE"
    place.shrink(lease, 2)
    assert lease.standing.gpus_per_node.tolist() == [1, 1]


@pytest.mark.parametrize("replicas", [4, 5, 10**6])
def test_not_the_whole_lease(replicas: int) -> None:
    """Law 9: to give back everything is to release."""
    place = SmallMarket([node("a")])
    lease = place.deploy(gpu_count=4)
    with pytest.raises(InvalidInput):
        place.shrink(lease, replicas)


def test_the_audit_catches_a_choice_that_breaks_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the choice forgets shares; nothing is changed."""
    place = SmallMarket([node("a", gpu_count=2), node("b", gpu_count=2, supplier_id="bolt")])
    lease = place.deploy(gpu_count=4, max_supplier_share=0.5)
    monkeypatch.setattr(shrink_decision, "staying", lambda *_: np.array([2, 0]))
    with pytest.raises(AuditFailed):
        place.shrink(lease, 2)
    assert lease.standing.gpus_per_node.tolist() == [2, 2]
