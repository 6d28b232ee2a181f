"""Parts of GPUs, CPU and memory in a market's life: packing, money, holds, losses, and planted bugs."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import AuditFailed, InvalidInput, Refused
from engine.domain.money import least_price_with_share, share_of_gpu
from engine.market import commands, terms
from engine.market.apply import apply, read_frame, write_frame
from engine.market.audit import faults_of
from engine.market.charges import Charge
from engine.market.events import FleetLoaded, decode, encode
from engine.market.explain import explain
from engine.market.inventory import Inventory
from engine.market.state import MarketState
from engine.market.use import Use
from tests.full_size import size
from tests.market.books import NoBook
from tests.market.small_market import SmallMarket
from tests.market.upkeep_laws import beside
from tests.market.upkept import Upkept
from tests.service.loopback import node

HOUR_S = 3_600
SPLITS = st.lists(st.integers(1, 999), min_size=2, max_size=12).filter(lambda parts: sum(parts) >= 1_000)


def part(milli: int, **fields: Any) -> ClusterRequest:
    return ClusterRequest(gpu_count=1, gpu_milli=milli, **fields)


def market_of(*nodes: Any) -> Upkept:
    market = Upkept()
    market.load(*nodes)
    return market


def card_of(market: Upkept, lease_id: str) -> tuple[str, int]:
    standing = market.standing(lease_id)
    return str(market.state.inventory.node_ids[standing.node_numbers[0]]), standing.card


@given(st.integers(1, 10**11), SPLITS)
def test_parts_of_a_card_never_bring_less_than_it_and_none_more(price: int, parts: list[int]) -> None:
    """Law: Σ shares >= the whole where the parts fill a card; each share <= the whole; the inverse is exact."""
    shares = [share_of_gpu(price, milli) for milli in parts]
    assert sum(shares) >= price >= max(shares) and min(shares) >= 1
    for share, milli in zip(shares, parts, strict=True):
        least = least_price_with_share(share, milli)
        assert share_of_gpu(least, milli) == share and (least == 1 or share_of_gpu(least - 1, milli) < share)


@settings(max_examples=size(10, 30))
@given(SPLITS, st.integers(1, 40), st.booleans(), st.integers(400_000, 3_000_000))
def test_a_lease_of_a_part_pays_its_share(parts: list[int], hours: int, curved: bool, long_run: int) -> None:
    """Law: over whole hours parts that fill a card pay at least its price, at flat prices and along a curve."""

    def total(**wanted: Any) -> int:
        market = SmallMarket([node("n1", gpu_count=1, ask_micro_usd_per_gpu_hour=1_000_003)])
        market.publish(2_000_001, long_run if curved else 2_000_001)
        return market.deploy(gpu_count=1, duration_s=hours * HOUR_S, **wanted).paid_micro_usd

    whole, totals = total(), [total(gpu_milli=milli) for milli in parts]
    assert all(paid <= whole for paid in totals)
    assert sum(totals) >= whole - (len(parts) if curved else 0)  # each total along a curve is rounded half up


def test_cards_of_models_that_were_never_priced_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 3 along a curve, whatever stands in memory that nobody has written to yet: here, model 0 for nothing."""
    monkeypatch.setattr(np, "empty_like", np.zeros_like)
    market = SmallMarket([node("n1", gpu_model="H100"), node("n2", gpu_model="A100")])
    market.publish(2_000_001, 1_000_003)
    for hours, model, name in ((10, "H100", "n1"), (20, "A100", "n2")):
        lease = market.deploy(gpu_count=1, gpu_milli=500, gpu_models=(model,), duration_s=hours * HOUR_S)
        assert market.state.inventory.node_ids[lease.terms.node_numbers].tolist() == [name]


def test_parts_share_a_card_and_give_it_back() -> None:
    """Parts go onto the card they fit best; with the last of them the card is a whole GPU again."""
    market = market_of(node("n1", gpu_count=2))
    first, second, third = (market.deploy(part(milli)) for milli in (500, 300, 600))
    assert [card_of(market, name) for name in (first, second, third)] == [("n1", 0), ("n1", 0), ("n1", 1)]
    fourth = market.deploy(part(200))  # 200 are left on card 0, 400 on card 1
    assert card_of(market, fourth) == ("n1", 0)
    assert market.state.inventory.unused.tolist() == [0] and not beside(market)
    with pytest.raises(Refused):
        market.deploy(part(401))
    for name in (first, second, third, fourth):
        market.release(name)
    assert market.state.inventory.unused.tolist() == [2]
    assert market.state.inventory.spare.cards.table().shape == (0, 3)
    assert market.replayed().hash() == market.state.hash()


def test_a_whole_gpu_is_never_placed_on_a_shared_card() -> None:
    """Law 1: a card of which a part is leased is no whole GPU, and the explanation says so."""
    market = market_of(node("n1", gpu_count=1))
    market.deploy(part(1))
    with pytest.raises(Refused, match="no placement"):
        market.deploy(ClusterRequest(gpu_count=1))
    assert explain(market.state, ClusterRequest(gpu_count=1), NoBook()).reason == "NO_CAPACITY"
    assert explain(market.state, part(999), NoBook()).terms is not None


