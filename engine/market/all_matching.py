"""How many GPUs a budget pays for: a request for all that matches becomes one for the most that it can have.

The least cost of r replicas never falls with r (drop a replica from the best placement of r + 1), and neither does
the least average, so the largest r within budget and price cap is found by doubling and bisection, a placement
each.
Where the search over close sites was cut short, a number of GPUs that it could not rule out is the upper bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from engine.domain.cluster_request import ClusterRequest, with_gpu_count
from engine.domain.errors import Refused
from engine.domain.limits import MAX_GPU_COUNT
from engine.domain.money import rounded_micro_usd, total_micro_usd
from engine.market.charges import cheapest_cap, totals_of
from engine.market.inventory import Inventory
from solvers.forward import HOUR_S, units_per_hour
from solvers.placement import Demand, NoPlacement, Placement, Search

BUDGET = "BUDGET_MICRO_USD"


class Largest(NamedTuple):
    """The most GPUs that a budget pays for. `gpus_bound`: no placement within it has more."""

    request: ClusterRequest
    demand: Demand
    gpus_bound: int
    relaxations: int


def largest(
    inventory: Inventory, request: ClusterRequest, demand: Demand, search: Search | None = None
) -> Largest:
    """The request and the demand of the most GPUs within the budget, each number looked for with one search.

    If not even the least number has a placement within the price cap, the request as it is. Refused (BUDGET) if it
    has one that costs more than the budget.
    """
    sizes = _Sizes(inventory, request, demand, search or Search())
    least = request.replicas
    most = min(int(inventory.free.sum()), MAX_GPU_COUNT) // request.gpus_per_node
    if not sizes.fits(least):
        sizes.refuse_dear(least)
        return Largest(request, demand, 0, sizes.relaxations)
    found = _last(sizes.fits, least, most)
    bound = found if sizes.exact else max(found, _last(sizes.may_fit, found, most))
    size = request.gpus_per_node
    sized = with_gpu_count(request, found * size)
    return Largest(sized, replace(demand, replicas=found), bound * size, sizes.relaxations)


def _last(holds: Callable[[int], bool], first: int, most: int) -> int:
    """The largest number up to `most` of those from `first` on for which `holds` is true; then it no longer is."""
    low, step = first, max(1, first)
    while low + step <= most and holds(low + step):
        low, step = low + step, 2 * step
    high = min(low + step, most + 1)
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


class _Sizes:
    """Whether so many replicas fit; each is placed once. `exact`: no search was cut short so far."""

    def __init__(self, inventory: Inventory, request: ClusterRequest, demand: Demand, search: Search) -> None:
        assert request.budget_micro_usd is not None
        self._inventory, self._request, self._demand = inventory, request, demand
        self._budget, self._duration_s = request.budget_micro_usd, request.priced_duration_s
        self._known: dict[int, Placement | NoPlacement] = {}
        self._search, self.exact, self.relaxations = search, True, 0

    def fits(self, replicas: int) -> bool:
        """Whether a placement within budget and cap was found."""
        found = self._placed(replicas)
        if isinstance(found, NoPlacement):
            return False
        total, _ = totals_of(self._inventory, found, self._duration_s)
        return total <= self._budget and self._keeps_cap(found.rate, replicas)

    def may_fit(self, replicas: int) -> bool:
        """Whether there can be one, for all that was proven."""
        found = self._placed(replicas)
        if isinstance(found, NoPlacement):
            return not found.proven
        return self._least_total(found) <= self._budget and self._keeps_cap(found.lower_bound, replicas)

    def refuse_dear(self, replicas: int) -> None:
        """Raise if the placement is there and keeps the cap, so that the budget is in the way."""
        found = self._placed(replicas)
        if isinstance(found, Placement) and self._keeps_cap(found.rate, replicas):
            total, _ = totals_of(self._inventory, found, self._duration_s)
            gpus = replicas * self._request.gpus_per_node
            told = f"the cheapest {gpus:,} GPUs cost {total:,} micro-USD, above the budget of {self._budget:,}"
            raise Refused(BUDGET, told, cheapest_micro_usd=str(total))

    def _placed(self, replicas: int) -> Placement | NoPlacement:
        found = self._known.get(replicas)
        if found is None:
            gpus = replicas * self._request.gpus_per_node
            placer = self._inventory.placer_for(self._duration_s, self._demand.models, gpus)
            found = self._known[replicas] = placer.place(replace(self._demand, replicas=replicas), self._search)
            self.relaxations += found.relaxations
            whole = found.proven if isinstance(found, NoPlacement) else found.rate == found.lower_bound
            self.exact = self.exact and whole
        return found

    def _keeps_cap(self, cost: int, replicas: int) -> bool:
        cap = self._request.max_price_micro_usd_per_gpu_hour
        sized = with_gpu_count(self._request, replicas * self._request.gpus_per_node)
        return cap is None or cheapest_cap(self._inventory, cost, 0, sized) <= cap

    def _least_total(self, found: Placement) -> int:
        if self._inventory.is_flat(self._duration_s):
            return total_micro_usd(int(found.lower_bound), self._duration_s)
        return rounded_micro_usd(int(found.lower_bound) * HOUR_S // units_per_hour(self._duration_s))
