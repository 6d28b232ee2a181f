"""Between the contract's messages of ClusterService and the engine's values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from walras.v1 import cluster_request_pb2, cluster_service_pb2, placement_pb2

from engine.domain.cluster_request import ClusterRequest, parse_cluster_request
from engine.domain.errors import InvalidInput, Violation
from engine.market.explain import Explanation
from engine.market.inventory import Inventory
from engine.market.lease_terms import PriceLine, Terms
from engine.market.relaxations import Relaxation
from engine.market.state import ACTIVE, ENDED, RECLAIMING, Lease, Quote, started

TEXT_LENGTH_MAX = 80
EXPLANATION_BYTES_MAX = 4_500
"""A refusal carries its explanation in the metadata, which receivers limit to 8 KiB."""
_FIELDS = cluster_request_pb2.ClusterRequest.DESCRIPTOR.fields_by_name
_ENUM_PREFIX = {
    "min_security_tier": "SECURITY_TIER_",
    "min_connectivity_tier": "CONNECTIVITY_TIER_",
    "min_interconnect": "INTERCONNECT_",
}
"""What proto style puts before the names of an enum's values."""

_STATES = {
    ACTIVE: cluster_service_pb2.Lease.STATE_ACTIVE,
    RECLAIMING: cluster_service_pb2.Lease.STATE_RECLAIMING,
    ENDED: cluster_service_pb2.Lease.STATE_ENDED,
}


def request_from(message: cluster_request_pb2.ClusterRequest, prefix: str = "cluster.") -> ClusterRequest:
    """The checked request of a message; InvalidInput names fields as `cluster.gpu_count`, by the prefix."""
    raw: dict[str, Any] = {}
    for field, value in message.ListFields():
        name = field.name
        raw[name] = _grade(name, value) if name in _ENUM_PREFIX else value
    return parse_cluster_request(raw, prefix)


def required_cluster(request: Any) -> ClusterRequest:
    """The cluster of a call that must have one."""
    if not request.HasField("cluster"):
        raise InvalidInput([Violation("cluster", "is required")])
    return request_from(request.cluster)


def _grade(name: str, value: int) -> str:
    """The grade's name; a number that the contract does not know stays a number, for the parser to refuse."""
    enum = _FIELDS[name].enum_type
    assert enum is not None
    known = enum.values_by_number.get(value)
    return str(value) if known is None else known.name.removeprefix(_ENUM_PREFIX[name])


def write_placement(message: placement_pb2.Placement, inventory: Inventory, terms: Terms) -> None:
    """Fill in parallel columns, in the order of node ids."""
    message.node_ids.extend(inventory.node_ids[terms.node_numbers].tolist())
    message.gpus.extend(terms.gpus_per_node.tolist())
    message.prices_micro_usd_per_gpu_hour.extend(terms.prices.tolist())
    if terms.card >= 0:
        message.card = terms.card


def write_price(message: placement_pb2.Price, terms: Terms) -> None:
    """Fill in the total with its lines, as they were decided."""
    message.total_micro_usd = terms.total_micro_usd
    message.rate_micro_usd_per_hour = terms.rate_micro_usd_per_hour
    message.duration_s = terms.duration_s
    message.price_snapshot_id = terms.price_snapshot_id
    message.price_epoch = terms.price_epoch
    message.network_fee_micro_usd = terms.network_fee_micro_usd
    write_lines(message, terms.lines)


def write_lines(message: placement_pb2.Price, lines: Iterable[PriceLine]) -> None:
    """Add lines to a price."""
    for line in lines:
        message.lines.add(
            gpu_model=line.gpu_model,
            region=line.region,
            security_tier=line.security_tier,
            set_by=line.set_by,
            gpus=line.gpus,
            rate_micro_usd_per_hour=line.rate_micro_usd_per_hour,
            amount_micro_usd=line.amount_micro_usd,
            kind=line.kind,
            from_s=line.from_s,
            to_s=line.to_s,
        )


def certificate_message(terms: Terms) -> placement_pb2.PlacementCertificate | None:
    """How good the placement provably is; None for a part of a plan, which is proven as a whole."""
    if terms.plan_id:
        return None
    rate, bound = terms.rate_micro_usd_per_hour, terms.lower_bound_micro_usd_per_hour
    close = terms.request.max_cluster_rtt_ms is not None
    return placement_pb2.PlacementCertificate(
        optimal=rate == bound,
        lower_bound_micro_usd_per_hour=bound,
        gap=(rate - bound) / rate if rate else 0.0,
        method="branch and bound over close sites, laminar greedy" if close else "laminar greedy",
        idle_nodes_broken=terms.idle_nodes_broken,
        relaxations_solved=terms.relaxations_solved,
        fleet_version=terms.fleet_version,
        gpu_count_upper_bound=terms.gpu_count_bound,
    )


def issued_quote_message(inventory: Inventory, quote: Quote) -> cluster_service_pb2.Quote:
    """The quote as QuoteCluster answered it, whatever has become of it since."""
    message = cluster_service_pb2.Quote(
        name=f"quotes/{quote.quote_id}",
        quote_id=quote.quote_id,
        request_id=quote.terms.request.request_id,
        certificate=certificate_message(quote.terms),
        create_time_us=quote.created_at_us,
        expire_time_us=quote.expires_at_us,
        hold=quote.hold,
        state="OPEN",
        extension_price_locked=quote.terms.extension_locked,
    )
    write_placement(message.placement, inventory, quote.terms)
    write_price(message.price, quote.terms)
    return message


