"""Deciding ApplyPlan: a joint plan was made on a snapshot; what of it still holds becomes events.

Stops come first, then moves in the plan's order, then new leases. Each is checked, gang by gang, against the
market as the ones before it leave it; what no longer fits is left out with a typed reason, and so is whatever
counted on its GPUs. Nothing is forced, and no gang is split.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import AuditFailed, InsufficientFunds, NotFound, Refused
from engine.domain.tiers import NodeState
from engine.market.audit import placement_faults
from engine.market.commands import ApplyPlan, PlanChanges, PlannedMove, PlannedStart, PlannedStop
from engine.market.draft_room import DraftRoom
from engine.market.end_reasons import EndReason
from engine.market.events import AnyEvent, LeaseMoved, LeaseSpared, LeaseStarted, PlanApplied, PlanOutcome
from engine.market.lease_decision import lease_ended
from engine.market.lease_terms import Terms
from engine.market.ledger.purse import Purse
from engine.market.plan_audit import plan_faults
from engine.market.state import RECLAIMING, MarketState
from engine.market.terms import with_network_fee
from engine.market.use import use_of

Int = NDArray[np.int64]
Change = TypeVar("Change", PlannedStop, PlannedMove, PlannedStart)

START, MOVE, STOP = "START", "MOVE", "STOP"
NODE_NOT_READY, CAPACITY_GONE, ASK_ROSE = "NODE_NOT_READY", "CAPACITY_GONE", "ASK_ROSE"
NODE_CHANGED, LEASE_ENDED, LEASE_CHANGED = "NODE_CHANGED", "LEASE_ENDED", "LEASE_CHANGED"
NO_LIMIT = np.iinfo(np.int64).max


class Obstacle(NamedTuple):
    """Why a change is not made: a code and a sentence."""

    reason: str
    detail: str


def decide_plan(state: MarketState, command: ApplyPlan, now_us: int) -> list[AnyEvent]:
    """The events of what still holds, PlanApplied last; NotFound without a plan, Refused (PLAN_APPLIED) twice."""
    changes = command.changes
    if changes is None:
        raise NotFound(f"there is no plan plans/{command.plan_id}")
    if command.plan_id in state.applied:
        raise Refused("PLAN_APPLIED", f"plans/{command.plan_id} was applied before; make a new one")
    draft = _Draft(state, command, changes, now_us)
    draft.make(STOP, changes.stops, draft.stop)
    draft.make(MOVE, changes.moves, draft.move)
    draft.make(START, changes.starts, draft.start)
    if faults := plan_faults(state, draft.events):
        raise AuditFailed("the plan failed its audit: " + "; ".join(faults))
    applied = PlanApplied(
        at_us=now_us,
        key=command.key,
        plan_id=command.plan_id,
        tenant_id=command.tenant_id,
        outcomes=draft.outcomes,
    )
    return [*draft.events, applied]


class _Draft:
    """The events so far, and what nobody would use once they are applied."""

    def __init__(self, state: MarketState, command: ApplyPlan, changes: PlanChanges, now_us: int) -> None:
        self._state, self._now_us = state, now_us
        self._tenant_id, self._plan_id = command.tenant_id, command.plan_id
        self._fleet_changed = changes.fleet_version != state.fleet_version
        self._room = DraftRoom(state.inventory)
        self._purse = Purse(state, command.tenant_id)
        self.events: list[AnyEvent] = []
        self.outcomes: list[PlanOutcome] = []
        self._last_lease_id = ""

    def make(self, kind: str, changes: tuple[Change, ...], one: Callable[[Change], Obstacle | None]) -> None:
        """Make what can be made of some changes, and note what became of each."""
        for change in changes:
            obstacle = one(change)
            if isinstance(change, PlannedStart):
                terms, lease_id = change.terms, "" if obstacle else self._last_lease_id
            else:
                terms, lease_id = change.standing, change.lease_id
            self.outcomes.append(PlanOutcome(terms.request.request_id, lease_id, kind, *(obstacle or ("", ""))))

    def stop(self, planned: PlannedStop) -> Obstacle | None:
        """End a lease."""
        if obstacle := self._lease_obstacle(planned.lease_id, planned.standing):
            return obstacle
        self._room.give(use_of(planned.standing))
        lease, reason = self._state.leases[planned.lease_id], EndReason(planned.reason)
        self.events.append(lease_ended(self._state, lease, reason, self._now_us))
        return None

    def move(self, planned: PlannedMove) -> Obstacle | None:
        """Move a lease as a whole; its price stays."""
        if obstacle := self._lease_obstacle(planned.lease_id, planned.standing):
            return obstacle
        terms, nodes = planned.terms, planned.terms.node_numbers
        before = self._room.unused[nodes]
        self._room.give(use_of(planned.standing))
        stays = terms.gpus_per_node <= self._room.unused[nodes] - before
        if terms.card >= 0:
            stays = nodes == planned.standing.node_numbers
        if obstacle := self._node_obstacle(terms, np.where(stays, NO_LIMIT, planned.asks_micro_usd)):
            self._room.take(use_of(planned.standing))
            return obstacle
        self._room.take(use_of(terms))
        self.events.append(
            LeaseMoved(
                at_us=self._now_us,
                lease_id=planned.lease_id,
                nodes=terms.nodes,
                gpus=terms.gpus,
                prices_micro_usd_per_gpu_hour=terms.prices_micro_usd_per_gpu_hour,
                card=terms.card,
            )
        )
        if self._state.leases[planned.lease_id].must_move:
            self.events.append(LeaseSpared(at_us=self._now_us, lease_id=planned.lease_id))
        return None

    def start(self, planned: PlannedStart) -> Obstacle | None:
        """Lease a gang."""
        terms = with_network_fee(self._state, msgspec.structs.replace(planned.terms, plan_id=self._plan_id))
        if obstacle := self._node_obstacle(terms, planned.asks_micro_usd):
            return obstacle
        if not self._purse.pay(terms.total_micro_usd):
            short = f"costs {terms.total_micro_usd} micro-USD; {self._purse.left_micro_usd} are left"
            return Obstacle(InsufficientFunds.reason, short)
        self._room.take(use_of(terms))
        self._last_lease_id = f"l-{self._state.version + len(self.events) + 1:010d}"
        self.events.append(
            LeaseStarted(
                at_us=self._now_us,
                lease_id=self._last_lease_id,
                tenant_id=self._tenant_id,
                terms=terms,
                ends_at_us=self._now_us + terms.duration_s * 1_000_000,
            )
        )
        return None

    def _lease_obstacle(self, lease_id: str, planned: Terms) -> Obstacle | None:
        lease = self._state.leases.get(lease_id)
        if lease is None or not lease.runs:
            return Obstacle(LEASE_ENDED, f"leases/{lease_id} has ended")
        if lease.state == RECLAIMING and not lease.must_move:
            return Obstacle(LEASE_CHANGED, f"leases/{lease_id} is being reclaimed since the plan was made")
        now = lease.standing
        if (now.nodes, now.gpus, now.card) != (planned.nodes, planned.gpus, planned.card):
            return Obstacle(LEASE_CHANGED, f"leases/{lease_id} was moved since the plan was made")
        return None

    def _node_obstacle(self, terms: Terms, asks_max_micro_usd: Int) -> Obstacle | None:
        """What is in the way at the nodes of the terms, which may ask so much at most."""
        inventory, nodes, gpus = self._room.inventory, terms.node_numbers, terms.gpus_per_node
        use = use_of(terms)
        seen = inventory.glance(nodes)._replace(unused=self._room.unused[nodes])
        short = ~self._room.has_room(use)
        gone = "has {0} unused GPUs of the {1} planned"
        if not use.is_plain:
            gone = "has too little left of the GPUs, card, CPU or memory planned"
        for broken, reason, sentence in (
            (seen.state != int(NodeState.READY), NODE_NOT_READY, "is not READY"),
            (short, CAPACITY_GONE, gone),
            (seen.ask_micro_usd > asks_max_micro_usd, ASK_ROSE, "asks {2} micro-USD per GPU-hour instead of {3}"),
        ):
            if broken.any():
                at = int(np.argmax(broken))
                facts = seen.unused[at], gpus[at], seen.ask_micro_usd[at], asks_max_micro_usd[at]
                return Obstacle(reason, f"nodes/{inventory.node_ids[nodes[at]]} {sentence.format(*facts)}")
        if self._fleet_changed and (faults := placement_faults(inventory, terms, seen)):
            return Obstacle(NODE_CHANGED, "since a load the placement " + "; ".join(faults))
        return None
