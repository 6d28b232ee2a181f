"""How many GPUs a cluster could have at most, under some of a request's constraints.

The counts behind every explanation. Node constraints are masks over nodes; what binds nodes together (one model,
one fabric, replicas, a supplier's share, close sites, the average price) is solved: nodes are grouped by model
and fabric where one must be chosen, and inside a group GPUs are taken cheapest first while shares and the
average price allow. Close sites are searched by branch and bound as in `solvers.placement`, on the count; if
`RELAXATIONS_MAX` is reached the count is an upper bound and says so.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.market import demand
from engine.market.inventory import Inventory
from solvers.distances import RTT_TOLERANCE_MS

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
RELAXATIONS_MAX = 24


@dataclass(frozen=True, slots=True)
class Reach:
    """The most GPUs; an upper bound unless `exact`."""

    gpus: int
    exact: bool


def node_masks(inventory: Inventory, request: ClusterRequest) -> dict[str, Flags]:
    """The nodes that keep each per-node constraint the request has, by constraint name, (nodes,) each."""
    nodes = inventory.nodes
    masks: dict[str, Flags] = {}
    if request.gpu_models:
        masks["gpu_models"] = inventory.models.mask(request.gpu_models)[nodes.model]
    if name := _given(request, "regions", "countries", "sites"):
        masks[name] = demand.wanted_sites(inventory, request)[nodes.site]
    if name := _given(request, "excluded_regions", "excluded_countries", "excluded_sites"):
        masks[name] = ~demand.excluded_sites(inventory, request)[nodes.site]
    if request.max_client_rtt_ms is not None:
        masks["max_client_rtt_ms"] = demand.near_sites(inventory, request)[nodes.site]
    if request.min_security_tier:
        masks["min_security_tier"] = nodes.tier >= request.min_security_tier
    if request.certifications:
        wanted = demand.certification_mask(inventory, request)
        masks["certifications"] = (nodes.certifications & wanted) == wanted
    if request.min_connectivity_tier:
        masks["min_connectivity_tier"] = nodes.connectivity >= request.min_connectivity_tier
    if request.min_interconnect:
        masks["min_interconnect"] = nodes.interconnect >= request.min_interconnect
    if request.min_reliability:
        masks["min_reliability"] = nodes.reliability >= request.min_reliability
    if name := _given(request, "allowed_suppliers", "excluded_suppliers"):
        masks[name] = demand.suppliers_ok(inventory, request)[nodes.supplier]
    return masks


def joint_constraints(request: ClusterRequest) -> list[str]:
    """Names of the request's constraints that bind nodes together, in the order they are applied."""
    active = {
        "gpus_per_node": request.gpus_per_node > 1,
        "allow_mixed_models": not request.allow_mixed_models,
        "same_fabric": request.same_fabric,
        "max_supplier_share": request.max_supplier_share is not None,
        "max_cluster_rtt_ms": request.max_cluster_rtt_ms is not None,
        "max_price_micro_usd_per_gpu_hour": request.max_price_micro_usd_per_gpu_hour is not None,
    }
    return [name for name, is_active in active.items() if is_active]


