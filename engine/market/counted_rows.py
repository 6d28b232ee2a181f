"""What an explanation counts: nodes, or whole pools, with the constraints that judge each of them by itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.limits import MAX_GPU_COUNT
from engine.market import demand
from engine.market.inventory import Inventory
from solvers.most import whole_of_pools
from solvers.pools import CERTIFICATIONS, CONNECTIVITY, FABRIC, INTERCONNECT, MODEL, SITE, TIER, NodeColumns

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
POOL_COLUMNS = (MODEL, SITE, TIER, CERTIFICATIONS, CONNECTIVITY, INTERCONNECT, FABRIC)
"""The first ones of `NodeColumns`."""
NONE: NDArray[Any] = np.empty(0, dtype=np.int64)


class Rows(NamedTuple):
    """What is counted: nodes, or whole pools where a request cannot tell the nodes of one apart.

    `columns`: of either; pools have none of what tells their nodes apart. `free`: GPUs that could serve the
    request if it had no constraint, `whole`: those that whole replicas can have. `price`: of nodes under a cap.
    """

    columns: NodeColumns
    free: Int
    whole: Int
    price: Int = NONE


def rows_of(inventory: Inventory, request: ClusterRequest) -> Rows:
    """The rows of a request: there are fewer pools than nodes."""
    is_capped = request.max_price_micro_usd_per_gpu_hour is not None
    if not (is_capped or _judges_nodes(request)):
        pools = inventory.pools
        columns = NodeColumns(*np.ascontiguousarray(pools.table[:, POOL_COLUMNS].T), *[NONE] * 5)
        return Rows(columns, pools.left, whole_of_pools(pools.table, pools.free, request.gpus_per_node))
    free = inventory.free
    if request.gpu_milli is not None:
        free = free + _shared(inventory, 1)  # a shared card with anything left may serve a part
    return Rows(inventory.nodes, free, free, inventory.node_prices if is_capped else NONE)


def _judges_nodes(request: ClusterRequest) -> bool:
    """Whether the nodes of a pool differ in anything that the request asks for, but for prices."""
    suppliers = request.allowed_suppliers or request.excluded_suppliers or request.max_supplier_share is not None
    return bool(suppliers or request.min_reliability or not request.is_plain)


def row_masks(inventory: Inventory, request: ClusterRequest, rows: Rows) -> dict[str, Flags]:
    """The rows that keep each constraint on nodes that the request has, by constraint name, (rows,) each."""
    columns, masks = rows.columns, dict[str, Flags]()
    if request.gpu_models:
        masks["gpu_models"] = inventory.models.mask(request.gpu_models)[columns.model]
    if name := _given(request, "regions", "countries", "sites"):
        masks[name] = demand.wanted_sites(inventory, request)[columns.site]
    if name := _given(request, "excluded_regions", "excluded_countries", "excluded_sites"):
        masks[name] = ~demand.excluded_sites(inventory, request)[columns.site]
    if request.max_client_rtt_ms is not None:
        masks["max_client_rtt_ms"] = demand.near_sites(inventory, request)[columns.site]
    if request.min_security_tier:
        masks["min_security_tier"] = columns.tier >= request.min_security_tier
    if request.certifications:
        wanted = demand.certification_mask(inventory, request)
        masks["certifications"] = (columns.certifications & wanted) == wanted
    if request.min_connectivity_tier:
        masks["min_connectivity_tier"] = columns.connectivity >= request.min_connectivity_tier
    if request.min_interconnect:
        masks["min_interconnect"] = columns.interconnect >= request.min_interconnect
    if request.min_reliability:
        masks["min_reliability"] = columns.reliability >= request.min_reliability
    if name := _given(request, "allowed_suppliers", "excluded_suppliers"):
        masks[name] = demand.suppliers_ok(inventory, request)[columns.supplier]
    return masks


def room_limits(inventory: Inventory, request: ClusterRequest) -> dict[str, Int]:
    """The most GPUs that each need for a part of a card, CPU or memory leaves of every node, (nodes,) each."""
    limits: dict[str, Int] = {}
    if request.gpu_milli is not None:
        limits["gpu_milli"] = inventory.free + _shared(inventory, request.gpu_milli)
    spare, size = inventory.spare, request.gpus_per_node
    if request.cpu_milli is not None:
        limits["cpu_milli"] = np.minimum(spare.cpu_milli // request.cpu_milli, MAX_GPU_COUNT) * size
    if request.memory_mib is not None:
        limits["memory_mib"] = np.minimum(spare.memory_mib // request.memory_mib, MAX_GPU_COUNT) * size
    return limits


def _shared(inventory: Inventory, milli: int) -> Int:
    """Shared cards of each READY node with so much left, (nodes,)."""
    cards = inventory.spare.cards.table()
    fitting = cards[cards[:, 2] >= milli, 0]
    return np.bincount(fitting, minlength=inventory.node_ids.size) * inventory.is_open


def _given(request: ClusterRequest, *names: str) -> str:
    """The given ones of some list fields, joined: together they are one constraint."""
    return ",".join(name for name in names if getattr(request, name))
