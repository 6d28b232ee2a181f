"""A named snapshot of the market, and the joint problem of one tenant's queue on it.

Taking a snapshot copies only what changes in place, so it may be done between two decisions; the rest works on the
snapshot in another thread. Leases of other tenants are not part of the problem: their GPUs are not free, no more.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import InvalidInput, Violation
from engine.domain.money import least_price_with_share
from engine.domain.request_table import BESIDE
from engine.market.audit import placement_faults
from engine.market.demand import demand_of
from engine.market.inventory import READY, Inventory
from engine.market.lease_terms import Terms
from engine.market.state import ACTIVE, MarketState
from engine.market.use import use_of
from engine.planning.codes import known_codes
from engine.planning.known_demands import KnownDemands, kept_demands, names_of
from solvers.distances import Distances
from solvers.placement import Demand
from solvers.planning.problem import (
    MILLI,
    NO_CARD,
    NO_SHARE,
    UNSHARED,
    Gangs,
    Needs,
    Problem,
    Running,
    Spare,
)

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the caller decides. Money is micro-USD per GPU."""

    move_cost_micro_usd: int = 0
    displaced_bonus_micro_usd: int = 0
    movable_leases: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The market at one version. `inventory`: its columns stay as they are now, its pools and prices do not.

    `leases`: (id, terms as they stand) of the tenant's active leases, empty if they may not move.
    """

    state_version: int
    fleet_version: int
    inventory: Inventory
    leases: tuple[tuple[str, Terms], ...]


@dataclass(frozen=True, slots=True)
class Gang:
    """One row of the problem: a request of the queue, or a running lease with its terms as they stand.

    `displaced`: it has GPUs on a node that is not READY.
    """

    request: ClusterRequest
    lease_id: str = ""
    standing: Terms | None = None
    displaced: bool = False

    @property
    def value_micro_usd(self) -> int:
        """Worth per GPU-hour without a bonus: the price limit; of a lease without one the average it pays."""
        cap = self.request.max_price_micro_usd_per_gpu_hour
        if cap is None and self.standing is not None:
            rate = self.standing.rate_micro_usd_per_hour
            if self.request.gpu_milli is not None:
                return least_price_with_share(rate, self.request.gpu_milli)
            return -(-rate // self.request.gpu_count)
        assert cap is not None
        return cap


@dataclass(frozen=True, slots=True)
class Queue:
    """The joint problem, and what its requests are: row i of `problem.gangs` is `gangs[i]`.

    `known`: what a later queue need not find out about the same requests.
    """

    problem: Problem
    gangs: tuple[Gang, ...]
    known: KnownDemands


def take(state: MarketState, tenant_id: str, *, movable_leases: bool) -> Snapshot:
    """The market of now for one tenant."""
    still = copy.copy(state.inventory)
    still.unused, still.state, still.spare = still.unused.copy(), still.state.copy(), copy.deepcopy(still.spare)
    own = state.leases_of.get(tenant_id, ()) if movable_leases else ()
    leases = (state.leases[lease_id] for lease_id in own)
    return Snapshot(
        state_version=state.version,
        fleet_version=state.fleet_version,
        inventory=still,
        leases=tuple((each.lease_id, each.standing) for each in leases if each.state == ACTIVE or each.must_move),
    )


def queue_of(
    snapshot: Snapshot,
    requests: Sequence[ClusterRequest],
    rules: Rules,
    catalogue: Collection[str],
    known: KnownDemands | None = None,
) -> Queue:
    """The problem of the requests, which have price limits, and of the leases. Errors as in `demand_of`.

    `known`: of an earlier queue; it changes how long this takes and nothing else.
    """
    inventory = snapshot.inventory
    inventory.distances = _own_distances(inventory)
    names = names_of(inventory, catalogue)
    if known is not None and not known.names.is_like(names):
        known = None
    gangs, demands = [Gang(request) for request in requests], _demands(inventory, requests, catalogue, known)
    kept = kept_demands(names, requests, demands)
    for lease_id, standing in snapshot.leases:
        displaced = bool((inventory.state[standing.node_numbers] != READY).any())
        demand = _lease_demand(inventory, standing, catalogue, displaced)
        if demand is not None:
            gangs.append(Gang(standing.request, lease_id, standing, displaced))
            demands.append(demand)
    running = _running(gangs)
    sets = _Sets(inventory)
    needs = _needs(gangs)
    columns = _gangs(gangs, demands, rules, sets, needs)
    capacity, spare = _capacity(inventory, running), None
    if needs is not None:
        running = replace(running, card=_cards(gangs, running))
        capacity, spare = _shared(inventory, running, columns)
    problem = Problem(
        nodes=replace(
            inventory.nodes,
            rank=np.ascontiguousarray(inventory.nodes.rank),
            model=np.ascontiguousarray(inventory.nodes.model),
            site=np.ascontiguousarray(inventory.nodes.site),
            ask_micro_usd=np.ascontiguousarray(inventory.nodes.ask_micro_usd),
        ),
        capacity=capacity,
        gangs=columns,
        model_sets=sets.models.table(),
        site_sets=sets.sites.table(),
        supplier_sets=sets.suppliers.table(),
        distances=inventory.distances,
        running=running,
        move_cost_micro_usd=rules.move_cost_micro_usd,
        spare=spare,
    )
    return Queue(problem, tuple(gangs), kept)


def _own_distances(inventory: Inventory) -> Distances:
    """The inventory's distances, with kept rows that no other thread uses."""
    sites, rtt = inventory.sites, inventory.rtt
    return Distances(
        sites.latitude,
        sites.longitude,
        known_codes(rtt["site_a"], sites.names),
        known_codes(rtt["site_b"], sites.names),
        rtt["rtt_ms"].to_numpy().astype(np.float64),
    )


