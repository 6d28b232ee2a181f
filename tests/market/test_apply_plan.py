"""Applying a joint plan as a pure decision: what its events do, what its audit finds (laws 1 to 3, 5, 10)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import AuditFailed, NotFound, Refused
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import NodeState
from engine.market import commands
from engine.market.apply import apply
from engine.market.decide import decide
from engine.market.events import (
    AnyEvent,
    LeaseEnded,
    LeaseMoved,
    LeaseSpared,
    LeaseStarted,
    PlanApplied,
    decode,
    encode,
)
from engine.market.lease_terms import Terms
from engine.market.plan_audit import plan_faults
from engine.market.state import MarketState
from engine.planning.plan_terms import Place, moved_terms, sold_lines, sold_terms
from tests.market.books import NoBook
from tests.service.loopback import PLACES, node

HOUR_US = 3_600_000_000
NODES = 12


class Market:
    """A market that follows commands, and the journal of its events."""

    def __init__(self) -> None:
        self.state, self.journal, self.now_us = MarketState(), list[bytes](), 0

    def do(self, command: commands.Command) -> list[AnyEvent]:
        events = decide(self.state, command, self.now_us, NoBook())
        for event in events:
            self.journal.append(encode(event))
            apply(self.state, event)
        return events

    def load(self, *rows: dict[str, Any]) -> None:
        nodes = pl.DataFrame(rows, schema=FLEET_SCHEMA)
        self.do(commands.LoadFleet(nodes, pl.DataFrame(schema=RTT_SCHEMA)))

    def deploy(self, gpu_count: int, **fields: Any) -> str:
        (event,) = self.do(commands.DeployCluster("alice", ClusterRequest(gpu_count, **fields)))
        assert isinstance(event, LeaseStarted)
        return event.lease_id

    def replayed(self) -> MarketState:
        state = MarketState()
        for payload in self.journal:
            apply(state, decode(payload))
        return state

    def standing(self, lease_id: str) -> Terms:
        return self.state.leases[lease_id].standing

    def asks(self, terms: Terms) -> Any:
        return self.state.inventory.nodes.ask_micro_usd[terms.node_numbers].copy()

    def start(
        self, request: ClusterRequest, place: dict[int, int], above_micro_usd: int = 0
    ) -> commands.PlannedStart:
        """A gang at some nodes, at so much more than their asks."""
        inventory = self.state.inventory
        nodes = np.array(sorted(place, key=lambda number: inventory.nodes.rank[number]), dtype=np.int64)
        gpus = np.array([place[number] for number in nodes.tolist()], dtype=np.int64)
        prices = inventory.nodes.ask_micro_usd[nodes] + above_micro_usd
        lines = sold_lines(
            inventory, 1, 0 * nodes, nodes, gpus, prices, prices <= inventory.nodes.ask_micro_usd[nodes]
        )
        charged = lines.priced(inventory, 0, request.priced_duration_s)
        terms = sold_terms(request, Place(nodes, gpus, -1), prices, charged, self.state.fleet_version)
        return commands.PlannedStart(terms, self.asks(terms))

    def move(self, lease_id: str, place: dict[int, int]) -> commands.PlannedMove:
        inventory, standing = self.state.inventory, self.standing(lease_id)
        nodes = np.array(sorted(place, key=lambda number: inventory.nodes.rank[number]), dtype=np.int64)
        gpus = np.array([place[number] for number in nodes.tolist()], dtype=np.int64)
        terms = moved_terms(standing, Place(nodes, gpus, -1))
        return commands.PlannedMove(lease_id, standing, terms, self.asks(terms))

    def stop(self, lease_id: str) -> commands.PlannedStop:
        return commands.PlannedStop(lease_id, self.standing(lease_id), "PREEMPTED")

    def changes(self, stops: Any = (), moves: Any = (), starts: Any = ()) -> commands.PlanChanges:
        return commands.PlanChanges(self.state.fleet_version, tuple(stops), tuple(moves), tuple(starts))

    def apply_plan(self, plan_id: str, changes: commands.PlanChanges | None) -> list[AnyEvent]:
        return self.do(commands.ApplyPlan("alice", plan_id, changes))


@pytest.fixture
def market() -> Market:
    """Four nodes of eight GPUs."""
    market = Market()
    market.load(*(node(f"n{i}", ask_micro_usd_per_gpu_hour=2_000_000 + i) for i in range(4)))
    return market


def reasons(events: list[AnyEvent]) -> list[str]:
    applied = events[-1]
    assert isinstance(applied, PlanApplied)
    return [outcome.reason for outcome in applied.outcomes]


def test_stops_moves_and_starts_in_one_decision(market: Market) -> None:
    """Laws 1, 5 and 10: each change counts on the ones before it, and the journal replays to the same state."""
    first, second = market.deploy(8, interruptible=True), market.deploy(8)
    before = market.standing(second)
    changes = market.changes(
        stops=[market.stop(first)],
        moves=[market.move(second, {0: 8})],
        starts=[market.start(ClusterRequest(20, "new"), {1: 8, 2: 8, 3: 4}, above_micro_usd=7)],
    )
    events = market.apply_plan("p", changes)
    assert [type(event) for event in events] == [LeaseEnded, LeaseMoved, LeaseStarted, PlanApplied]
    assert reasons(events) == ["", "", ""]
    assert market.state.inventory.unused.tolist() == [0, 0, 0, 4]
    after = market.standing(second)
    assert after.node_numbers.tolist() == [0]
    assert market.state.leases[second].terms == before
    assert (after.total_micro_usd, after.lines, after.request) == (
        before.total_micro_usd,
        before.lines,
        before.request,
    )
    started = market.state.leases[list(market.state.leases)[-1]]
    assert (started.terms.plan_id, started.starts_at_us, started.ends_at_us) == ("p", 0, HOUR_US)
    assert market.replayed().hash() == market.state.hash()


def test_a_plan_that_is_not_there_or_was_applied(market: Market) -> None:
    """Laws 4 and 8: typed refusals, and nothing changes."""
    changes = market.changes(starts=[market.start(ClusterRequest(1, "a"), {0: 1})])
    with pytest.raises(NotFound):
        market.apply_plan("p", None)
    market.apply_plan("p", changes)
    version = market.state.version
    with pytest.raises(Refused, match="applied before"):
        market.apply_plan("p", changes)
    assert market.state.version == version


def test_an_applied_plan_is_forgotten_after_a_day(market: Market) -> None:
    """Law 10: by the times inside events, so that a replay forgets the same."""
    market.apply_plan("p", market.changes())
    market.now_us = 25 * HOUR_US
    market.do(commands.SetNodeState("n0", NodeState.DOWN))
    assert not market.state.applied
    assert market.replayed().hash() == market.state.hash()


def test_two_gangs_on_the_same_gpus(market: Market) -> None:
    """Law 1: the first one gets them, the second one is told."""
    starts = [market.start(ClusterRequest(5, name), {0: 5}) for name in ("a", "b")]
    assert reasons(market.apply_plan("p", market.changes(starts=starts))) == ["", "CAPACITY_GONE"]


def test_moves_only_in_the_order_in_which_they_fit(market: Market) -> None:
    """Law 1: a lease that moves before the one in its way is not moved; the later one is."""
    first, second = market.deploy(8), market.deploy(8)
    moves = [market.move(first, {1: 8}), market.move(second, {2: 8})]
    assert reasons(market.apply_plan("p", market.changes(moves=moves))) == ["CAPACITY_GONE", ""]
    assert market.standing(first).node_numbers.tolist() == [0]


def test_a_lease_may_grow_on_a_node_that_it_has(market: Market) -> None:
    """Law 1: its own GPUs are not in its way, and an ask that rose counts only where GPUs are added."""
    market.do(commands.SetNodeState("n0", NodeState.DOWN))
    lease = market.deploy(12)
    market.do(commands.SetNodeState("n0", NodeState.READY))
    move = market.move(lease, {0: 4, 1: 8})
    market.load(node("n1", ask_micro_usd_per_gpu_hour=9_000_000))
    assert reasons(market.apply_plan("p", market.changes(moves=[move]))) == [""]
    grow = market.move(lease, {0: 8, 1: 4})
    market.load(node("n0", ask_micro_usd_per_gpu_hour=9_000_000))
    assert reasons(market.apply_plan("q", market.changes(moves=[grow]))) == ["ASK_ROSE"]


def test_a_lease_with_the_notice_of_a_drain_may_be_moved(market: Market) -> None:
    """Law: a plan saves what a drain would end: it runs elsewhere, without a notice, to its agreed end."""
    lease_id = market.deploy(8)
    market.do(commands.SetNodeState("n1", NodeState.DOWN))
    market.do(commands.SetNodeState("n2", NodeState.DOWN))
    market.do(commands.SetNodeState("n3", NodeState.DOWN))
    market.do(commands.DrainNode("n0", 600))
    market.do(commands.RepairLease(lease_id))
    lease = market.state.leases[lease_id]
    assert (lease.state, lease.reclaim_at_us) == ("RECLAIMING", 600_000_000)
    market.do(commands.SetNodeState("n1", NodeState.READY))
    changes = market.changes(
        moves=[market.move(lease_id, {1: 8})], starts=[market.start(ClusterRequest(8, "new"), {1: 8})]
    )
    events = market.apply_plan("p", changes)
    assert [type(event) for event in events] == [LeaseMoved, LeaseSpared, PlanApplied]
    lease = market.state.leases[lease_id]
    assert (lease.state, lease.reclaim_reason, lease.reclaim_at_us, lease.fencing_epoch) == ("ACTIVE", "", 0, 4)
    assert lease.due_at_us == HOUR_US
    assert market.replayed().hash() == market.state.hash()


def test_a_placement_that_was_never_right(market: Market) -> None:
    """Law 3: a solver that breaks a constraint on an unchanged fleet is a bug: nothing of its plan is applied."""
    starts = [
        market.start(ClusterRequest(8, "fine"), {0: 8}),
        market.start(ClusterRequest(8, "wrong", regions=("us-west",)), {1: 8}),
    ]
    version = market.state.version
    with pytest.raises(AuditFailed, match="no location list names"):
        market.apply_plan("p", market.changes(starts=starts))
    assert market.state.version == version


def twice(events: list[Any]) -> list[Any]:
    return [*events, events[0]]


def start_first(events: list[Any]) -> list[Any]:
    return [events[2], *events[:2]]


def below_the_ask(events: list[Any]) -> list[Any]:
    terms = events[2].terms
    cheap = (terms.prices - 1_000_000).astype("<i8")
    rate = int(terms.gpus_per_node @ cheap)
    line = msgspec.structs.replace(terms.lines[0], amount_micro_usd=rate)
    sold = msgspec.structs.replace(
        terms,
        prices_micro_usd_per_gpu_hour=cheap.tobytes(),
        rate_micro_usd_per_hour=rate,
        total_micro_usd=rate,
        lines=[line],
    )
    return [*events[:2], msgspec.structs.replace(events[2], terms=sold)]


def torn_gang(events: list[Any]) -> list[Any]:
    gpus = np.array([7], dtype="<i4").tobytes()
    return [events[0], msgspec.structs.replace(events[1], gpus=gpus), events[2]]


def no_such_node(events: list[Any]) -> list[Any]:
    nodes = np.array([99], dtype="<i4").tobytes()
    return [events[0], msgspec.structs.replace(events[1], nodes=nodes), events[2]]


def wrong_total(events: list[Any]) -> list[Any]:
    terms = msgspec.structs.replace(events[2].terms, total_micro_usd=1)
    return [*events[:2], msgspec.structs.replace(events[2], terms=terms)]


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (twice, "twice"),
        (start_first, "more GPUs than are free"),
        (below_the_ask, "below an ask"),
        (torn_gang, "whole gang"),
        (no_such_node, "does not exist"),
        (wrong_total, "total"),
    ],
)
def test_the_audit_catches_a_planted_fault(
    market: Market, plant: Callable[[list[Any]], list[Any]], fault: str
) -> None:
    """Law 3: the audit of a plan keeps its own books and finds each fault; without one it finds none."""
    first, second = market.deploy(8), market.deploy(8)
    changes = market.changes(
        stops=[market.stop(first)],
        moves=[market.move(second, {2: 8})],
        starts=[market.start(ClusterRequest(8, "new"), {0: 8})],
    )
    command = commands.ApplyPlan("alice", "p", changes)
    events: list[Any] = decide(market.state, command, 0, NoBook())[:-1]
    assert plan_faults(market.state, events) == []
    assert any(fault in each for each in plan_faults(market.state, plant(events)))


def random_market(draw: random.Random) -> Market:
    market = Market()
    market.load(
        *(
            node(
                f"n{draw.randrange(100):02d}-{i}", site_id=draw.choice(list(PLACES)), gpu_count=draw.choice((4, 8))
            )
            for i in range(NODES)
        )
    )
    for _ in range(6):
        market.deploy(draw.choice((1, 2, 4)), interruptible=draw.random() < 0.5)
    return market


def random_place(draw: random.Random, gpu_count: int) -> dict[int, int]:
    nodes = draw.sample(range(NODES), min(gpu_count, draw.choice((1, 2, 3))))
    cuts = sorted(draw.sample(range(1, gpu_count), len(nodes) - 1))
    parts = np.diff([0, *cuts, gpu_count]).tolist()
    return dict(zip(nodes, parts, strict=True))


@pytest.mark.parametrize("seed", range(40))
def test_random_plans_on_a_market_that_went_on(seed: int) -> None:
    """Laws 1, 2 and 10: whatever was planned and whatever came between, what is applied is whole and fits, what is
    not is told why and left as it was, and the journal replays."""
    draw = random.Random(seed)
    market = random_market(draw)
    leases = list(market.state.leases)
    draw.shuffle(leases)
    sizes = {lease: market.standing(lease).request.gpu_count for lease in leases}
    changes = market.changes(
        stops=[market.stop(lease) for lease in leases[:2]],
        moves=[market.move(lease, random_place(draw, sizes[lease])) for lease in leases[2:]],
        starts=[
            market.start(ClusterRequest(count, f"r{index}"), random_place(draw, count))
            for index, count in enumerate(draw.choices((1, 2, 4, 8, 12), k=10))
        ],
    )
    for _ in range(3):
        name = draw.choice(market.state.inventory.sorted_ids)
        market.do(commands.SetNodeState(name, draw.choice(list(NodeState))))
    market.do(commands.ReleaseLease("alice", leases[draw.randrange(6)]))
    before = {lease: market.standing(lease) for lease in leases}
    events = market.apply_plan("p", changes)
    inventory = market.state.inventory
    taken = np.zeros(NODES, dtype=np.int64)
    for lease in market.state.leases.values():
        if lease.state == "ACTIVE":
            assert int(lease.standing.gpus_per_node.sum()) == lease.standing.request.gpu_count
            np.add.at(taken, lease.standing.node_numbers, lease.standing.gpus_per_node)
    assert (taken <= inventory.nodes.gpu_count).all()
    assert (inventory.leased == taken).all()
    for event in events:
        if isinstance(event, LeaseStarted | LeaseMoved):
            standing = market.standing(event.lease_id)
            assert (inventory.state[standing.node_numbers] == int(NodeState.READY)).all()
    applied = events[-1]
    assert isinstance(applied, PlanApplied)
    assert len(applied.outcomes) == len(leases) + 10
    assert len(events) == 1 + sum(not outcome.reason for outcome in applied.outcomes)
    for outcome in applied.outcomes:
        if outcome.reason and outcome.lease_id:
            assert market.standing(outcome.lease_id) == before[outcome.lease_id]
    assert market.replayed().hash() == market.state.hash()


def test_random_plans_meet_every_obstacle_but_those_of_loads() -> None:
    """The worlds above are not too kind: their plans meet what can come between."""
    seen: set[str] = set()
    for seed in range(40):
        draw = random.Random(seed)
        market = random_market(draw)
        lease = draw.choice(list(market.state.leases))
        changes = market.changes(
            moves=[market.move(lease, random_place(draw, market.standing(lease).request.gpu_count))],
            starts=[market.start(ClusterRequest(8, "a"), random_place(draw, 8))],
        )
        other = replace(changes, starts=())
        market.do(commands.SetNodeState(draw.choice(market.state.inventory.sorted_ids), NodeState.DOWN))
        if draw.random() < 0.3:
            market.do(commands.ReleaseLease("alice", lease))
        seen.update(reasons(market.apply_plan("p", changes)) + reasons(market.apply_plan("q", other)))
    assert seen >= {"", "NODE_NOT_READY", "CAPACITY_GONE", "LEASE_ENDED", "LEASE_CHANGED"}