def quote_message(inventory: Inventory, quote: Quote, now_us: int) -> cluster_service_pb2.Quote:
    """The quote as it is now."""
    message = issued_quote_message(inventory, quote)
    if quote.lease_id:
        message.state, message.lease = "DEPLOYED", f"leases/{quote.lease_id}"
    elif quote.end_reason or now_us >= quote.expires_at_us:
        message.state = quote.end_reason or "EXPIRED"
    return message


def lease_message(inventory: Inventory, lease: Lease, *, with_placement: bool = True) -> cluster_service_pb2.Lease:
    """The contract's lease as it is now."""
    message = cluster_service_pb2.Lease(
        name=f"leases/{lease.lease_id}",
        lease_id=lease.lease_id,
        request_id=lease.terms.request.request_id,
        tenant_id=lease.tenant_id,
        certificate=certificate_message(lease.terms),
        state=_STATES[lease.state],
        end_reason=lease.reclaim_reason if lease.state == RECLAIMING else lease.end_reason,
        start_time_us=lease.starts_at_us,
        end_time_us=lease.ends_at_us,
        gpu_count=lease.standing.request.gpu_count,
        plan_id=lease.terms.plan_id,
        order=f"orders/{lease.order_id}" if lease.order_id else "",
        retry_on_loss_s=lease.retry_on_loss_s,
        refund_micro_usd=lease.refunded_micro_usd,
        charged_micro_usd=lease.charged_micro_usd,
        fencing_epoch=lease.fencing_epoch,
        reclaim_time_us=lease.reclaim_at_us if lease.state == RECLAIMING else 0,
        extension_price_locked=lease.terms.extension_locked,
    )
    _write_bill(message.price, lease)
    if with_placement:
        write_placement(message.placement, inventory, lease.standing)
    return message


def _write_bill(message: placement_pb2.Price, lease: Lease) -> None:
    """Fill in what was charged, as sold and since; the rate is that of what stands."""
    write_price(message, lease.terms)
    write_lines(message, lease.added_lines)
    message.total_micro_usd, message.duration_s = lease.paid_micro_usd, lease.duration_s
    message.rate_micro_usd_per_hour = lease.standing.rate_micro_usd_per_hour
    message.network_fee_micro_usd = lease.network_fee_micro_usd


def started_lease_message(
    inventory: Inventory, lease: Lease, *, with_placement: bool = True
) -> cluster_service_pb2.Lease:
    """The lease as DeployCluster answered it, whatever has become of it since."""
    then = started(lease.lease_id, lease.tenant_id, lease.terms, lease.starts_at_us)
    then.order_id, then.retry_on_loss_s = lease.order_id, lease.retry_on_loss_s
    return lease_message(inventory, then, with_placement=with_placement)


def lease_nodes_message(
    inventory: Inventory, lease: Lease, first: int, size: int
) -> cluster_service_pb2.ListLeaseNodesResponse:
    """Rows [first, first + size) of where a lease runs."""
    rows, standing = slice(first, first + size), lease.standing
    response = cluster_service_pb2.ListLeaseNodesResponse(fencing_epoch=lease.fencing_epoch)
    response.placement.node_ids.extend(inventory.node_ids[standing.node_numbers[rows]].tolist())
    response.placement.gpus.extend(standing.gpus_per_node[rows].tolist())
    response.placement.prices_micro_usd_per_gpu_hour.extend(standing.prices[rows].tolist())
    if standing.card >= 0:
        response.placement.card = standing.card
    return response


def explanation_message(explanation: Explanation) -> cluster_service_pb2.Explanation:
    """The contract's explanation; long lists of names are shortened so that it fits into a status."""
    message = cluster_service_pb2.Explanation(
        feasible=explanation.terms is not None,
        reason=explanation.reason,
        detail=explanation.detail,
        gpu_count=explanation.request.gpu_count,
        gpus_free=explanation.gpus_free,
        fleet_version=explanation.fleet_version,
    )
    for row in explanation.constraints:
        message.constraints.add(
            constraint=row.constraint,
            gpus_alone=row.gpus_alone,
            gpus_cumulative=row.gpus_cumulative,
            gpus_without=row.gpus_without,
            exact=row.exact,
        )
    for relaxation in map(_relaxation_message, explanation.relaxations):
        if message.ByteSize() + relaxation.ByteSize() <= EXPLANATION_BYTES_MAX:
            message.relaxations.append(relaxation)
    if explanation.terms is not None:
        write_price(message.price, explanation.terms)
    return message


def _relaxation_message(relaxation: Relaxation) -> cluster_service_pb2.Relaxation:
    before, after = _short(relaxation.from_value), _short(relaxation.to_value)
    return cluster_service_pb2.Relaxation(
        field=relaxation.field,
        from_value=before,
        to_value=after,
        total_micro_usd=relaxation.total_micro_usd,
        rate_micro_usd_per_hour=relaxation.rate_micro_usd_per_hour,
        detail=f"change {relaxation.field} from {before} to {after}",
    )


def _short(text: str) -> str:
    return text if len(text) <= TEXT_LENGTH_MAX else text[: TEXT_LENGTH_MAX - 3] + "..."
