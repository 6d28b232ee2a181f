"""Where a lease can go on that must leave some of its nodes: within its constraints, at what its tenant pays.

First only the lost replicas are placed anew, the rest stays; if that cannot be, or a fabric or a supplier's share
binds all of them together, the whole gang is. Either way exactly, at the least sum of asks: the tenant's price is
fixed, so a place will do if what it asks is covered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import AuditFailed, WalrasError
from engine.domain.money import share_of_gpu
from engine.domain.tiers import NodeState
from engine.market.audit import placement_faults
from engine.market.demand import demand_of
from engine.market.inventory import Inventory
from engine.market.lease_terms import Terms
from engine.market.state import Lease, MarketState
from engine.market.use import Use, use_at, use_of
from solvers.distances import RTT_TOLERANCE_MS
from solvers.placement import Demand, Placement

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
READY = int(NodeState.READY)


class Seats(NamedTuple):
    """Nodes in the order of their ids, GPUs, prices per GPU-hour; (nodes,) each. `card`: where a part stands."""

    nodes: Int
    gpus: Int
    prices: Int
    card: int = -1

    def only(self, which: Flags) -> Seats:
        """Some of them."""
        return Seats(self.nodes[which], self.gpus[which], self.prices[which])

    @property
    def rate(self) -> int:
        """Σ gpus·price, micro-USD per hour."""
        return int(np.dot(self.gpus, self.prices))


def new_seats(state: MarketState, lease: Lease, leaving: Flags) -> Seats | None:
    """Where the lease goes on if it leaves the nodes flagged in `leaving`; None if nowhere."""
    terms = lease.standing
    old = Seats(terms.node_numbers, terms.gpus_per_node, terms.prices, terms.card)
    found, request = None, terms.request
    bound = request.same_fabric or request.max_supplier_share is not None
    if not leaving.all() and not bound and not _faults(state.inventory, terms, old, old):
        found = _with_rest_kept(state.inventory, terms, old, leaving)
    if found is None:
        found = _anew(state.inventory, terms, old)
    if found is not None:
        _audit(state.inventory, terms, old, found, leaving)
    return found


def _with_rest_kept(inventory: Inventory, terms: Terms, old: Seats, leaving: Flags) -> Seats | None:
    kept, missing = old.only(~leaving), int(old.gpus[leaving].sum())
    demand = _demand(inventory, terms)
    if demand is None:
        return None
    close = _close_to(inventory, kept.nodes, demand.max_cluster_rtt_ms)
    models = np.unique(inventory.nodes.model[kept.nodes]) if demand.one_model else demand.models
    part = replace(
        demand,
        replicas=missing // demand.gpus_per_replica,
        models=models,
        site_ok=demand.site_ok & close,
    )
    added = _placed(inventory, part, terms.rate_micro_usd_per_hour - kept.rate)
    return None if added is None else _joined(inventory, kept, added)


def _anew(inventory: Inventory, terms: Terms, old: Seats) -> Seats | None:
    demand = _demand(inventory, terms)
    if demand is None:
        return None
    with _given_back(inventory, terms):
        return _placed(inventory, demand, terms.rate_micro_usd_per_hour)


def _demand(inventory: Inventory, terms: Terms) -> Demand | None:
    """The lease's demand; None if the fleet of now cannot be asked for it."""
    try:
        return demand_of(inventory, terms.request, terms.request.gpu_models)
    except WalrasError:
        return None


def _placed(inventory: Inventory, demand: Demand, budget: int) -> Seats | None:
    """The least sum of asks, if a budget per hour covers it; a GPU gets its ask and an equal part of the rest."""
    found = inventory.placer_at_asks(demand.models).place(demand)
    if not isinstance(found, Placement):
        return None
    if demand.gpu_milli:
        asked = share_of_gpu(int(found.rate), demand.gpu_milli)
        return Seats(found.nodes, found.gpus, np.array([budget]), found.card) if asked <= budget else None
    if found.rate > budget:
        return None
    premium = (budget - int(found.rate)) // int(found.gpus.sum())
    return Seats(found.nodes, found.gpus, found.prices_micro_usd + premium)