def reach(inventory: Inventory, request: ClusterRequest, eligible: Flags, joint: set[str], free: Int) -> Reach:
    """The most GPUs on `eligible` nodes under the named joint constraints. `free`: (nodes,) GPUs."""
    g = request.gpus_per_node if "gpus_per_node" in joint else 1
    fits = np.where(eligible, free // g * g, 0)
    members = np.flatnonzero(fits)
    if not members.size:
        return Reach(0, True)
    candidates = _Candidates(inventory, request, members, fits[members], g, joint)
    groups = candidates.groups()
    if "max_cluster_rtt_ms" not in joint:
        return Reach(_largest(candidates, groups), True)
    assert request.max_cluster_rtt_ms is not None
    return _largest_close(candidates, groups, request.max_cluster_rtt_ms + RTT_TOLERANCE_MS)


class _Candidates:
    """Nodes with room, their GPUs in whole replicas, and the limits on taking them together."""

    def __init__(
        self, inventory: Inventory, request: ClusterRequest, nodes: Int, gpus: Int, g: int, joint: set[str]
    ) -> None:
        columns = inventory.nodes
        if "same_fabric" in joint:
            on_fabric = columns.fabric[nodes] >= 0
            nodes, gpus = nodes[on_fabric], gpus[on_fabric]
        self.inventory, self.nodes, self.gpus, self.g, self.joint = inventory, nodes, gpus, g, joint
        self.site, self.supplier = columns.site[nodes], columns.supplier[nodes]
        self.price = np.maximum(columns.ask_micro_usd[nodes], inventory.posted[nodes])
        share = request.max_gpus_per_supplier if "max_supplier_share" in joint else None
        self.share = None if share is None else share // g * g
        capped = "max_price_micro_usd_per_gpu_hour" in joint
        self.cap = request.max_price_micro_usd_per_gpu_hour if capped else None

    def groups(self) -> list[Int]:
        """Positions of the nodes of each alternative: by model, by fabric, by both, or all; largest first."""
        columns = self.inventory.nodes
        keys = [np.zeros(self.nodes.size, dtype=np.int64)]
        if "allow_mixed_models" in self.joint:
            keys.append(columns.model[self.nodes])
        if "same_fabric" in self.joint:
            keys.append(columns.fabric[self.nodes])
        order = np.lexsort(keys)
        changes = np.zeros(max(order.size - 1, 0), dtype=bool)
        for key in keys:
            changes |= np.diff(key[order]) != 0
        groups = np.split(order, np.flatnonzero(changes) + 1)
        return sorted(groups, key=lambda group: -int(self.gpus[group].sum()))

    def most(self, group: Int) -> tuple[int, Int]:
        """(most GPUs of a group without the limit between sites, GPUs taken per node of the group)."""
        if self.share is None and self.cap is None:
            return int(self.gpus[group].sum()), self.gpus[group]
        order = group[np.argsort(self.price[group], kind="stable")]
        taken = self.gpus[order]
        if self.share is not None:
            taken = _limited_by_supplier(taken, self.supplier[order], self.share)
        if self.cap is not None:
            taken = _limited_by_price(taken, self.price[order] - self.cap, self.g)
        by_node = np.zeros(self.nodes.size, dtype=np.int64)
        by_node[order] = taken
        return int(taken.sum()), by_node[group]


def _limited_by_supplier(gpus: Int, supplier: Int, share: int) -> Int:
    """Cut what each supplier gives, in the given order, to its share."""
    order = np.argsort(supplier, kind="stable")
    given = np.cumsum(gpus[order])
    starts = np.flatnonzero(np.diff(supplier[order], prepend=-1))
    before = np.repeat(given[starts] - gpus[order][starts], np.diff(np.append(starts, order.size)))
    room = share - (given - before - gpus[order])
    result = np.empty_like(gpus)
    result[order] = np.clip(room, 0, gpus[order])
    return result


def _limited_by_price(gpus: Int, excess: Int, g: int) -> Int:
    """The longest cheapest-first prefix, in whole replicas, whose total excess over the cap is not positive."""
    spent = np.cumsum(gpus * excess)
    within = int(np.argmax(spent > 0)) if (spent > 0).any() else gpus.size
    result = np.where(np.arange(gpus.size) < within, gpus, 0)
    if within < gpus.size:
        slack = int(-(spent[within] - gpus[within] * excess[within]))
        result[within] = min(int(gpus[within]), slack // int(excess[within]) // g * g)
    return result


def _largest(candidates: _Candidates, groups: list[Int]) -> int:
    best = 0
    for group in groups:
        if int(candidates.gpus[group].sum()) <= best:
            break
        best = max(best, candidates.most(group)[0])
    return best


def _largest_close(candidates: _Candidates, groups: list[Int], limit_ms: float) -> Reach:
    """Best-first over (group, sites still allowed); the first branch whose sites are close is the optimum."""
    queue: list[tuple[int, int, Int, Int]] = []
    solved = 0

    def push(group: Int) -> None:
        nonlocal solved
        solved += 1
        count, taken = candidates.most(group)
        if count:
            heapq.heappush(queue, (-count, solved, group, taken))

    for group in groups[:RELAXATIONS_MAX]:
        push(group)
    exact = len(groups) <= RELAXATIONS_MAX
    while queue:
        bound, _, group, taken = heapq.heappop(queue)
        far = _far_site(candidates, group, taken, limit_ms)
        if far is None or solved >= RELAXATIONS_MAX:
            return Reach(-bound, exact and far is None)
        site = candidates.site[group]
        close = candidates.inventory.distances.from_site(far)[site] <= limit_ms
        push(group[close])
        push(group[site != far])
    return Reach(0, exact)


def _far_site(candidates: _Candidates, group: Int, taken: Int, limit_ms: float) -> int | None:
    weight = np.bincount(candidates.site[group], weights=taken)
    used = np.flatnonzero(weight)
    for site in used[np.argsort(-weight[used], kind="stable")].tolist():
        if (candidates.inventory.distances.from_site(site)[used] > limit_ms).any():
            return int(site)
    return None


def _given(request: ClusterRequest, *names: str) -> str:
    """The given ones of some list fields, joined: together they are one constraint."""
    return ",".join(name for name in names if getattr(request, name))