def _demands(
    inventory: Inventory,
    requests: Iterable[ClusterRequest],
    catalogue: Collection[str],
    known: KnownDemands | None,
) -> list[Demand]:
    demands: list[Demand] = []
    violations: list[Violation] = []
    for index, request in enumerate(requests):
        try:
            demand = None if known is None else known.demand(request)
            demands.append(demand or demand_of(inventory, request, catalogue))
        except InvalidInput as error:
            violations += error.within(f"requests[{index}].").violations
    if violations:
        raise InvalidInput(violations)
    return demands


def _lease_demand(
    inventory: Inventory, standing: Terms, catalogue: Collection[str], displaced: bool
) -> Demand | None:
    """What a lease wants; None if a load has changed its nodes so that it could not stay: it is left alone."""
    try:
        demand = demand_of(inventory, standing.request, catalogue)
    except InvalidInput:
        return None
    seen = inventory.glance(standing.node_numbers)
    ready = np.full_like(seen.state, READY)
    seen = seen._replace(unused=standing.gpus_per_node, state=ready, own=use_of(standing))
    return demand if displaced or not placement_faults(inventory, standing, seen) else None


def _running(gangs: Sequence[Gang]) -> Running:
    """The leases' rows; all of them may move."""
    rows = [
        (np.full(gang.standing.node_numbers.size, index), gang.standing.node_numbers, gang.standing.gpus_per_node)
        for index, gang in enumerate(gangs)
        if gang.standing is not None
    ]
    request, node, gpus = (
        np.concatenate([np.empty(0, dtype=np.int64), *(row[column] for row in rows)]) for column in range(3)
    )
    order = np.lexsort((node, request))
    return Running(request[order], node[order], gpus[order], pinned=np.zeros(order.size, dtype=bool))


def _capacity(inventory: Inventory, running: Running) -> Int:
    capacity = inventory.unused.copy()
    np.add.at(capacity, running.node, running.gpus)
    return np.where(inventory.state == READY, capacity, 0)


def _needs(gangs: Sequence[Gang]) -> Needs | None:
    """What gangs want beside whole GPUs; None if none of them wants anything."""
    if all(gang.request.is_plain for gang in gangs):
        return None
    columns = ([getattr(gang.request, name) or 0 for gang in gangs] for name in BESIDE)
    gpu_milli, cpu_milli, memory_mib = (np.array(column, dtype=np.int64) for column in columns)
    return Needs(cpu_milli, memory_mib, gpu_milli)


def _cards(gangs: Sequence[Gang], running: Running) -> Int:
    """The card of each running part."""
    standing = (gangs[gang].standing for gang in running.request.tolist())
    return np.array([NO_CARD if terms is None else terms.card for terms in standing], dtype=np.int64)