def test_an_explanation_counts_cards_and_names_the_part_that_fits() -> None:
    """A part that fits nowhere is told how much of a card would do, with its price."""
    market = market_of(node("n1", gpu_count=1, cpu_milli=4_000))
    market.deploy(part(700, cpu_milli=1_000))
    found = explain(market.state, part(400, cpu_milli=3_500), NoBook())
    rows = {row.constraint: (row.gpus_alone, row.gpus_cumulative, row.gpus_without) for row in found.constraints}
    assert rows["gpu_milli"] == (0, 0, 0) and rows["cpu_milli"] == (0, 0, 0)
    found = explain(market.state, part(400, cpu_milli=3_000), NoBook())
    assert {(each.field, each.to_value) for each in found.relaxations} == {("gpu_milli", "300")}
    assert found.reason == "GPU_MILLI"
    found = explain(market.state, part(300, cpu_milli=3_001), NoBook())
    assert {(each.field, each.to_value) for each in found.relaxations} == {("cpu_milli", "3000")}
    assert found.reason == "CPU_MILLI"


def test_cpu_and_memory_are_taken_and_given_back() -> None:
    """CPU and memory bind by node and replica, and come back with the lease."""
    market = market_of(node("n1", cpu_milli=10_000, memory_mib=100), node("n2", cpu_milli=None, memory_mib=50))
    wanted = ClusterRequest(gpu_count=6, gpus_per_node=2, cpu_milli=4_000, memory_mib=20)
    lease = market.deploy(wanted)
    assert not beside(market)
    with pytest.raises(Refused):
        market.deploy(
            ClusterRequest(gpu_count=4, gpus_per_node=2, cpu_milli=4_000, memory_mib=20, gpu_models=("H100",))
        )
    market.release(lease)
    assert not beside(market) and market.replayed().hash() == market.state.hash()


def test_a_load_may_not_take_away_what_is_leased() -> None:
    """A load that leaves a node less CPU or memory than is leased there changes nothing and names both."""
    market = market_of(node("n1", cpu_milli=10_000, memory_mib=100))
    market.deploy(ClusterRequest(gpu_count=1, cpu_milli=6_000, memory_mib=60))
    with pytest.raises(InvalidInput) as caught:
        market.load(node("n1", cpu_milli=5_999, memory_mib=59))
    assert [violation.description for violation in caught.value.violations] == [
        "cpu_milli must be at least 6000, leased or held here",
        "memory_mib must be at least 60, leased or held here",
    ]
    market.load(node("n1", cpu_milli=6_000, memory_mib=60), node("n0"))
    assert not beside(market)


def test_a_held_part_is_deployed_or_given_back() -> None:
    """A quote of a part holds its place on the card; deployed once, it is a lease on that card."""
    market = market_of(node("n1", gpu_count=1))
    events, _ = market.submit(commands.IssueQuote("alice", part(600), 60, None, commands.HoldLimits()))
    with pytest.raises(Refused):
        market.deploy(part(401))
    market.submit(commands.DeployQuote("alice", events[0].quote_id))  # type: ignore[union-attr]
    assert not beside(market) and market.state.inventory.held_milli.tolist() == [0]
    market.submit(commands.IssueQuote("alice", part(400), 60, None, commands.HoldLimits()))
    market.clock_us += 61_000_000
    market.settle()
    assert not beside(market) and market.state.inventory.spare.cards.of(0) == {0: 400}


def test_a_part_moves_off_a_lost_node_or_is_paid_back() -> None:
    """Where a node is lost its parts go on elsewhere at the price they pay; without a place all is paid back."""
    market = market_of(node("n1", gpu_count=1), node("n2", gpu_count=1, ask_micro_usd_per_gpu_hour=2_100_000))
    market.publish({("H100", "us-east", "SECURE"): (2_200_000, 2_200_000)})
    moved = market.deploy(part(333, duration_s=2 * HOUR_S))
    before = market.standing(moved).rate_micro_usd_per_hour
    market.lose(card_of(market, moved)[0])
    market.settle()
    assert card_of(market, moved)[0] == "n2" and market.standing(moved).rate_micro_usd_per_hour == before
    market.lose("n2")
    market.settle()
    lease = market.state.leases[moved]
    assert (lease.end_reason, lease.charged_micro_usd) == ("NODE_LOST", 0) and not beside(market)


def test_an_extension_of_a_part_costs_its_share() -> None:
    """A part that runs an hour longer pays the share of that hour, and half the part half of it."""
    for curve in ((2_000_000, 2_000_000), (2_000_000, 4_000_000)):
        costs = []
        for milli in (None, 500):
            market = SmallMarket([node("n1", gpu_count=1)])
            market.publish(*curve)
            lease = market.deploy(gpu_count=1, gpu_milli=milli, duration_s=5 * HOUR_S)
            costs.append(market.extend(lease, 3 * HOUR_S))
            assert market.replayed().hash() == market.state.hash()
        assert costs[0] <= 2 * costs[1] <= costs[0] + 2


