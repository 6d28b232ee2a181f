"""Orders that wait: drawn with every constraint, funded, and bidding too little to be served now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import grpc
import polars as pl
from walras.v1 import ledger_service_pb2, order_service_pb2
from walras.v1.ledger_service_pb2_grpc import LedgerServiceStub
from walras.v1.order_service_pb2_grpc import OrderServiceStub

from benchmarks.registry import SEED
from engine.cli.cluster_message import cluster_message
from engine.cli.connection import CALL_TIMEOUT_S, CHANNEL_OPTIONS, Connection
from engine.datasets.synthetic import synthetic_requests
from engine.domain.cluster_request import REQUEST_FIELDS, parse_cluster_request

LIMIT_SHARE = 10
"""An order bids so many times less than its draw, which lies about the reference price."""
SERVED_SHARE = 0.05
"""So many more are placed: those that take any model find a GPU that is cheap enough, and do not wait."""
OF_A_TENANT, AT_ONCE = 1_000, 16
TTL_S = 24 * 3_600
PAGE = 1_000
FUNDS_MICRO_USD = 10**12
"""Of a tenant: more than its orders can cost at their limits."""


class StandingOrders:
    """So many orders on one server, by tenants of OF_A_TENANT each."""

    def __init__(self, target: str, count: int) -> None:
        self._target, self._count = target, count
        tenants = range(-(-count // OF_A_TENANT) + 1)
        self._metadata = [Connection(target, f"waiting-{number}").metadata for number in tenants]

    def place(self, fleet: pl.DataFrame) -> None:
        """Fund the tenants, place the orders."""
        asyncio.run(self._place(list(_calls(fleet, self._count + round(SERVED_SHARE * self._count)))))

    def open(self) -> int:
        """How many of them wait."""
        found = 0
        with grpc.insecure_channel(self._target, options=CHANNEL_OPTIONS) as channel:
            stub = OrderServiceStub(channel)
            for metadata in self._metadata:
                asked = order_service_pb2.ListOrdersRequest(page_size=PAGE)
                found += len(stub.ListOrders(asked, metadata=metadata, timeout=CALL_TIMEOUT_S).orders)
        return found

    async def _place(self, calls: Sequence[order_service_pb2.PlaceOrderRequest]) -> None:
        deposit = ledger_service_pb2.DepositRequest(amount_micro_usd=FUNDS_MICRO_USD)
        async with grpc.aio.insecure_channel(self._target, options=CHANNEL_OPTIONS) as channel:
            orders, ledger = OrderServiceStub(channel), LedgerServiceStub(channel)
            for metadata in self._metadata:
                await ledger.Deposit(deposit, metadata=metadata, timeout=CALL_TIMEOUT_S)

            async def placed(first: int) -> None:
                for number in range(first, len(calls), AT_ONCE):
                    metadata = self._metadata[number // OF_A_TENANT]
                    await orders.PlaceOrder(calls[number], metadata=metadata, timeout=CALL_TIMEOUT_S)

            await asyncio.gather(*(placed(first) for first in range(AT_ONCE)))


def _calls(fleet: pl.DataFrame, count: int) -> Iterator[order_service_pb2.PlaceOrderRequest]:
    limit = pl.col("max_price_micro_usd_per_gpu_hour") // LIMIT_SHARE
    drawn = synthetic_requests(fleet, count, SEED).with_columns(limit)
    for row in drawn.select(name for name in drawn.columns if name in REQUEST_FIELDS).iter_rows(named=True):
        cluster = cluster_message(parse_cluster_request(row))
        yield order_service_pb2.PlaceOrderRequest(cluster=cluster, ttl_s=TTL_S)
