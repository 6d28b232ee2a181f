"""The law of single placement, as one function: what is wrong with an answer, judged by the independent twin."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from engine.domain.cluster_request import ClusterRequest
from engine.market.demand import demand_of
from engine.market.inventory import Inventory
from solvers.placement import Demand, NoPlacement, Placement
from tests.checker import violations
from tests.oracles import Case, Optimum, optimal_placement
from tests.solvers.bridge import as_rows, inventory_of, request_of
from tests.worlds import MODELS, World


class Asked:
    """A world put to both sides: the engine's view of it, and the twin's optimum, solved when first asked for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.inventory: Inventory = inventory_of(world)
        self.request: ClusterRequest = request_of(world.request)
        self.demand: Demand = demand_of(self.inventory, self.request, frozenset(MODELS))

    @cached_property
    def optimum(self) -> Optimum | None:
        """The twin's answer; None is a refusal."""
        return optimal_placement(self.world.fleet, self.world.rtt, self.world.posted, self.world.request)

    @property
    def posted_of_market(self) -> np.ndarray:
        """Posted prices in the order of `Inventory.markets`."""
        keys = self.inventory.markets
        return np.array([self.world.posted[self.inventory.market_names(key)] for key in keys])

    def place(self, demand: Demand | None = None) -> Placement | None:
        """The engine's answer: None is a refusal, by capacity or by the price cap."""
        found = self.inventory.placer.place(demand or self.demand)
        cap = self.request.max_price_micro_usd_per_gpu_hour
        if isinstance(found, NoPlacement):
            assert found.proven
            return None
        return None if cap is not None and found.rate > cap * self.request.gpu_count else found

    def faults(self, ours: Placement | None) -> list[str]:
        """Everything wrong with an answer; empty if it is right."""
        if ours is None or self.optimum is None:
            return [] if ours is self.optimum else [f"feasible: ours {ours}, twin {self.optimum}"]
        gpus, prices = as_rows(self.inventory, ours)
        world, best = self.world, self.optimum
        faults = violations(world.fleet, world.rtt, world.posted, world.request, gpus, prices)
        if ours.rate != best.rate_micro_usd_per_hour:
            faults.append(f"rate {ours.rate}, optimum {best.rate_micro_usd_per_hour}")
        if ours.lower_bound != ours.rate:
            faults.append(f"bound {ours.lower_bound} of an optimum of {ours.rate}")
        if (broken := self.broken(gpus)) > best.broken_nodes + 1:
            faults.append(f"breaks {broken} idle nodes, {best.broken_nodes} are necessary")
        return faults

    def broken(self, gpus: dict[str, int]) -> int:
        """Idle nodes that a placement takes in part, counted from the rows."""
        rows = {row["node_id"]: row for row in self.world.fleet}
        case = Case(self.world.fleet, self.world.rtt, self.world.posted, self.world.request)
        idle = [row for row in rows.values() if case.is_idle(row | {"state": "READY"})]
        return sum(0 < gpus.get(row["node_id"], 0) < row["gpu_count"] for row in idle)