def test_an_order_for_a_part_is_served_when_a_part_goes() -> None:
    """A part that waits wakes when a shared card has room again, whatever whole GPUs are free."""
    market = market_of(node("n1", gpu_count=1))
    lease = market.deploy(part(700))
    order = market.place(part(500, max_price_micro_usd_per_gpu_hour=9_000_000))
    market.settle()
    assert market.state.orders[order].state == "OPEN"
    market.release(lease)
    market.settle()
    assert market.state.orders[order].state == "FILLED"


def test_a_journal_of_before_replays() -> None:
    """A load written when nodes had neither CPU nor memory, and terms without a card, are read as not limited."""
    market = market_of(node("n1", cpu_milli=None, memory_mib=None))
    state = MarketState()
    for payload in market.bytes:
        event = decode(payload)
        if isinstance(event, FleetLoaded):
            old = read_frame(event.nodes).drop("cpu_milli", "memory_mib")
            event = msgspec.structs.replace(event, nodes=write_frame(old))
        raw = msgspec.msgpack.decode(encode(event))
        raw.get("terms", {}).pop("card", None)
        apply(state, decode(msgspec.msgpack.encode(raw)))
    assert state.hash() == market.state.hash()


def on_two_nodes(sound: Any) -> Any:
    columns = {"nodes": [0, 1], "gpus": [1, 1]}
    packed = {name: np.array(values, dtype="<i4").tobytes() for name, values in columns.items()}
    return msgspec.structs.replace(sound, **packed, prices_micro_usd_per_gpu_hour=np.full(2, 800_000).tobytes())


def audited(**fields: Any) -> tuple[MarketState, Any]:
    market = market_of(node("n1", gpu_count=2), node("n2", gpu_count=1))
    market.deploy(part(600))
    return market.state, terms.terms_of(market.state, part(400, **fields), NoBook())


def test_the_audit_catches_what_is_wrong_with_a_part() -> None:
    """The audit can fail: a full card, one that is not there, a part on two nodes, and a part charged as whole."""
    state, sound = audited()
    replace = msgspec.structs.replace
    assert faults_of(state, sound) == []
    larger = ClusterRequest(gpu_count=1, gpu_milli=401, request_id=sound.request.request_id)
    for planted, told in (
        (replace(sound, request=larger), "more of a card"),
        (replace(sound, card=2), "does not have"),
        (replace(sound, card=-1), "none where it must"),
        (on_two_nodes(sound), "spreads"),
        (replace(sound, prices_micro_usd_per_gpu_hour=np.array([2_500_000]).tobytes()), "max(ask, posted)"),
        (replace(sound, request=ClusterRequest(gpu_count=1)), "without need"),
    ):
        assert any(told in fault for fault in faults_of(state, planted)), told


def test_a_whole_gpu_on_a_shared_card_is_caught() -> None:
    """Planted: the pools take a shared card for a free GPU; the audit stops the lease."""
    market = market_of(node("n1", gpu_count=1))
    market.deploy(part(600))
    market.state.inventory.pools.set_free(np.array([0]), np.array([1]))
    with pytest.raises(AuditFailed, match="more GPUs than are free"):
        market.deploy(ClusterRequest(gpu_count=1))


def test_memory_not_given_back_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a release forgets the memory; the books of leases and holds say so."""
    true = Inventory._take

    def forgetful(self: Inventory, use: Use, sign: int, *, held: bool) -> None:
        true(self, use if sign > 0 else use._replace(memory_mib=0), sign, held=held)

    monkeypatch.setattr(Inventory, "_take", forgetful)
    market = market_of(node("n1", memory_mib=100))
    market.release(market.deploy(ClusterRequest(gpu_count=1, memory_mib=60)))
    assert any("memory_mib" in fault for fault in beside(market))


def test_a_part_charged_as_a_whole_gpu_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the charge forgets the share; the audit stops the lease."""
    true = terms.charge_of

    def whole(inventory: Any, found: Any, duration_s: int, seen: Any, gpu_milli: int | None) -> Charge:
        return true(inventory, found, duration_s, seen, None)

    monkeypatch.setattr(terms, "charge_of", whole)
    with pytest.raises(AuditFailed, match="max"):
        market_of(node("n1")).deploy(part(600))


def test_a_part_keeps_a_price_limit_if_the_gpu_does() -> None:
    """Law: a limit is a price per hour of a whole GPU; shares that round alike do not let a dearer GPU in."""
    market = market_of(node("n1", ask_micro_usd_per_gpu_hour=2_000_000))
    with pytest.raises(Refused, match="above the cap"):
        market.deploy(part(1, max_price_micro_usd_per_gpu_hour=1_999_999))
    market.deploy(part(1, max_price_micro_usd_per_gpu_hour=2_500_000))
