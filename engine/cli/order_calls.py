"""The calls behind `walras order`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from walras.v1 import order_service_pb2 as pb
from walras.v1 import order_service_pb2_grpc

from engine.cli.amounts import moment, usd_per_gpu_hour
from engine.cli.cluster_message import checked_request, cluster_message
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.json_reply import plain
from engine.cli.screen import answers, print_json
from engine.cli.text_table import Row, text_table

if TYPE_CHECKING:
    from engine.cli.request_options import AskedCluster

ORDER_PREFIX, STATE_PREFIX = "orders/", "STATE_"
PAGE_SIZE = 1_000
HEADINGS: tuple[Row, Row] = (("order", "request", "state", "placed", "until", "lease"), ("GPUs", "limit"))


class Wait(NamedTuple):
    """How an order waits, as the contract has it; `ttl_s` None: the engine's default."""

    ttl_s: int | None
    priority: int
    once: bool
    retry_on_loss_s: int


def place_order(
    connection: Connection, asked: AskedCluster, wait: Wait, idempotency_key: str | None, as_json: bool
) -> None:
    """Place one order."""
    call = pb.PlaceOrderRequest(
        cluster=cluster_message(checked_request(asked.fields(), asked.source)),
        ttl_s=wait.ttl_s,
        priority=wait.priority,
        retry=pb.RetryPolicy(once=wait.once, on_loss_s=wait.retry_on_loss_s),
        idempotency_key=idempotency_key or uuid.uuid4().hex,
    )
    with connection.channel() as channel:
        service = order_service_pb2_grpc.OrderServiceStub(channel)
        _show(service.PlaceOrder(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata), as_json)


def get_order(connection: Connection, order_id: str, as_json: bool) -> None:
    """Show one order."""
    call = pb.GetOrderRequest(name=_order_name(order_id))
    with connection.channel() as channel:
        service = order_service_pb2_grpc.OrderServiceStub(channel)
        _show(service.GetOrder(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata), as_json)


def list_orders(connection: Connection, show_ended: bool, as_json: bool) -> None:
    """Show all orders."""
    orders: list[pb.Order] = []
    call = pb.ListOrdersRequest(page_size=PAGE_SIZE, show_ended=show_ended)
    with connection.channel() as channel:
        service = order_service_pb2_grpc.OrderServiceStub(channel)
        while True:
            page = service.ListOrders(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
            orders += page.orders
            if not page.next_page_token:
                break
            call.page_token = page.next_page_token
    if as_json:
        print_json({"orders": [plain(order) for order in orders]})
    else:
        answers().print(text_table(f"{len(orders):,} orders", *HEADINGS, order_rows(orders)))


def cancel_order(connection: Connection, order_id: str, idempotency_key: str | None, as_json: bool) -> None:
    """End one order."""
    call = pb.CancelOrderRequest(name=_order_name(order_id), idempotency_key=idempotency_key or uuid.uuid4().hex)
    with connection.channel() as channel:
        service = order_service_pb2_grpc.OrderServiceStub(channel)
        _show(service.CancelOrder(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata), as_json)


def order_rows(orders: Iterable[pb.Order]) -> list[Row]:
    """A row an order, below HEADINGS."""
    return [
        (
            order.order_id,
            order.request_id,
            order_state(order),
            moment(order.create_time_us),
            moment(order.expire_time_us),
            order.lease or "-",
            f"{order.cluster.gpu_count:,}",
            usd_per_gpu_hour(order.cluster.max_price_micro_usd_per_gpu_hour),
        )
        for order in orders
    ]


def order_state(order: pb.Order) -> str:
    """The state in a word, with the reason why a try failed."""
    name = pb.Order.State.Name(order.state).removeprefix(STATE_PREFIX)
    return f"{name} ({order.detail})" if order.detail else name


def _show(order: pb.Order, as_json: bool) -> None:
    if as_json:
        print_json(plain(order))
    else:
        answers().print(text_table(order.name, *HEADINGS, order_rows([order])))


def _order_name(order_id: str) -> str:
    return order_id if order_id.startswith(ORDER_PREFIX) else ORDER_PREFIX + order_id
