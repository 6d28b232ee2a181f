"""Deciding on orders: placing, cancelling, serving. Serving tries one order: each sees what the last took."""

from __future__ import annotations

from engine.domain.errors import InsufficientFunds, InvalidInput, NotFound, Overloaded, Refused, Violation
from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.domain.money import SECONDS_PER_HOUR
from engine.market.commands import CancelOrder, PlaceOrder, ServeOrder
from engine.market.demand import check_names
from engine.market.events import AnyEvent, KeyUsed, LeaseStarted, OrderEnded, OrderFilled, OrderPlaced
from engine.market.ledger.bookings import check_funds
from engine.market.orders import CANCELLED, EXPIRED, OPEN, Order
from engine.market.prices import PriceBook
from engine.market.quote_decision import named
from engine.market.state import MarketState
from engine.market.terms import terms_of

PRIORITY_MAX = 100
ORDER_LIMIT, RETRY_S = "ORDER_LIMIT", 60.0
LIMIT_FIELD = "max_price_micro_usd_per_gpu_hour"
NO_SIZE = "is not for orders: how many GPUs would they wait for?"


def place_order(state: MarketState, command: PlaceOrder, now_us: int, book: PriceBook) -> OrderPlaced:
    """An order that waits; Overloaded (ORDER_LIMIT) if too many do. It is served by a command of its own."""
    request = command.request
    if request.max_price_micro_usd_per_gpu_hour is None:
        raise InvalidInput([Violation(LIMIT_FIELD, "is required: it is the order's price limit")])
    if request.all_matching:
        raise InvalidInput([Violation("all_matching", NO_SIZE)])
    most = request.gpu_count * request.max_price_micro_usd_per_gpu_hour * request.priced_duration_s
    if most > MAX_TOTAL_MICRO_USD * SECONDS_PER_HOUR // 2:
        raise InvalidInput([Violation(LIMIT_FIELD, "makes the total larger than can be charged")])
    check_names(state.inventory, request, book.models())
    _check_room(state, command)
    return OrderPlaced(
        at_us=now_us,
        key=command.key,
        order_id=f"o-{state.version + 1:010d}",
        tenant_id=command.tenant_id,
        request=named(request, state),
        expires_at_us=now_us + command.ttl_s * 1_000_000,
        priority=command.priority,
        once=command.once,
        retry_on_loss_s=command.retry_on_loss_s,
    )


def cancel_order(state: MarketState, command: CancelOrder, now_us: int) -> list[AnyEvent]:
    """The end of an order; of one that is over already, nothing."""
    order = owned_order(state, command.tenant_id, command.order_id)
    if order.state != OPEN:
        return [KeyUsed(at_us=now_us, key=command.key, subject=order.order_id)] if command.key else []
    return [OrderEnded(at_us=now_us, key=command.key, order_id=order.order_id, reason=CANCELLED)]


def serve_order(state: MarketState, command: ServeOrder, now_us: int, book: PriceBook) -> list[AnyEvent]:
    """The lease that fills an order, at the least price of now, which is within its limit.

    Refused if there is none, InsufficientFunds if its tenant cannot pay it, unless one try had to decide: then the
    order ends. Nothing if it is over.
    """
    order = state.orders.get(command.order_id)
    if order is None or order.state != OPEN or order.expires_at_us <= now_us:
        return []
    try:
        terms = terms_of(state, order.request, book)
        check_funds(state, order.tenant_id, terms.total_micro_usd)
    except (Refused, InsufficientFunds) as refusal:
        if not order.once:
            raise
        ended = OrderEnded(at_us=now_us, order_id=order.order_id, reason=EXPIRED, detail=refusal.reason)
        return [ended]
    started = LeaseStarted(
        at_us=now_us,
        lease_id=f"l-{state.version + 1:010d}",
        tenant_id=order.tenant_id,
        terms=terms,
        ends_at_us=now_us + terms.duration_s * 1_000_000,
        order_id=order.order_id,
        retry_on_loss_s=order.retry_on_loss_s,
    )
    return [started, OrderFilled(at_us=now_us, order_id=order.order_id, lease_id=started.lease_id)]


def owned_order(state: MarketState, tenant_id: str, order_id: str) -> Order:
    """The tenant's order; another tenant's answers exactly like a missing one."""
    order = state.orders.get(order_id)
    if order is None or order.tenant_id != tenant_id:
        raise NotFound(f"there is no order orders/{order_id}")
    return order


def _check_room(state: MarketState, command: PlaceOrder) -> None:
    limits, own = command.limits, state.orders_of.get(command.tenant_id, ())
    open_own = sum(order_id in state.open_orders for order_id in own) if len(own) >= limits.tenant_open_max else 0
    for count, most, whose in (
        (len(state.open_orders), limits.open_max, "orders"),
        (open_own, limits.tenant_open_max, "orders of this tenant"),
    ):
        if count >= most:
            refusal = Overloaded(f"{count:,} {whose} are open, the most that may", RETRY_S)
            refusal.reason = ORDER_LIMIT
            raise refusal