@contextmanager
def _given_back(inventory: Inventory, terms: Terms) -> Iterator[None]:
    """Let the placer see the fleet as if the lease were not there; nothing of it is left afterwards."""
    use = use_of(terms)
    if not use.is_plain:
        inventory.give(use)
        try:
            yield
        finally:
            inventory.take(use)
        return
    nodes, pools = use.nodes, inventory.pools
    free = np.where(inventory.state[nodes] == READY, inventory.unused[nodes], 0)
    pools.set_free(nodes, np.where(inventory.state[nodes] == READY, free + use.gpus, 0))
    try:
        yield
    finally:
        pools.set_free(nodes, free)


def _close_to(inventory: Inventory, nodes: Int, limit_ms: float | None) -> Flags:
    """Sites within a limit of all sites of some nodes, (sites,)."""
    ok = np.ones(len(inventory.sites.names), dtype=bool)
    if limit_ms is None:
        return ok
    for site in np.unique(inventory.nodes.site[nodes]).tolist():
        ok &= inventory.distances.from_site(site) <= limit_ms + RTT_TOLERANCE_MS
    return ok


def _joined(inventory: Inventory, kept: Seats, added: Seats) -> Seats:
    """Both together; where a node is in both, it charges the average, rounded down."""
    nodes, row = np.unique(np.concatenate((kept.nodes, added.nodes)), return_inverse=True)
    gpus, rate = np.zeros((2, nodes.size), dtype=np.int64)
    np.add.at(gpus, row, np.concatenate((kept.gpus, added.gpus)))
    np.add.at(rate, row, np.concatenate((kept.gpus * kept.prices, added.gpus * added.prices)))
    by_id = np.argsort(inventory.nodes.rank[nodes])
    return Seats(nodes[by_id], gpus[by_id], (rate // gpus)[by_id])


def _audit(inventory: Inventory, terms: Terms, old: Seats, new: Seats, leaving: Flags) -> None:
    """The new place against the request, by code that no solver shares; AuditFailed if it breaks a rule."""
    faults = _faults(inventory, terms, old, new)
    if np.isin(new.nodes, old.nodes[leaving]).any():
        faults.append("is on a node that it must leave")
    if new.rate > terms.rate_micro_usd_per_hour:
        faults.append("is dearer than what the tenant pays")
    moved = ~np.isin(new.nodes, old.nodes)
    asks, part = inventory.nodes.ask_micro_usd[new.nodes], terms.request.gpu_milli
    if part is not None:
        asks = np.array([share_of_gpu(ask, part) for ask in asks.tolist()])
    if (new.prices < asks)[moved].any():
        faults.append("pays a supplier less than its ask")
    if faults:
        raise AuditFailed("the new place of a lease failed its audit: " + "; ".join(faults))


def _faults(inventory: Inventory, terms: Terms, old: Seats, new: Seats) -> list[str]:
    """Rules that a place breaks. GPUs that stay where they are need not be free, nor their node READY."""
    place = msgspec.structs.replace(
        terms, nodes=new.nodes.astype("<i4").tobytes(), gpus=new.gpus.astype("<i4").tobytes(), card=new.card
    )
    seen = inventory.glance(new.nodes)
    own = dict(zip(old.nodes.tolist(), old.gpus.tolist(), strict=True))
    back = np.array([own.get(node, 0) for node in new.nodes.tolist()], dtype=np.int64)
    use = use_at(terms.request, new.nodes, back, old.card)
    if use.gpu_milli and not back.any():
        use = Use(new.nodes, back)
    stays = (new.gpus <= back) & (new.card == old.card)
    if new is not old:
        stays &= seen.state != int(NodeState.DOWN)
    seen = seen.with_own(use)._replace(state=np.where(stays, READY, seen.state))
    return placement_faults(inventory, place, seen)
