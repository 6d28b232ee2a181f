"""Between the contract's messages of OrderService and the engine's values."""

from __future__ import annotations

from walras.v1 import order_service_pb2 as pb

from engine.domain.errors import InvalidInput, Violation
from engine.market.order_decision import LIMIT_FIELD, NO_SIZE, PRIORITY_MAX
from engine.market.orders import Order
from engine.service.request_message import cluster_message

TTL_S_DEFAULT, TTL_S_MAX = 86_400, 30 * 86_400


def order_message(order: Order) -> pb.Order:
    """The contract's order as it is now."""
    message = placed_order_message(order)
    message.state = pb.Order.State.Value(f"STATE_{order.state}")
    message.detail, message.end_time_us = order.detail, order.ended_at_us
    if order.lease_id:
        message.lease = f"leases/{order.lease_id}"
    return message


def placed_order_message(order: Order) -> pb.Order:
    """The order as PlaceOrder answered it, whatever has become of it since."""
    return pb.Order(
        name=f"orders/{order.order_id}",
        order_id=order.order_id,
        request_id=order.request.request_id,
        tenant_id=order.tenant_id,
        cluster=cluster_message(order.request),
        state=pb.Order.STATE_OPEN,
        create_time_us=order.placed_at_us,
        expire_time_us=order.expires_at_us,
        priority=order.priority,
        retry=pb.RetryPolicy(once=order.once, on_loss_s=order.retry_on_loss_s),
        retry_of=f"leases/{order.retry_of}" if order.retry_of else "",
    )


def checked_terms(request: pb.PlaceOrderRequest) -> int:
    """The seconds an order waits; InvalidInput lists what is wrong with all but its cluster by itself."""
    found = []
    if request.HasField("cluster") and not request.cluster.HasField("max_price_micro_usd_per_gpu_hour"):
        found.append(Violation(f"cluster.{LIMIT_FIELD}", "is required: it is the order's price limit"))
    if request.cluster.all_matching:
        found.append(Violation("cluster.all_matching", NO_SIZE))
    ttl_s = request.ttl_s if request.HasField("ttl_s") else TTL_S_DEFAULT
    for name, value, low, high in (
        ("ttl_s", ttl_s, 1, TTL_S_MAX),
        ("priority", request.priority, 0, PRIORITY_MAX),
        ("retry.on_loss_s", request.retry.on_loss_s, 0, TTL_S_MAX),
    ):
        if not low <= value <= high:
            found.append(Violation(name, f"must be between {low} and {high:,}, got {value}"))
    if found:
        raise InvalidInput(found)
    return int(ttl_s)


def retry_on_loss_s(value: int) -> int:
    """A checked `retry_on_loss_s`."""
    if not 0 <= value <= TTL_S_MAX:
        raise InvalidInput([Violation("retry_on_loss_s", f"must be between 0 and {TTL_S_MAX:,}, got {value}")])
    return value
