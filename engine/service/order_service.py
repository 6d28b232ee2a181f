"""OrderService: standing cluster requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import islice
from typing import Any

from walras.v1 import order_service_pb2 as pb
from walras.v1.order_service_pb2_grpc import OrderServiceServicer

from engine.domain.errors import InvalidInput
from engine.market import commands
from engine.market.changes import ORDER
from engine.market.commands import OrderLimits
from engine.market.decide import made_by
from engine.market.events import AnyEvent
from engine.market.order_decision import owned_order
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.cluster_codec import required_cluster
from engine.service.engine import Engine
from engine.service.fields import Checks, idempotency_key, page_size, page_start, page_token, resource_id
from engine.service.identity import calling_tenant
from engine.service.order_codec import checked_terms, order_message, placed_order_message
from engine.service.watch_changes import Watches, watched_from


class OrderService(OrderServiceServicer):
    """Thin: parse, submit, await durability, answer."""

    def __init__(self, engine: Engine, watches: Watches, limits: OrderLimits) -> None:
        self._engine, self._watches, self._limits = engine, watches, limits

    async def PlaceOrder(self, request: pb.PlaceOrderRequest, context: Any) -> pb.Order:  # noqa: N802
        """The order, open; it is tried after the reply."""
        tenant_id, checks = calling_tenant(), Checks()
        key = checks.read(idempotency_key, tenant_id, "PlaceOrder", request)
        cluster = checks.read(required_cluster, request)
        ttl_s = checks.read(checked_terms, request)
        checks.done()
        assert cluster is not None and ttl_s is not None
        retry = request.retry
        command = commands.PlaceOrder(
            tenant_id, cluster, ttl_s, request.priority, retry.once, retry.on_loss_s, key, self._limits
        )

        def answer(state: MarketState, events: list[AnyEvent]) -> pb.Order:
            return placed_order_message(state.orders[made_by(state, events, key)])

        try:
            return await self._engine.execute(command, NO_STOPWATCH, answer)
        except InvalidInput as error:
            raise error.within("cluster.") from None

    async def GetOrder(self, request: pb.GetOrderRequest, context: Any) -> pb.Order:  # noqa: N802
        """One order of the caller."""
        order_id, tenant_id = resource_id(request.name, "orders"), calling_tenant()
        return await self._engine.read(lambda state: order_message(owned_order(state, tenant_id, order_id)))

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Any) -> pb.ListOrdersResponse:  # noqa: N802
        """The caller's orders, oldest first."""
        tenant_id, checks = calling_tenant(), Checks()
        size = checks.read(page_size, request.page_size)
        after = checks.read(page_start, request.page_token)
        checks.done()
        assert size is not None and after is not None

        def answer(state: MarketState) -> pb.ListOrdersResponse:
            own = (order_id for order_id in state.orders_of.get(tenant_id, ()) if order_id > after)
            shown = (each for each in own if request.show_ended or each in state.open_orders)
            page = list(islice(shown, size + 1))
            response = pb.ListOrdersResponse(
                orders=[order_message(state.orders[each]) for each in page[:size]], state_version=state.version
            )
            if len(page) > size:
                response.next_page_token = page_token(page[size - 1])
            return response

        return await self._engine.read(answer)

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Any) -> pb.Order:  # noqa: N802
        """The order, over. Cancelling one that is over changes nothing."""
        tenant_id, checks = calling_tenant(), Checks()
        order_id = checks.read(resource_id, request.name, "orders")
        key = checks.read(idempotency_key, tenant_id, "CancelOrder", request)
        checks.done()
        assert order_id is not None

        def answer(state: MarketState, events: list[AnyEvent]) -> pb.Order:
            return order_message(owned_order(state, tenant_id, order_id))

        return await self._engine.execute(commands.CancelOrder(tenant_id, order_id, key), NO_STOPWATCH, answer)

    async def WatchOrders(  # noqa: N802
        self, request: pb.WatchOrdersRequest, context: Any
    ) -> AsyncIterator[pb.WatchOrdersResponse]:
        """Changes of the caller's orders."""

        def message(state: MarketState, version: int, order_id: str | None) -> pb.WatchOrdersResponse:
            order = None if order_id is None else state.orders.get(order_id)
            return pb.WatchOrdersResponse(version=version, order=None if order is None else order_message(order))

        wanted = calling_tenant(), ORDER
        watch = self._watches.run(wanted, watched_from(request), context.time_remaining(), message)
        async with aclosing(watch) as messages:
            async for each in messages:
                yield each
