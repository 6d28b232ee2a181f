"""Standing orders: what they are, and how their events become part of the state.

An order waits with a price limit until it is filled, cancelled, or its time is over. It is filled by a lease whose
event stands beside its own in one batch, so it is filled at most once and never without GPUs.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.domain.cluster_request import ClusterRequest
from engine.market.events import OrderEnded, OrderFilled, OrderPlaced

if TYPE_CHECKING:
    from engine.market.state import MarketState

OPEN, FILLED, CANCELLED, EXPIRED = "OPEN", "FILLED", "CANCELLED", "EXPIRED"


@dataclass(slots=True)
class Order:
    """A cluster request that waits. Its price limit is the request's, which it always has.

    `once`: one try decides. `retry_on_loss_s`: how long an order for the rest waits if the lease that filled this
    one is lost. `retry_of`: the lost lease it makes good. `detail`: why it ended unfilled, where there is more to
    say than the state. `ended_at_us`: 0 while open.
    """

    order_id: str
    tenant_id: str
    request: ClusterRequest
    placed_at_us: int
    expires_at_us: int
    priority: int
    once: bool
    retry_on_loss_s: int
    retry_of: str
    state: str = OPEN
    lease_id: str = ""
    detail: str = ""
    ended_at_us: int = 0

    @property
    def limit_micro_usd(self) -> int:
        """The most it pays on average, micro-USD per GPU-hour."""
        limit = self.request.max_price_micro_usd_per_gpu_hour
        assert limit is not None
        return limit


def place(state: MarketState, event: OrderPlaced) -> None:
    """An order waits from now on."""
    order = Order(
        order_id=event.order_id,
        tenant_id=event.tenant_id,
        request=event.request,
        placed_at_us=event.at_us,
        expires_at_us=event.expires_at_us,
        priority=event.priority,
        once=event.once,
        retry_on_loss_s=event.retry_on_loss_s,
        retry_of=event.retry_of,
    )
    state.orders[order.order_id] = order
    state.orders_of.setdefault(order.tenant_id, {})[order.order_id] = None
    state.open_orders[order.order_id] = None
    heapq.heappush(state.due, (order.expires_at_us, order.order_id))
    state.demand.wait(order.tenant_id, order.request)
    state.remember(event.key, order.order_id, event.at_us)


def fill(state: MarketState, event: OrderFilled) -> None:
    """An order became a lease."""
    state.orders[event.order_id].lease_id = event.lease_id
    _close(state, event.order_id, FILLED, event.at_us)


def end(state: MarketState, event: OrderEnded) -> None:
    """An order is over without a lease."""
    state.orders[event.order_id].detail = event.detail
    _close(state, event.order_id, event.reason, event.at_us)
    state.remember(event.key, event.order_id, event.at_us)


def _close(state: MarketState, order_id: str, how: str, at_us: int) -> None:
    order = state.orders[order_id]
    order.state, order.ended_at_us = how, at_us
    del state.open_orders[order_id]
    state.forgettable.append((at_us, order_id))


def forget(state: MarketState, order_id: str) -> None:
    """Drop an order that has been over for long, and its keys."""
    order = state.orders.pop(order_id)
    own = state.orders_of[order.tenant_id]
    del own[order_id]
    if not own:
        del state.orders_of[order.tenant_id]
    for name in state.keys_of.pop(order_id, ()):
        del state.subjects[name]
