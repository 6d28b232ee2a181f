"""From the solver's plan to what the market can apply and a caller can read: changes, prices, reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.market.commands import PlanChanges, PlannedMove, PlannedStart, PlannedStop
from engine.planning.plan_terms import (
    Place,
    average_price_micro_usd,
    due_micro_usd,
    moved_terms,
    sold_lines,
    sold_terms,
)
from engine.planning.prices_charged import list_prices
from engine.planning.refusal_text import LEASED, Names, RefusalTexts
from engine.planning.snapshot import Gang, Queue, Snapshot
from engine.planning.without_leases import fit_without_leases
from solvers.planning.moves import Order
from solvers.planning.plan import Plan
from solvers.planning.problem import NO_CARD
from solvers.planning.refusals import Reason

Int = NDArray[np.int64]

DISPLACED, PREEMPTED, SCARCE_CAPACITY = "DISPLACED", "PREEMPTED", "SCARCE_CAPACITY"


@dataclass(frozen=True, slots=True)
class Placements:
    """Columns of shape (rows,) by gang, then by node id; `gang` is an index into the queue's gangs."""

    gang: Int
    node: Int
    gpus: Int
    price_micro_usd_per_gpu_hour: Int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A gang that is not served, with a typed reason and a sentence."""

    gang: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan in terms of the market. `make_whole`: micro-USD per hour taken off the prices of new leases."""

    changes: PlanChanges
    placements: Placements
    refusals: tuple[Refusal, ...]
    make_whole_micro_usd_per_hour: int

    @property
    def served(self) -> int:
        """Gangs that are served."""
        return int(np.unique(self.placements.gang).size)


def outcome_of(snapshot: Snapshot, queue: Queue, plan: Plan, moves: Order) -> Outcome:
    """What the plan means for the gangs of the queue."""
    shares = _Shares(queue, plan)
    refusals = tuple(shares.refusals(told_by(snapshot, queue, plan)))
    changes = PlanChanges(
        fleet_version=snapshot.fleet_version,
        stops=tuple(_stops(queue.gangs, refusals)),
        moves=tuple(shares.moves(moves)),
        starts=tuple(shares.starts(snapshot)),
    )
    return Outcome(changes, shares.placements, refusals, shares.make_whole_micro_usd_per_hour)


class _Shares:
    """Each gang's rows of the plan."""

    def __init__(self, queue: Queue, plan: Plan) -> None:
        nodes = queue.problem.nodes
        order = np.lexsort((nodes.rank[plan.node], plan.request))
        node, gpus = plan.node[order], plan.gpus[order]
        self._card = np.full(node.size, NO_CARD) if plan.card is None else plan.card[order]
        self._queue = queue
        self._asks = nodes.ask_micro_usd[node]
        self._due = self._asks.copy()
        """The asks, of parts their share of it."""
        self._first = np.searchsorted(plan.request[order], np.arange(len(queue.gangs) + 1))
        wanted = list_prices(self._asks, plan.node_price[node])
        self._price = wanted.copy()
        for index, gang in self._served():
            rows = self._rows(index)
            wanted[rows] = due_micro_usd(gang.request, wanted[rows])
            self._due[rows] = due_micro_usd(gang.request, self._asks[rows])
            self._price[rows] = _charged(gang, wanted[rows], self._due[rows], gpus[rows])
        new = np.array([gang.standing is None for gang in queue.gangs], dtype=bool)[plan.request[order]]
        self.make_whole_micro_usd_per_hour = int(((wanted - self._price) * gpus)[new].sum())
        self.placements = Placements(plan.request[order], node, gpus, self._price)

    def starts(self, snapshot: Snapshot) -> Iterator[PlannedStart]:
        """The new leases, in the order of the queue."""
        inventory, rows = snapshot.inventory, self.placements
        at_ask = self._price <= self._due
        lines = sold_lines(inventory, len(self._queue.gangs), rows.gang, rows.node, rows.gpus, self._price, at_ask)
        for index, gang in self._served():
            if gang.standing is None:
                place, price, asks = self._place(index), self._price[self._rows(index)], self._asks_of(index)
                charged = lines.priced(inventory, index, gang.request.priced_duration_s)
                terms = sold_terms(gang.request, place, price, charged, snapshot.fleet_version)
                yield PlannedStart(terms, asks)

    def moves(self, moves: Order) -> Iterator[PlannedMove]:
        """The leases that move, in the order of their steps; in the end those for which no step was found, so that
        applying the plan tries them, too, and tells what is in their way."""
        _, first = np.unique(moves.step, return_index=True)
        for index in [*moves.request[first].tolist(), *moves.blocked.tolist()]:
            gang = self._queue.gangs[index]
            assert gang.standing is not None
            terms = moved_terms(gang.standing, self._place(index))
            yield PlannedMove(gang.lease_id, gang.standing, terms, self._asks_of(index))

    def refusals(self, told: Mapping[int, tuple[str, str]]) -> Iterator[Refusal]:
        """The gangs without rows, with the planner's account where it gave one."""
        for index, gang in enumerate(self._queue.gangs):
            if self._first[index] == self._first[index + 1]:
                yield Refusal(index, *told.get(index, _reason(gang)))

    def _served(self) -> Iterator[tuple[int, Gang]]:
        for index in np.flatnonzero(np.diff(self._first)).tolist():
            yield index, self._queue.gangs[index]

    def _rows(self, gang: int) -> slice:
        return slice(int(self._first[gang]), int(self._first[gang + 1]))

    def _place(self, gang: int) -> Place:
        rows = self._rows(gang)
        return Place(self.placements.node[rows], self.placements.gpus[rows], int(self._card[rows][0]))

    def _asks_of(self, gang: int) -> Int:
        return self._asks[self._rows(gang)]


