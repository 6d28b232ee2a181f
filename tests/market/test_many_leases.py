"""Leases decided together: the same as one by one, audited by other code, and told apart when they are wrong."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.domain.cluster_request import ClusterRequest, parse_cluster_request, with_gpu_count
from engine.domain.errors import AuditFailed, WalrasError
from engine.domain.tiers import NodeState
from engine.market import commands
from engine.market.apply import apply
from engine.market.decide import decide
from engine.market.events import AnyEvent, Key, LeasesStarted, decode
from engine.market.ledger.check import LedgerCheck
from engine.market.ledger.rules import LedgerRules
from engine.market.many_audit import faults_of_many
from engine.market.many_decision import may_be_many
from engine.market.many_leases import each_of
from engine.market.published import packed
from engine.market.state import MarketState
from engine.market.state_codec import capture, restore
from solvers.mixed_turns import _Walker
from solvers.placement import Placer
from tests.full_size import size
from tests.market.books import NoBook
from tests.market.ledger.market import LedgerMarket
from tests.market.small_market import published
from tests.service.loopback import node as row
from tests.worlds import World, world_from_seed

METHOD = "DeployCluster"
WORLDS = size(40, 120)
PLACE_MANY = Placer.place_many
NOT_OF_MANY = {"same_fabric", "max_cluster_rtt_ms", "max_supplier_share", "tenant_id", "submitted_at_us"}


def market_of(seed: int, world: World) -> LedgerMarket:
    """A market with the world's fleet, at flat or forward prices, where some nodes are taken or out of service."""
    random = Random(seed)
    rules = LedgerRules(require_deposit=random.random() < 0.2, burn_ppm=random.choice((0, 10_000)))
    market = LedgerMarket(rules, nodes=0)
    market.load(world.fleet)
    if random.random() < 0.5:
        market.do(commands.PublishPrices(_epoch(market.state, random)))
    if rules.require_deposit or random.random() < 0.3:
        market.deposit(random.choice((10**6, 10**8, 10**9)))
    for node in range(len(world.fleet)):
        if random.random() < 0.1:
            node_id = str(market.state.inventory.node_ids[node])
            market.do(commands.SetNodeState(node_id, random.choice((NodeState.DRAINING, NodeState.DOWN))))
    return market


def _epoch(state: MarketState, random: Random) -> Any:
    """Prices that differ from market to market, and run differently."""
    event = published(state, 1, 1, 1, 1, 7.3)
    rows = [[random.choice((1, 900_001, 1_300_000, 2_000_003)) for _ in event.markets] for _ in range(2)]
    flat = [[value] * len(event.markets) for value in (1, 10**9, 1, 0, 0)]
    columns = [rows[0], flat[0], flat[1], rows[1], rows[0], flat[3], flat[4]]
    return msgspec.structs.replace(event, columns=packed(np.array(columns, dtype=np.int64)))


def wanted_in(seed: int, world: World) -> commands.DeployMany:
    """The world's request in some sizes, without the rules that keep leases from being decided together."""
    random = Random(seed + 1)
    fields = {name: value for name, value in world.request.items() if name not in NOT_OF_MANY}
    fields |= {"duration_s": random.choice((1, 1_800, 3_600, 5_000, 90_000)), "interruptible": False}
    fields["request_id"] = random.choice((None, "mine"))
    request = parse_cluster_request(fields)
    g = request.gpus_per_node
    sizes = [g * replicas for replicas in random.sample(range(1, 5), random.randint(1, 3))]
    many = random.randint(1, 12)
    keys = [random.choice(("", f"k{place}", f"k{place}", "again")) for place in range(many)]
    by_size = tuple((gpus, bytes([gpus % 256]) * 32) for gpus in sizes)
    chosen = [random.randrange(len(sizes)) for _ in range(many)]
    return commands.DeployMany("alice", with_gpu_count(request, sizes[0]), by_size, chosen, keys, METHOD, 60)


