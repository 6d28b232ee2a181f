"""The cheapest single changes that would make a refused request feasible, each found by solving.

For a limit on an ordered scale (RTT, reliability, share, tier) the least change that suffices is sought: by
bisection over the values at which anything changes, as feasibility is monotone in them. For a list (regions,
models, suppliers, certifications) every single addition or removal is tried and the cheapest one kept, unless
even dropping the list would not help: where a model is full, no change of regions is tried one by one. The work
is bounded by BUDGET, so that no refusal can hold up the engine: the list may then miss a change, never name a
wrong one. What a change would cost is what a quote of the changed request tells, to the micro-dollar: for all that
matches, the most that the budget pays for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from engine.domain.cluster_request import ClusterRequest
from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.market import demand
from engine.market.all_matching import largest
from engine.market.charges import cheapest_cap, totals_of
from engine.market.inventory import Inventory
from solvers.placement import Placement, Search

SOLVE = Search(relaxations_max=24)
BUDGET = 400
"""Relaxations solved to find the changes of one explanation, and again to tell what they cost; with a limit
between sites one trial can need many."""
CANDIDATES_MAX = 64
"""Alternatives tried per list field, and sites considered for a wider limit between sites."""
SHOWN = 8
LOCATED = "regions", "countries", "sites"
"""Together they are one constraint: a node in any of them will do."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """One change of one field, and what the cluster would then cost."""

    field: str
    from_value: str
    to_value: str
    rate_micro_usd_per_hour: int
    total_micro_usd: int


class Solved(NamedTuple):
    """The cheapest placement of a request. `model`: of its first node, which is that of a gang of one model.

    `is_proven`: no search finds a cheaper one.
    """

    rate_micro_usd_per_hour: int
    total_micro_usd: int
    least_price_limit: int
    model: int
    is_proven: bool


Solve = Callable[[ClusterRequest], Solved | None]
"""None: there is none."""
Change = tuple[ClusterRequest, str, str, str]
"""(changed request, field, from, to)."""


def relaxations_of(inventory: Inventory, request: ClusterRequest, most_gpus: int) -> list[Relaxation]:
    """Single changes that suffice, cheapest first, at most SHOWN. `most_gpus`: what all constraints leave."""
    solver = _Solver(inventory)
    best: dict[str, tuple[int, Change]] = {}
    for change in _changes(inventory, request, solver.solve, most_gpus):
        changed, field, _, _ = change
        solved = solver.solve(changed)
        if solved is None or solved.total_micro_usd > MAX_TOTAL_MICRO_USD:
            continue
        rate = solved.rate_micro_usd_per_hour
        if field not in best or rate < best[field][0]:
            best[field] = rate, change
    ranked = sorted(best.values(), key=lambda found: (found[0], found[1][1]))
    shown = list(islice(solver.told(change for _, change in ranked), SHOWN))
    return sorted(shown, key=lambda found: (found.rate_micro_usd_per_hour, found.field))


class _Solver:
    """Solves changed requests, BUDGET relaxations for finding changes and as many for telling what they cost."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory, self._spent = inventory, 0
        self.solve: Solve = cache(self._solve)

    def told(self, changes: Iterable[Change]) -> Iterator[Relaxation]:
        """Those of the changes whose cost is known for sure: what a quote of the changed request would tell."""
        self._spent = 0
        for changed, field, before, after in changes:
            quoted = self._quoted(changed)
            if quoted is not None:
                yield Relaxation(field, before, after, quoted.rate_micro_usd_per_hour, quoted.total_micro_usd)

    def _solve(self, changed: ClusterRequest, search: Search = SOLVE) -> Solved | None:
        """Of a request for all that matches, the least that will do."""
        if self._spent >= BUDGET:
            return None
        inventory = self._inventory
        wanted, duration_s = demand.demand_of(inventory, changed, changed.gpu_models), changed.priced_duration_s
        found = inventory.placer_for(duration_s, wanted.models, changed.gpu_count).place(wanted, search)
        self._spent += found.relaxations
        if not isinstance(found, Placement):
            return None
        needed = cheapest_cap(inventory, found.rate, 0, changed)
        cap = changed.max_price_micro_usd_per_gpu_hour
        if cap is not None and needed > cap:
            return None
        total, rate = totals_of(inventory, found, duration_s, changed.gpu_milli)
        budget = changed.budget_micro_usd
        if budget is not None and total > budget:
            return None
        model = int(inventory.nodes.model[found.nodes[0]])
        return Solved(rate, total, needed, model, found.rate == found.lower_bound)

    def _quoted(self, changed: ClusterRequest) -> Solved | None:
        if changed.all_matching:
            return self._largest(changed)
        solved = self.solve(changed)
        return solved if solved is None or solved.is_proven else self._solve(changed, Search())

    def _largest(self, changed: ClusterRequest) -> Solved | None:
        """The most that the budget pays for; None if a search that was cut short leaves open how much that is."""
        if self._spent >= BUDGET:
            return None
        wanted = demand.demand_of(self._inventory, changed, changed.gpu_models)
        most = largest(self._inventory, changed, wanted, SOLVE)
        solved = self.solve(most.request)
        self._spent += most.relaxations
        is_sure = solved is not None and solved.is_proven and most.gpus_bound == most.request.gpu_count
        return solved if is_sure else None