def _charged(gang: Gang, wanted: Int, asks: Int, gpus: Int) -> Int | int:
    """Prices of a gang's nodes: a lease's locked average; else what is wanted, its part above the asks scaled down
    until the gang's limit holds."""
    if gang.standing is not None:
        return average_price_micro_usd(gang.standing)
    cap = int(due_micro_usd(gang.request, np.array([gang.value_micro_usd]))[0]) * gang.request.gpu_count
    over = int(np.dot(gpus, wanted)) - cap
    if over <= 0:
        return wanted
    above = wanted - asks
    surplus = int(np.dot(gpus, above))
    kept = [part * max(0, surplus - over) // surplus for part in above.tolist()] if surplus else 0
    return asks + np.array(kept, dtype=np.int64)


def _stops(gangs: tuple[Gang, ...], refusals: tuple[Refusal, ...]) -> Iterator[PlannedStop]:
    for refusal in refusals:
        gang = gangs[refusal.gang]
        if gang.standing is not None:
            yield PlannedStop(gang.lease_id, gang.standing, refusal.reason)


def told_by(snapshot: Snapshot, queue: Queue, plan: Plan) -> dict[int, tuple[str, str]]:
    """(reason, sentence) of each refused gang, from the planner's own account if there is one."""
    if plan.refusals is None or plan.row_table is None:
        return {}
    inventory = snapshot.inventory
    names = Names(
        models=inventory.models.names,
        sites=inventory.sites.names.names,
        regions=inventory.regions.names,
        countries=inventory.countries.names,
        suppliers=inventory.suppliers.names,
        certifications=inventory.certifications.names,
        site_region=inventory.sites.region,
        site_country=inventory.sites.country,
    )
    bids = np.array([gang.value_micro_usd for gang in queue.gangs], dtype=np.int64)
    refused = plan.refusals
    details = RefusalTexts(queue.problem, plan.row_table, names, bids).details(refused)
    told = {
        gang: (Reason(code).name, detail)
        for gang, code, detail in zip(refused.gang.tolist(), refused.reason.tolist(), details, strict=True)
    }
    nowhere = refused.gang[refused.reason == Reason.NO_FEASIBLE_PLACEMENT]
    for gang in nowhere[fit_without_leases(snapshot, queue, nowhere)].tolist():
        reason, detail = told[gang]
        told[gang] = reason, detail + LEASED
    return told


def _reason(gang: Gang) -> tuple[str, str]:
    if gang.displaced:
        return DISPLACED, "ran on a node that went away, and nothing within its value is left"
    if gang.standing is not None:
        return PREEMPTED, "is interruptible, and its GPUs are worth more to others"
    return SCARCE_CAPACITY, "others are worth more on the GPUs that it could use"