def _shared(inventory: Inventory, running: Running, gangs: Gangs) -> tuple[Int, Spare]:
    """(`Problem.capacity`, `Problem.spare`) as they were without the running leases: all of these may move."""
    needs, there, is_ready = gangs.needs, inventory.spare, inventory.state == READY
    assert needs is not None and running.card is not None
    request, node = running.request, running.node
    part = gangs.is_part(request)
    left = np.full((inventory.unused.size, int(inventory.nodes.gpu_count.max(initial=1))), UNSHARED)
    for at, card, thousandths in there.cards.table().tolist():
        left[at, card] = thousandths
    np.add.at(left, (node[part], running.card[part]), needs.gpu_milli[request[part]])
    loose = left == MILLI
    left[loose | ~is_ready[:, None]] = UNSHARED
    left[np.arange(left.shape[1]) >= inventory.nodes.gpu_count[:, None]] = 0
    capacity = inventory.unused + loose.sum(axis=1)
    np.add.at(capacity, node[~part], running.gpus[~part])
    cpu_milli, memory_mib = there.cpu_milli.copy(), there.memory_mib.copy()
    replicas = running.gpus // gangs.gpus_per_replica[request]
    np.add.at(cpu_milli, node, replicas * needs.cpu_milli[request])
    np.add.at(memory_mib, node, replicas * needs.memory_mib[request])
    return np.where(is_ready, capacity, 0), Spare(cpu_milli, memory_mib, left)


class _Set:
    """Distinct rows of flags, numbered as they come."""

    def __init__(self, width: int) -> None:
        self._width, self._place = width, dict[bytes, int]()

    def code(self, flags: Flags) -> int:
        return self._place.setdefault(flags.tobytes(), len(self._place))

    def table(self) -> Flags:
        """(sets, members)."""
        flags = np.frombuffer(b"".join(self._place), dtype=bool)
        return flags.reshape(len(self._place), self._width).copy()


class _Sets:
    """Models, sites and suppliers that gangs accept."""

    def __init__(self, inventory: Inventory) -> None:
        self.models = _Set(len(inventory.models))
        self.sites = _Set(len(inventory.sites.names))
        self.suppliers = _Set(len(inventory.suppliers))
        self._models = np.zeros(len(inventory.models), dtype=bool)
        self._every_supplier = np.ones(len(inventory.suppliers), dtype=bool)

    def codes(self, demand: Demand) -> tuple[int, int, int]:
        """(model set, site set, supplier set)."""
        models = self._models.copy()
        models[demand.models] = True
        suppliers = demand.supplier_ok if demand.supplier_ok.size else self._every_supplier
        return self.models.code(models), self.sites.code(demand.site_ok), self.suppliers.code(suppliers)


def _gangs(
    gangs: Sequence[Gang], demands: Sequence[Demand], rules: Rules, sets: _Sets, needs: Needs | None
) -> Gangs:
    codes = np.array([sets.codes(demand) for demand in demands], dtype=np.int64).reshape(-1, 3)
    bonus = rules.displaced_bonus_micro_usd
    shares = (gang.request.max_gpus_per_supplier for gang in gangs)
    rtts = (demand.max_cluster_rtt_ms for demand in demands)
    return Gangs(
        replicas=_ints(demand.replicas for demand in demands),
        gpus_per_replica=_ints(demand.gpus_per_replica for demand in demands),
        value_micro_usd=_ints(gang.value_micro_usd + bonus * gang.displaced for gang in gangs),
        model_set=codes[:, 0].copy(),
        site_set=codes[:, 1].copy(),
        supplier_set=codes[:, 2].copy(),
        one_model=_flags(demand.one_model for demand in demands),
        tier=_ints(demand.tier for demand in demands),
        certifications=_ints(demand.certifications for demand in demands),
        connectivity=_ints(demand.connectivity for demand in demands),
        interconnect=_ints(demand.interconnect for demand in demands),
        one_fabric=_flags(demand.one_fabric for demand in demands),
        reliability=np.array([demand.reliability for demand in demands], dtype=np.float64),
        max_gpus_per_supplier=_ints(NO_SHARE if share is None else share for share in shares),
        max_cluster_rtt_ms=np.array([np.inf if rtt is None else rtt for rtt in rtts], dtype=np.float64),
        must_serve=_flags(
            gang.standing is not None and not gang.displaced and not gang.request.interruptible for gang in gangs
        ),
        needs=needs,
    )


def _ints(values: Iterable[int]) -> Int:
    return np.fromiter(values, dtype=np.int64)


def _flags(values: Iterable[bool]) -> Flags:
    return np.fromiter(values, dtype=bool)