def _changes(inventory: Inventory, request: ClusterRequest, solve: Solve, most_gpus: int) -> Iterator[Change]:
    yield from _list_changes(inventory, request, solve)
    yield from _tier_changes(request, solve)
    yield from _scale_changes(inventory, request, solve)
    yield from _beside_changes(inventory, request, solve)
    yield from _flag_changes(request)
    yield from _count_changes(request, most_gpus)
    yield from _price_changes(request, solve)


def _list_changes(inventory: Inventory, request: ClusterRequest, solve: Solve) -> Iterator[Change]:
    """Add one name to a list that allows; take one from a list that forbids or demands; or drop the list."""
    located = ",".join(field for field in LOCATED if getattr(request, field))
    for field, known in (
        ("gpu_models", inventory.models),
        ("regions", inventory.regions),
        ("countries", inventory.countries),
        ("allowed_suppliers", inventory.suppliers),
    ):
        names: tuple[str, ...] = getattr(request, field)
        dropped = LOCATED if field in LOCATED else (field,)
        widest = solve(_without(request, *dropped)) if names else None
        if widest is None:
            continue
        before = ", ".join(names)
        others = [name for name in known.names if name not in names][:CANDIDATES_MAX]
        if field == "gpu_models" and not request.allow_mixed_models:
            others = [known.names[widest.model]]
        for name in others:
            yield _changed(request, field, before, f"{before}, {name}", **{field: tuple(sorted((*names, name)))})
        if field in ("gpu_models", "allowed_suppliers"):
            yield _changed(request, field, before, "any", **{field: ()})
    if located:
        before = ", ".join((*request.regions, *request.countries, *request.sites))
        yield _without(request, *LOCATED), located, before, "anywhere"
    for field in (
        "excluded_regions",
        "excluded_countries",
        "excluded_sites",
        "excluded_suppliers",
        "certifications",
    ):
        names = getattr(request, field)
        if not names or solve(_without(request, field)) is None:
            continue
        for name in names[:CANDIDATES_MAX]:
            rest = tuple(other for other in names if other != name)
            yield _changed(request, field, ", ".join(names), ", ".join(rest) or "none", **{field: rest})
        if len(names) > 1:
            yield _changed(request, field, ", ".join(names), "none", **{field: ()})


def _tier_changes(request: ClusterRequest, solve: Solve) -> Iterator[Change]:
    """Step a tier down until the request fits."""
    for field in ("min_security_tier", "min_connectivity_tier", "min_interconnect"):
        tier = getattr(request, field)
        if tier is None:
            continue
        for rank in range(tier - 1, -1, -1):
            lower = type(tier)(rank)
            change = _changed(request, field, tier.name, lower.name, **{field: lower})
            if solve(change[0]) is not None:
                yield change
                break


def _scale_changes(inventory: Inventory, request: ClusterRequest, solve: Solve) -> Iterator[Change]:
    """Move a numeric limit to the first value that suffices."""
    for field, values in (
        ("max_client_rtt_ms", _client_rtts(inventory, request)),
        ("max_cluster_rtt_ms", _cluster_rtts(inventory, request)),
        ("min_reliability", _reliabilities(inventory, request)),
        ("max_supplier_share", _shares(request)),
    ):
        before = getattr(request, field)
        if before is None:
            continue
        first = _first_feasible(values, lambda value, field=field: solve(replace(request, **{field: value})))  # type: ignore[misc]
        if first is not None:
            yield _changed(request, field, _number(before), _number(first), **{field: first})