def mixed_in(seed: int, world: World) -> commands.DeployMany:
    """Up to four variants of the world's request in mixed order, which may want the same GPUs or others."""
    random, alike = Random(seed + 2), wanted_in(seed, world)
    kinds = [(request, 60) for request in alike.requests]
    models = sorted({node["gpu_model"] for node in world.fleet})
    for _ in range(random.randint(1, 3)):
        request, retry_s = random.choice(kinds)
        changed = random.choice(
            (
                {"duration_s": random.choice((600, 7_200, 200_000))},
                {"gpu_models": (random.choice(models),)},
                {"min_reliability": random.choice((0.5, 0.97))},
                {"max_price_micro_usd_per_gpu_hour": random.choice((900_000, 2_500_000))},
                {"request_id": "other"},
            )
        )
        kinds.append((msgspec.structs.replace(request, **changed), random.choice((0, retry_s))))
    sizes = tuple((request.gpu_count, bytes([place]) * 32) for place, (request, _) in enumerate(kinds))
    chosen = [random.randrange(len(kinds)) for _ in alike.keys]
    return replace(alike, request=kinds[0][0], sizes=sizes, size_of=chosen, kinds=tuple(kinds))


def alone(command: commands.DeployMany, place: int) -> commands.DeployCluster:
    """One of the leases as a call of its own."""
    size = command.size_of[place]
    _, body_hash = command.sizes[size]
    retry_s = command.kinds[size][1] if command.kinds else command.retry_on_loss_s
    key = Key(command.tenant_id, command.method, command.keys[place], body_hash) if command.keys[place] else None
    return commands.DeployCluster(command.tenant_id, command.requests[size], key, False, retry_s)


def one_by_one(market: LedgerMarket, command: commands.DeployMany) -> list[str]:
    """Decide all of them one by one; what became of each."""
    return [_tried(market, alone(command, place)) for place in range(len(command.keys))]


def _tried(market: LedgerMarket, command: commands.DeployCluster) -> str:
    try:
        events = market.do(command)
    except WalrasError as error:
        return f"{error.reason}: {error}"
    return events[0].lease_id if events else "known"  # type: ignore[union-attr]


def together(market: LedgerMarket, command: commands.DeployMany) -> list[str]:
    """The same as a batch does it: together up to what is in the way, that by itself, and on."""
    outcomes: list[str] = []
    while len(outcomes) < len(command.keys):
        done = len(outcomes)
        rest = replace(command, size_of=command.size_of[done:], keys=command.keys[done:])
        pools = market.state.inventory.pools
        before = pools.free.copy(), pools.histogram.copy(), market.state.version
        decide(market.state, rest, market.now_us, NoBook())
        assert (before[0] == pools.free).all() and (before[1] == pools.histogram).all()
        assert before[2] == market.state.version
        for event in market.do(rest):
            assert isinstance(event, LeasesStarted)
            outcomes += [each.lease_id for each in each_of(event)]
        if len(outcomes) < len(command.keys):
            outcomes.append(_tried(market, alone(command, len(outcomes))))
    return outcomes


def flat(events: list[AnyEvent]) -> list[AnyEvent]:
    return [each for event in events for each in (each_of(event) if isinstance(event, LeasesStarted) else [event])]


@settings(max_examples=size(40, 3_000), deadline=None)
@given(st.integers(0, 10**9), st.booleans())
@example(2755, True)  # a known key ends it before any gang of two shapes that share a model
def test_leases_decided_together_are_those_decided_one_by_one(seed: int, mixed: bool) -> None:
    """Law: events, state, refusals and books are the same, and deciding changes nothing; a replay and a snapshot
    give the state again; the ledger's twin finds nothing wrong."""
    world = world_from_seed(seed, 30)
    command = (mixed_in if mixed else wanted_in)(seed, world)
    single, many = market_of(seed, world), market_of(seed, world)
    assert together(many, command) == one_by_one(single, command)
    assert flat(many.events) == single.events
    assert many.state.hash() == single.state.hash()
    assert many.state.changes.kept == single.state.changes.kept
    assert sorted(many.state.due) == sorted(single.state.due)
    replayed, check = MarketState(), LedgerCheck()
    for sequence, payload in enumerate(many.payloads, 1):
        apply(replayed, decode(payload))
        check.follow(sequence, decode(payload))
    assert replayed.hash() == many.state.hash() and replayed.sequence == len(many.payloads)
    assert not check.finish()
    assert dict(+check.balances) == {name: left for name, left in many.state.books.balances.items() if left > 0}
    snapshot = restore(capture(many.state)())
    assert snapshot.hash() == many.state.hash() and snapshot.sequence == many.state.sequence


