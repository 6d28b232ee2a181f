"""How many GPUs a cluster could have at most, under some of a request's constraints.

The counts behind every explanation. Constraints on nodes are masks over rows, which are nodes or whole pools; what
binds nodes together (one model, one fabric, replicas, a supplier's share, the average price) is counted by
`solvers.most` in one pass. Close sites are searched by branch and bound as in `solvers.placement`, on the count;
if RELAXATIONS_MAX is reached the count is an upper bound and says so.
"""

from __future__ import annotations

import heapq
from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from engine.domain.cluster_request import ClusterRequest
from engine.market.counted_rows import NONE, Flags, Int, Rows
from engine.market.inventory import Inventory
from solvers.distances import RTT_TOLERANCE_MS
from solvers.most import NO_LIMIT, most_by_group

RELAXATIONS_MAX = 24
CAP = "max_price_micro_usd_per_gpu_hour"


@dataclass(frozen=True, slots=True)
class Reach:
    """The most GPUs; an upper bound unless `exact`."""

    gpus: int
    exact: bool


def joint_constraints(request: ClusterRequest) -> list[str]:
    """Names of the request's constraints that bind nodes together, in the order they are applied."""
    active = {
        "gpus_per_node": request.gpus_per_node > 1,
        "allow_mixed_models": not request.allow_mixed_models,
        "same_fabric": request.same_fabric,
        "max_supplier_share": request.max_supplier_share is not None,
        "max_cluster_rtt_ms": request.max_cluster_rtt_ms is not None,
        CAP: request.max_price_micro_usd_per_gpu_hour is not None,
    }
    return [name for name, is_active in active.items() if is_active]


def reach(
    inventory: Inventory, request: ClusterRequest, rows: Rows, passes: Flags, joint: Set[str], room: Int
) -> Reach:
    """The most GPUs on rows that pass, under the named joint constraints. `passes`, `room`: (rows,)."""
    useful = passes & (room > 0)
    # Without a cap any order will do, and the sort that each change of prices makes necessary is spared.
    members = inventory.by_price[useful[inventory.by_price]] if CAP in joint else np.flatnonzero(useful)
    counts = _Counter(inventory, request, rows, joint, room).most(members)
    if "max_cluster_rtt_ms" not in joint:
        return Reach(int(counts.max(initial=0)), True)
    assert request.max_cluster_rtt_ms is not None
    counter = _Counter(inventory, request, rows, joint, room.copy())
    return _largest_close(inventory, counter, members, counts, request.max_cluster_rtt_ms + RTT_TOLERANCE_MS)


def _groups(inventory: Inventory, rows: Rows, joint: Set[str]) -> tuple[Int, int]:
    """(group of each row, their number): by model, by fabric, by both, or all in one; -1 on no fabric."""
    columns, one_model = rows.columns, "allow_mixed_models" in joint
    models = len(inventory.models) if one_model else 1
    # Copied, as columns of nodes are views that jump from row to row: their kernel would be another one.
    model = np.ascontiguousarray(columns.model) if one_model else np.zeros(rows.free.size, dtype=np.int64)
    if "same_fabric" not in joint:
        return model, models
    fabrics = int(columns.fabric.max(initial=-1)) + 1
    return np.where(columns.fabric >= 0, columns.fabric * models + model, -1), fabrics * models


class _Counter:
    """Counts with everything fixed but the rows to consider."""

    def __init__(
        self, inventory: Inventory, request: ClusterRequest, rows: Rows, joint: Set[str], room: Int
    ) -> None:
        """`room` (rows,): GPUs; `folded` changes it."""
        self._suppliers, self.rows, self._free = len(inventory.suppliers), rows, room
        self.group, self._groups = _groups(inventory, rows, joint)
        self._g = request.gpus_per_node if "gpus_per_node" in joint else 1
        share = request.max_gpus_per_supplier if "max_supplier_share" in joint else None
        self._share = NO_LIMIT if share is None else share
        cap = request.max_price_micro_usd_per_gpu_hour
        self._cap = int(cap) if cap is not None and CAP in joint else NO_LIMIT

    def folded(self, members: Int) -> Int:
        """One of all members that stand at one site and count alike; it then has what they have together."""
        alike = self.rows.columns.site[members]
        for counts, column in ((self._share, self.rows.columns.supplier), (self._cap, self.rows.price)):
            if counts != NO_LIMIT:
                values, code = np.unique(column[members], return_inverse=True)
                alike = alike * values.size + code
        _, first, row = np.unique(alike, return_index=True, return_inverse=True)
        self._free[members[first]] = np.bincount(row, self._free[members] // self._g * self._g)
        return members[np.sort(first)]

    def most(self, members: Int, taken: Int = NONE) -> Int:
        """The most GPUs of each group on `members`, cheapest first under a cap; `taken` (members,) says where."""
        return most_by_group(
            members,
            self._free,
            self._g,
            self.group,
            self._groups,
            self.rows.columns.supplier,
            self._suppliers,
            self._share,
            self.rows.price,
            self._cap,
            taken,
        )


def _largest_close(inventory: Inventory, counter: _Counter, everyone: Int, counts: Int, limit_ms: float) -> Reach:
    """Best-first over (group, sites still allowed); the first branch whose sites are close is the optimum."""
    queue: list[tuple[int, int, Int]] = []
    everyone = everyone[counter.group[everyone] >= 0]
    group = counter.group[everyone].astype(np.min_scalar_type(counts.size))  # small numbers are sorted faster
    of_group = everyone[np.argsort(group, kind="stable")]
    first = np.append(0, np.cumsum(np.bincount(group, minlength=counts.size)))
    groups = iter(np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist())
    following = next(groups, None)
    site, solved = counter.rows.columns.site, 0

    def push(members: Int) -> None:
        nonlocal solved
        solved += 1
        if count := int(counter.most(members).max(initial=0)):
            heapq.heappush(queue, (-count, solved, members))

    while solved < RELAXATIONS_MAX:
        if following is not None and (not queue or counts[following] > -queue[0][0]):
            push(counter.folded(of_group[first[following] : first[following + 1]]))
            following = next(groups, None)
            continue
        if not queue:
            return Reach(0, True)
        bound, _, members = heapq.heappop(queue)
        taken = np.zeros(members.size, dtype=np.int64)
        counter.most(members, taken)
        far = _far_site(inventory, site[members], taken, limit_ms)
        if far is None:
            return Reach(-bound, True)
        push(members[inventory.distances.from_site(far)[site[members]] <= limit_ms])
        push(members[site[members] != far])
    open_bounds = [-bound for bound, _, _ in queue] + ([] if following is None else [int(counts[following])])
    return Reach(max(open_bounds, default=0), False)


def _far_site(inventory: Inventory, site: Int, taken: Int, limit_ms: float) -> int | None:
    """The most used site that is too far from another used one."""
    weight = np.bincount(site, weights=taken)
    used = np.flatnonzero(weight)
    for far in used[np.argsort(-weight[used], kind="stable")].tolist():
        if (inventory.distances.from_site(far)[used] > limit_ms).any():
            return int(far)
    return None