def _beside_changes(inventory: Inventory, request: ClusterRequest, solve: Solve) -> Iterator[Change]:
    """Lower what is needed of a card, of CPU or of memory to the most that suffices."""
    spare, largest = inventory.spare, int(inventory.nodes.gpu_count.max(initial=1))
    most = max(1, min(request.replicas, largest // request.gpus_per_node))
    for field, left in (
        ("gpu_milli", spare.cards.table()[:, 2]),
        ("cpu_milli", spare.cpu_milli),
        ("memory_mib", spare.memory_mib),
    ):
        before = getattr(request, field)
        if before is None:
            continue
        shares = np.unique(np.unique(left)[:, None] // np.arange(1, most + 1))
        values = shares[(shares > 0) & (shares < before)][::-1].tolist()
        first = _first_feasible(values, lambda value, field=field: solve(replace(request, **{field: value})))  # type: ignore[misc]
        if first is not None:
            yield _changed(request, field, str(before), str(first), **{field: first})


def _number(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(float(value)).removesuffix(".0")


def _first_feasible(values: Sequence[float], solve: Callable[[float], object | None]) -> float | None:
    """The first of the values, ordered from strict to lax, that is feasible."""
    if not values or solve(values[-1]) is None:
        return None
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if solve(values[middle]) is None:
            low = middle + 1
        else:
            high = middle
    return values[high]


def _client_rtts(inventory: Inventory, request: ClusterRequest) -> list[float]:
    if request.max_client_rtt_ms is None:
        return []
    return _above(request.max_client_rtt_ms, demand.client_rtt_ms(inventory, request))


def _cluster_rtts(inventory: Inventory, request: ClusterRequest) -> list[float]:
    """RTTs above the limit between the sites with most free GPUs that the request may use."""
    if request.max_cluster_rtt_ms is None:
        return []
    free = np.bincount(inventory.nodes.site, weights=inventory.free, minlength=len(inventory.sites.names))
    free[~demand.sites_ok(inventory, request)] = 0
    sites = np.argsort(-free, kind="stable")[: min(CANDIDATES_MAX, np.count_nonzero(free))]
    if not sites.size:
        return []
    rows = np.array([inventory.distances.from_site(int(site))[sites] for site in sites])
    return _above(request.max_cluster_rtt_ms, rows.ravel())


def _above(limit_ms: float, rtt_ms: Any) -> list[float]:
    """Distinct RTTs above a limit, rounded up to 0.01 ms so that people can read them."""
    return [math.ceil(value * 100) / 100 for value in np.unique(np.ceil(rtt_ms[rtt_ms > limit_ms] * 100) / 100)]


def _reliabilities(inventory: Inventory, request: ClusterRequest) -> list[float]:
    if request.min_reliability is None:
        return []
    values = np.unique(inventory.nodes.reliability)
    return values[values < request.min_reliability][::-1].tolist()  # type: ignore[no-any-return]


def _shares(request: ClusterRequest) -> list[float]:
    limit = request.max_gpus_per_supplier
    if limit is None:
        return []
    steps = range(limit // request.gpus_per_node + 1, request.replicas + 1)
    return [step * request.gpus_per_node / request.gpu_count for step in steps]


def _flag_changes(request: ClusterRequest) -> Iterator[Change]:
    if not request.allow_mixed_models and len(request.gpu_models) != 1:
        yield _changed(request, "allow_mixed_models", "false", "true", allow_mixed_models=True)
    if request.same_fabric:
        yield _changed(request, "same_fabric", "true", "false", same_fabric=False)


def _count_changes(request: ClusterRequest, most_gpus: int) -> Iterator[Change]:
    fewer = min(most_gpus, request.gpu_count - 1) // request.gpus_per_node * request.gpus_per_node
    if fewer > 0:
        yield _changed(request, "gpu_count", str(request.gpu_count), str(fewer), gpu_count=fewer)
    for per_node in range(request.gpus_per_node - 1, 0, -1):
        if request.gpu_count % per_node == 0:
            yield _changed(
                request, "gpus_per_node", str(request.gpus_per_node), str(per_node), gpus_per_node=per_node
            )


def _price_changes(request: ClusterRequest, solve: Solve) -> Iterator[Change]:
    field = "max_price_micro_usd_per_gpu_hour"
    cap = request.max_price_micro_usd_per_gpu_hour
    solved = None if cap is None else solve(replace(request, max_price_micro_usd_per_gpu_hour=None))
    if solved is not None:
        needed = solved.least_price_limit
        yield _changed(request, field, str(cap), str(needed), **{field: needed})
    budget = request.budget_micro_usd
    solved = None if budget is None else solve(replace(request, budget_micro_usd=MAX_TOTAL_MICRO_USD))
    if solved is not None and budget is not None and solved.total_micro_usd > budget:
        total = solved.total_micro_usd
        yield _changed(request, "budget_micro_usd", str(budget), str(total), budget_micro_usd=total)


def _without(request: ClusterRequest, *fields: str) -> ClusterRequest:
    """The request with some lists dropped."""
    nothing: dict[str, Any] = dict.fromkeys(fields, ())
    return replace(request, **nothing)


def _changed(request: ClusterRequest, field: str, before: str, after: str, **values: Any) -> Change:
    return replace(request, **values), field, before, after