def test_worlds_have_leases_decided_together_and_refused_ones() -> None:
    """The law above is about something: many leases begin together, some are refused between them."""
    started = refused = mixed = 0
    for seed in range(WORLDS):
        world = world_from_seed(seed // 2, 30)
        market = market_of(seed // 2, world)
        outcomes = together(market, (mixed_in if seed % 2 else wanted_in)(seed // 2, world))
        begun = [event for event in market.events if isinstance(event, LeasesStarted)]
        started += sum(event.count for event in begun)
        mixed += sum(len(set(np.frombuffer(event.size_of, "<i4").tolist())) > 1 for event in begun if event.kinds)
        refused += sum(":" in outcome for outcome in outcomes)
    assert started > 5 / 3 * WORLDS and refused > 5 / 6 * WORLDS and mixed > 1 / 6 * WORLDS


@pytest.fixture
def decided() -> tuple[MarketState, LeasesStarted]:
    """A state and leases that could begin in it, of three sizes, on several nodes each, at forward prices."""
    market = LedgerMarket(nodes=40)
    market.do(commands.PublishPrices(_epoch(market.state, Random(1))))
    request = ClusterRequest(8, gpus_per_node=2, duration_s=100_000, gpu_models=("H100",), min_reliability=0.5)
    sizes = ((12, b"a" * 32), (4, b"b" * 32), (20, b"c" * 32))
    command = commands.DeployMany("alice", request, sizes, [0, 1, 2, 1, 0], ["", "a", "b", "c", "d"], METHOD)
    (event,) = decide(market.state, command, market.now_us, NoBook())
    assert isinstance(event, LeasesStarted) and event.count == 5
    return market.state, event


def _moved(column: bytes, place: int, by: int, kind: str = "<i4") -> bytes:
    values = np.frombuffer(column, dtype=kind).copy()
    values[place] += by
    return values.tobytes()


FAULTS: dict[str, tuple[str, Any]] = {
    "gpus": ("does not place the whole gang", lambda e: {"gpus": _moved(e.gpus, 0, 2)}),
    "split": ("splits a replica", lambda e: {"gpus": _moved(_moved(e.gpus, 0, -1), 1, 1)}),
    "node twice": (
        "names a node twice",
        lambda e: {"nodes": _moved(e.nodes, 1, _difference(e.nodes, 0, 1))},
    ),
    "taken by two": (
        "takes more GPUs than are free",
        lambda e: {"nodes": _moved(e.nodes, -1, _difference(e.nodes, 0, -1))},
    ),
    "no node": ("does not exist", lambda e: {"nodes": _moved(e.nodes, 0, 10**6)}),
    "price": ("not the average", lambda e: {"prices_micro_usd_per_gpu_hour": _price(e, 1)}),
    "rate": ("not the sum of its parts", lambda e: {"rates_micro_usd_per_hour": _rate(e, 1)}),
    "total": (
        "not the sum over its hours",
        lambda e: {"totals_micro_usd": _moved(e.totals_micro_usd, 2, 1, "<i8")},
    ),
    "amount": ("miss the total", lambda e: {"lines": _moved(e.lines, 7, 1, "<i8")}),
    "line": ("miss GPUs", lambda e: {"lines": _moved(e.lines, 5, 1, "<i8")}),
    "columns": ("belong together", lambda e: {"node_counts": _moved(e.node_counts, 0, 1)}),
    "model": (
        "was not asked for",
        lambda e: {"request": msgspec.structs.replace(e.request, gpu_models=("A100",))},
    ),
    "reliability": (
        "below the reliability",
        lambda e: {"request": msgspec.structs.replace(e.request, min_reliability=0.9999999)},
    ),
    "place": (
        "no location list names",
        lambda e: {"request": msgspec.structs.replace(e.request, regions=("mars",))},
    ),
    "cap": (
        "above the price cap",
        lambda e: {"request": msgspec.structs.replace(e.request, max_price_micro_usd_per_gpu_hour=1)},
    ),
}


def _difference(column: bytes, one: int, other: int) -> int:
    values = np.frombuffer(column, dtype="<i4")
    return int(values[one] - values[other])


def _price(event: LeasesStarted, by: int) -> bytes:
    return _moved(event.prices_micro_usd_per_gpu_hour, 0, by, "<i8")


def _rate(event: LeasesStarted, by: int) -> bytes:
    return _moved(event.rates_micro_usd_per_hour, 0, by, "<i8")


@pytest.mark.parametrize("name", FAULTS)
def test_the_audit_finds_what_is_wrong_with_any_of_them(
    decided: tuple[MarketState, LeasesStarted], name: str
) -> None:
    """Law 11: sound leases have no faults, and each way to be wrong is named."""
    state, event = decided
    assert not faults_of_many(state, event)
    told, change = FAULTS[name]
    assert any(told in fault for fault in faults_of_many(state, msgspec.structs.replace(event, **change(event))))


def test_a_gang_that_does_not_see_the_ones_before_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted bug: gangs are placed as if nothing were taken. The audit refuses, and nothing is changed."""
    market = LedgerMarket(nodes=2)
    request = ClusterRequest(8, duration_s=3_600)
    command = commands.DeployMany("alice", request, ((8, b""),), [0] * 3, [""] * 3, METHOD)
    (event,) = decide(market.state, command, market.now_us, NoBook())
    assert isinstance(event, LeasesStarted) and event.count == 2
    monkeypatch.setattr(Placer, "place_many", _forgetful)
    before = market.state.hash()
    with pytest.raises(AuditFailed, match="more GPUs than are free"):
        market.do(command)
    assert market.state.hash() == before


def _forgetful(placer: Any, demand: Any, replicas: Any) -> Any:
    """Every gang as if it were the first."""
    each = [PLACE_MANY(placer, demand, replicas[place : place + 1]) for place in range(replicas.size)]
    return type(each[0])(*(np.concatenate(columns) for columns in zip(*each, strict=True)))


@pytest.mark.parametrize("forgets", [False, True])
def test_a_shape_that_does_not_see_what_others_took_is_found(
    monkeypatch: pytest.MonkeyPatch, forgets: bool
) -> None:
    """Law: what walks of a shape have found out does not outlive what other shapes take. Planted bug: it does."""
    if forgets:
        place = _Walker.place
        monkeypatch.setattr(_Walker, "place", lambda self, replicas, touched: place(self, replicas, touched[:0]))
    far = {"site_id": "sfo1", "reliability": 0.9}
    fleet = [row("near"), row("far1", **far), row("far2", **far)]
    anywhere = ClusterRequest(4, duration_s=3_600)
    there = msgspec.structs.replace(anywhere, sites=("sfo1",))
    command = commands.DeployMany(
        "alice", anywhere, ((4, b""), (4, b"")), [0, 1, 0, 0], [""] * 4, METHOD, 0, ((anywhere, 0), (there, 0))
    )
    markets = LedgerMarket(nodes=0), LedgerMarket(nodes=0)
    for market in markets:
        market.load(fleet)
    assert together(markets[0], command) == one_by_one(markets[1], command)
    assert (flat(markets[0].events) == markets[1].events) is not forgets


def test_only_requests_without_rules_over_nodes_are_decided_together() -> None:
    """What binds the nodes of a lease together, or shares a card, is decided by itself."""
    plain = ClusterRequest(8)
    assert may_be_many(plain)
    for field in ("max_cluster_rtt_ms", "same_fabric", "max_supplier_share", "interruptible", "all_matching"):
        assert not may_be_many(msgspec.structs.replace(plain, **{field: 1}))  # type: ignore[arg-type]
    for field in ("gpu_milli", "cpu_milli", "memory_mib"):
        assert not may_be_many(msgspec.structs.replace(plain, **{field: 1}))  # type: ignore[arg-type]
