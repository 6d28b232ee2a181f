"""Deciding ShrinkLease: whole replicas are given back, and what stays keeps every constraint.

The rule: what stays is the cheapest choice of replicas with no supplier above its share; the dearest leave. Among
equally dear ones those leave first whose node becomes idle by it, then those of nodes with fewer replicas of the
lease, then the less reliable, then the later node ids. Filling up from the cheapest end while suppliers have room
is a greedy choice in a partition matroid, so it is exact.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest, with_gpu_count
from engine.domain.errors import AuditFailed, InvalidInput, Refused, Violation
from engine.domain.tiers import NodeState
from engine.market.audit import placement_faults
from engine.market.commands import ShrinkLease
from engine.market.end_reasons import Refund
from engine.market.events import LeaseShrunk
from engine.market.inventory import Inventory
from engine.market.lease_decision import owned_lease, still_active
from engine.market.lease_terms import Terms
from engine.market.refunds import due_micro_usd, refund_of
from engine.market.state import Lease, MarketState
from engine.market.use import use_of

Int = NDArray[np.int64]


def shrink(state: MarketState, command: ShrinkLease, now_us: int) -> LeaseShrunk:
    """The smaller lease and its refund. Refused if the shares of suppliers cannot hold in what stays."""
    lease = still_active(owned_lease(state, command.tenant_id, command.lease_id))
    inventory, standing = state.inventory, lease.standing
    request = standing.request
    if not 0 < command.replicas < request.replicas:
        most = f"must be between 1 and {request.replicas - 1}: the lease has {request.replicas} replicas"
        raise InvalidInput([Violation("replicas", most)])
    after = with_gpu_count(request, request.gpu_count - command.replicas * request.gpus_per_node)
    stays = staying(inventory, standing, after)
    if stays is None:
        share = request.max_supplier_share
        told = f"{after.gpu_count:,} GPUs cannot be kept with at most a share of {share} from each supplier"
        raise Refused("MAX_SUPPLIER_SHARE", told)
    kept = [_kept(lease, place, stays) for place in range(len(lease.periods))]
    given = [period.row_gpus - left for period, left in zip(lease.periods, kept, strict=True)]
    used = stays > 0
    event = LeaseShrunk(
        at_us=now_us,
        key=command.key,
        lease_id=lease.lease_id,
        gpu_count=after.gpu_count,
        nodes=standing.node_numbers[used].astype("<i4").tobytes(),
        gpus=stays[used].astype("<i4").tobytes(),
        prices_micro_usd_per_gpu_hour=standing.prices[used].astype("<i8").tobytes(),
        kept=[left.astype("<i4").tobytes() for left in kept],
        refund_micro_usd=refund_of(inventory, lease, given, Refund.AT_MARKET, now_us),
        earned_micro_usd=due_micro_usd(inventory, lease, now_us),
    )
    _audit(inventory, standing, after, event)
    return event


def staying(inventory: Inventory, standing: Terms, after: ClusterRequest) -> Int | None:
    """GPUs that stay on each node of a lease, (nodes,); None if shares leave no way."""
    nodes, gpus, size = standing.node_numbers, standing.gpus_per_node, after.gpus_per_node
    columns = inventory.nodes
    idles = inventory.unused[nodes] + gpus == columns.gpu_count[nodes]
    cheapest_first = np.lexsort((columns.rank[nodes], -columns.reliability[nodes], -gpus, idles, standing.prices))
    most = after.max_gpus_per_supplier
    room: dict[int, int] = {}
    stays, left = np.zeros_like(gpus), after.gpu_count
    for place in cheapest_first.tolist():
        supplier = int(columns.supplier[nodes[place]])
        allowed = room.setdefault(supplier, left if most is None else most)
        taken = min(int(gpus[place]), left, allowed) // size * size
        stays[place] = taken
        left -= taken
        room[supplier] = allowed - taken
    return None if left else stays


def _kept(lease: Lease, place: int, stays: Int) -> Int:
    """GPUs of each row of a period that go on being paid for.

    Those of the nodes that stay; where the lease was moved after the period was sold, the cheapest as many.
    """
    period, standing = lease.periods[place], lease.standing
    if (period.nodes, period.gpus) == (standing.nodes, standing.gpus):
        return stays
    gpus, left = period.row_gpus, int(stays.sum())
    kept = np.zeros_like(gpus)
    for row in np.argsort(period.prices, kind="stable").tolist():
        kept[row] = min(int(gpus[row]), left)
        left -= int(kept[row])
    return kept


def _audit(inventory: Inventory, standing: Terms, after: ClusterRequest, event: LeaseShrunk) -> None:
    """What stays must break no rule that the lease does not break already, as a load has changed its nodes."""
    terms = msgspec.structs.replace(standing, request=after, nodes=event.nodes, gpus=event.gpus)
    if broken := _faults(inventory, terms) - _faults(inventory, standing):
        raise AuditFailed("what stays failed its audit: " + "; ".join(sorted(broken)))


def _faults(inventory: Inventory, terms: Terms) -> set[str]:
    """Rules broken by a lease where it runs, whatever the state of its nodes."""
    seen = inventory.glance(terms.node_numbers)
    ready = np.full_like(seen.state, int(NodeState.READY))
    seen = seen._replace(unused=terms.gpus_per_node, state=ready, own=use_of(terms))
    return set(placement_faults(inventory, terms, seen))
