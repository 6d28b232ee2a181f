"""An engine behind real gRPC on loopback, in this process, with a clock the test moves; and clients of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import polars as pl
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from walras.v1 import (
    cluster_request_pb2,
    cluster_service_pb2,
    fleet_service_pb2,
    oracle_service_pb2,
    order_service_pb2,
)
from walras.v1.cluster_service_pb2_grpc import ClusterServiceStub
from walras.v1.fleet_service_pb2_grpc import FleetServiceStub
from walras.v1.oracle_service_pb2_grpc import OracleServiceStub
from walras.v1.order_service_pb2_grpc import OrderServiceStub

from engine.cli.fleet_chunks import fleet_chunks, rtt_chunks
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import SecurityTier
from engine.service.engine import Engine
from engine.service.options import ServerOptions
from engine.service.server import Server

Row = dict[str, Any]
TIMEOUT_S = 30.0
POSTED_MICRO_USD = {"H100": 2_500_000, "A100": 1_300_000}
CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0),)
PLACES = {
    "iad1": ("us-east", "US", 38.95, -77.45),
    "sfo1": ("us-west", "US", 37.77, -122.42),
    "fra1": ("eu-central", "DE", 50.11, 8.68),
}


LISTS = (
    "gpu_models",
    "regions",
    "countries",
    "sites",
    "excluded_regions",
    "excluded_countries",
    "excluded_sites",
    "certifications",
    "allowed_suppliers",
    "excluded_suppliers",
)
"""Fields of a cluster request that are lists of texts."""


class Book:
    """Fixed posted prices, whatever the tier; L40S has none, so that its asks set the price."""

    def price_micro_usd(self, gpu_model: str, tier: SecurityTier) -> int | None:
        return POSTED_MICRO_USD.get(gpu_model)

    def models(self) -> frozenset[str]:
        return frozenset(POSTED_MICRO_USD)


class Clock:
    """Microseconds that pass only when told."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now_us

    def advance_s(self, seconds: float) -> None:
        self.now_us += round(seconds * 1_000_000)


def node(node_id: str, **changes: Any) -> Row:
    """A READY node of eight free H100 at iad1; `site_id` brings its place along."""
    site_id = changes.get("site_id", "iad1")
    region, country, latitude, longitude = PLACES[site_id]
    gpu_count = changes.get("gpu_count", 8)
    return {
        "node_id": node_id,
        "supplier_id": "acme",
        "gpu_model": "H100",
        "gpu_count": gpu_count,
        "gpu_free": gpu_count,
        "site_id": site_id,
        "region": region,
        "country": country,
        "latitude": latitude,
        "longitude": longitude,
        "security_tier": "SECURE",
        "certifications": ["SOC2"],
        "connectivity_tier": "HIGH",
        "reliability": 0.99,
        "ask_micro_usd_per_gpu_hour": 2_000_000,
        "interconnect": "ROCE",
        "fabric_id": None,
        "state": "READY",
        "cpu_milli": None,
        "memory_mib": None,
        **changes,
    }


def small_fleet() -> list[Row]:
    """44 GPUs of three models at three sites; one H100 node asks more than the posted price."""
    return [
        node("h1"),
        node("h2", supplier_id="bolt", reliability=0.95),
        node("h3", site_id="sfo1", ask_micro_usd_per_gpu_hour=3_000_001),
        node(
            "a1", gpu_model="A100", site_id="fra1", security_tier="COMMUNITY", ask_micro_usd_per_gpu_hour=1_000_000
        ),
        node("a2", gpu_model="A100", site_id="fra1", supplier_id="bolt", gpu_count=4),
        node("l1", gpu_model="L40S", site_id="sfo1", ask_micro_usd_per_gpu_hour=700_003, gpu_count=8),
    ]


def load_chunks(nodes: Iterable[Row] = (), rtts: Iterable[Row] = (), key: str = "") -> list[Any]:
    """The messages of a load."""
    nodes, rtts = list(nodes), list(rtts)
    chunks = list(fleet_chunks(pl.DataFrame(nodes, schema=FLEET_SCHEMA))) if nodes else []
    chunks += list(rtt_chunks(pl.DataFrame(rtts, schema=RTT_SCHEMA))) if rtts else []
    if chunks and key:
        chunks[0].idempotency_key = key
    return chunks


def cluster(**fields: Any) -> cluster_request_pb2.ClusterRequest:
    """A cluster request; eight GPUs unless said otherwise."""
    return cluster_request_pb2.ClusterRequest(**{"gpu_count": 8, **fields})


@dataclass(frozen=True)
class Refusal:
    """A call that ended in a status other than OK, with its google.rpc details."""

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    fields: tuple[str, ...]
    explanation: cluster_service_pb2.Explanation | None
    metadata: dict[str, str]
    wire_bytes: int
    """Size of the trailing metadata as gRPC counts it: percent-encoded text, details as bytes, 32 an entry."""


def refusal_of(error: Any) -> Refusal:
    """What a failed call says."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    explanation, found = cluster_service_pb2.Explanation(), None
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
        detail.Unpack(bad)
        if detail.Unpack(explanation):
            found = explanation
    message = error.details() or ""
    encoded = sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in message.encode())
    size = len("grpc-message") + 32 + encoded + len("grpc-status") + 34
    for name, value in error.trailing_metadata() or ():
        size += len(name) + 32 + len(value)
    return Refusal(
        error.code(),
        message,
        info.reason,
        info.domain,
        tuple(each.field for each in bad.field_violations),
        found,
        dict(info.metadata),
        size,
    )


def refused(call: Callable[..., Any], *arguments: Any, **more: Any) -> Refusal:
    """The refusal of a call that must be refused."""
    try:
        answer = call(*arguments, **more)
    except grpc.RpcError as error:
        return refusal_of(error)
    raise AssertionError(f"this should have been refused: {answer}")


class Client:
    """A tenant's view of an engine; `tenant` None sends no credential."""

    def __init__(self, channel: grpc.Channel, tenant: str | None = "alice") -> None:
        self.channel, self.tenant = channel, tenant
        self._clusters, self._fleet = ClusterServiceStub(channel), FleetServiceStub(channel)
        self._oracle, self._orders = OracleServiceStub(channel), OrderServiceStub(channel)

    def as_tenant(self, tenant: str | None) -> Client:
        return Client(self.channel, tenant)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return () if self.tenant is None else (("x-walras-tenant", self.tenant),)

    def call(self, method: Any, request: Any) -> Any:
        return method(request, metadata=self.metadata, timeout=TIMEOUT_S)

    def raw(self, path: str, payload: bytes) -> bytes:
        """A unary call of these very bytes."""
        method = self.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        return bytes(self.call(method, payload))

    def raw_load(self, payloads: Iterable[bytes]) -> bytes:
        """LoadFleet of these very bytes."""
        path = "/walras.v1.FleetService/LoadFleet"
        method = self.channel.stream_unary(path, request_serializer=bytes, response_deserializer=bytes)
        return bytes(self.call(method, iter(payloads)))

    def quote(
        self, wanted: Any = None, *, key: str = "", ttl_s: int | None = None, hold: bool = False, **fields: Any
    ) -> Any:
        request = cluster_service_pb2.QuoteClusterRequest(
            cluster=wanted or cluster(**fields), idempotency_key=key, hold=hold
        )
        if ttl_s is not None:
            request.ttl_s = ttl_s
        return self.call(self._clusters.QuoteCluster, request)

    def deploy(self, wanted: Any = None, *, key: str = "", **fields: Any) -> Any:
        request = cluster_service_pb2.DeployClusterRequest(
            cluster=wanted or cluster(**fields), idempotency_key=key
        )
        return self.call(self._clusters.DeployCluster, request)

    def deploy_quote(self, name: str, *, key: str = "") -> Any:
        request = cluster_service_pb2.DeployClusterRequest(quote=name, idempotency_key=key)
        return self.call(self._clusters.DeployCluster, request)

    def deploy_message(self, **fields: Any) -> Any:
        return self.call(self._clusters.DeployCluster, cluster_service_pb2.DeployClusterRequest(**fields))

    def explain(self, wanted: Any = None, **fields: Any) -> Any:
        request = cluster_service_pb2.ExplainClusterRequest(cluster=wanted or cluster(**fields))
        return self.call(self._clusters.ExplainCluster, request)

    def get_quote(self, name: str) -> Any:
        return self.call(self._clusters.GetQuote, cluster_service_pb2.GetQuoteRequest(name=name))

    def release_quote(self, name: str, *, key: str = "") -> Any:
        request = cluster_service_pb2.ReleaseQuoteRequest(name=name, idempotency_key=key)
        return self.call(self._clusters.ReleaseQuote, request)

    def lease(self, name: str) -> Any:
        return self.call(self._clusters.GetLease, cluster_service_pb2.GetLeaseRequest(name=name))

    def leases(self, **fields: Any) -> Any:
        return self.call(self._clusters.ListLeases, cluster_service_pb2.ListLeasesRequest(**fields))

    def release(self, name: str, *, key: str = "") -> Any:
        request = cluster_service_pb2.ReleaseLeaseRequest(name=name, idempotency_key=key)
        return self.call(self._clusters.ReleaseLease, request)

    def lease_nodes(self, name: str, **fields: Any) -> Any:
        request = cluster_service_pb2.ListLeaseNodesRequest(name=name, **fields)
        return self.call(self._clusters.ListLeaseNodes, request)

    def extend(self, name: str, duration_s: int = 3_600, *, key: str = "", most: int | None = None) -> Any:
        request = cluster_service_pb2.ExtendLeaseRequest(name=name, duration_s=duration_s, idempotency_key=key)
        if most is not None:
            request.max_amount_micro_usd = most
        return self.call(self._clusters.ExtendLease, request)

    def shrink(self, name: str, replicas: int = 1, *, key: str = "") -> Any:
        request = cluster_service_pb2.ShrinkLeaseRequest(name=name, replicas=replicas, idempotency_key=key)
        return self.call(self._clusters.ShrinkLease, request)

    def load(self, nodes: Iterable[Row] = (), rtts: Iterable[Row] = (), key: str = "") -> Any:
        return self.load_messages(load_chunks(nodes, rtts, key))

    def load_messages(self, chunks: Iterable[Any]) -> Any:
        return self.call(self._fleet.LoadFleet, iter(chunks))

    def node(self, name: str) -> Any:
        return self.call(self._fleet.GetNode, fleet_service_pb2.GetNodeRequest(name=name))

    def nodes(self, **fields: Any) -> Any:
        return self.call(self._fleet.ListNodes, fleet_service_pb2.ListNodesRequest(**fields))

    def set_state(self, name: str, state: str, *, key: str = "", notice_s: int | None = None) -> Any:
        request = fleet_service_pb2.SetNodeStateRequest(name=name, state=state, idempotency_key=key)
        if notice_s is not None:
            request.notice_s = notice_s
        return self.call(self._fleet.SetNodeState, request)

    def heartbeats(self, *node_ids: str) -> Any:
        request = fleet_service_pb2.ReportHeartbeatsRequest(node_ids=node_ids)
        return self.call(self._fleet.ReportHeartbeats, request)

    def place(self, wanted: Any = None, *, key: str = "", **fields: Any) -> Any:
        """Place an order; fields of the cluster beside those of the order."""
        own = {name: fields.pop(name) for name in ("ttl_s", "priority", "retry") if name in fields}
        request = order_service_pb2.PlaceOrderRequest(idempotency_key=key, **own)
        request.cluster.CopyFrom(wanted or cluster(**fields))
        return self.call(self._orders.PlaceOrder, request)

    def order(self, name: str) -> Any:
        return self.call(self._orders.GetOrder, order_service_pb2.GetOrderRequest(name=name))

    def orders(self, **fields: Any) -> Any:
        return self.call(self._orders.ListOrders, order_service_pb2.ListOrdersRequest(**fields))

    def cancel(self, name: str, *, key: str = "") -> Any:
        request = order_service_pb2.CancelOrderRequest(name=name, idempotency_key=key)
        return self.call(self._orders.CancelOrder, request)

    def watch_orders(self, timeout_s: float = TIMEOUT_S, **fields: Any) -> Any:
        request = order_service_pb2.WatchOrdersRequest(**fields)
        return self._orders.WatchOrders(request, metadata=self.metadata, timeout=timeout_s)

    def watch_leases(self, timeout_s: float = TIMEOUT_S, **fields: Any) -> Any:
        request = cluster_service_pb2.WatchLeasesRequest(**fields)
        return self._clusters.WatchLeases(request, metadata=self.metadata, timeout=timeout_s)

    def stats(self) -> Any:
        return self.call(self._fleet.GetFleetStats, fleet_service_pb2.GetFleetStatsRequest())

    def price(self, **fields: Any) -> Any:
        return self.call(self._oracle.GetPrice, oracle_service_pb2.GetPriceRequest(**fields))

    def prices(self, **fields: Any) -> Any:
        return self.call(self._oracle.ListPrices, oracle_service_pb2.ListPricesRequest(**fields))

    def history(self, **fields: Any) -> Any:
        return self.call(self._oracle.GetPriceHistory, oracle_service_pb2.GetPriceHistoryRequest(**fields))

    def estimate(self, **fields: Any) -> Any:
        return self.call(self._oracle.EstimateCost, oracle_service_pb2.EstimateCostRequest(**fields))

    def supply_curve(self, **fields: Any) -> Any:
        return self.call(self._oracle.GetSupplyCurve, oracle_service_pb2.GetSupplyCurveRequest(**fields))

    def indicative(self, *, deadline_ms: int | None = None, **fields: Any) -> Any:
        request = oracle_service_pb2.GetIndicativePriceRequest(cluster=cluster(**fields))
        if deadline_ms is not None:
            request.deadline_ms = deadline_ms
        return self.call(self._oracle.GetIndicativePrice, request)

    def watch(self, timeout_s: float = TIMEOUT_S, **fields: Any) -> Any:
        request = oracle_service_pb2.WatchPricesRequest(**fields)
        return self._oracle.WatchPrices(request, metadata=self.metadata, timeout=timeout_s)


class Loopback:
    """Engine and server on an event loop of their own thread; a client in `client`. Epochs run when told to."""

    def __init__(self, data_dir: Path, clock: Clock | None = None, *, dev: bool = True, **options: Any) -> None:
        self.data_dir, self.clock = data_dir, clock or Clock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.options = ServerOptions(listen="127.0.0.1:0", data_dir=data_dir, dev=dev, oracle_tick_s=0, **options)
        self.engine, self.server, self.port = self.run(self._start())
        self.target = f"127.0.0.1:{self.port}"
        self.channel = grpc.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        self.client = Client(self.channel)

    async def _start(self) -> tuple[Engine, Server, int]:
        engine = Engine(self.data_dir, Book(), self.clock)
        server = Server(engine, self.options, works_alone=False)
        return engine, server, await server.start()

    def run(self, work: Any) -> Any:
        """Run a coroutine on the engine's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)

    def epoch(self, after_s: float = 300.0) -> bool:
        """Let time pass and the oracle look whether an epoch is due; whether it published one, once durable."""

        async def tick() -> bool:
            published = await self.server.oracle.tick()
            await self.engine.journal.append([], 0)
            return published

        self.clock.advance_s(after_s)
        return bool(self.run(tick()))

    def settle(self) -> None:
        """What the engine does by itself: note heartbeats, repair leases, serve orders, until there is nothing."""

        async def work() -> None:
            self.engine.end_due(self.engine.now_us())
            self.server.upkeep.tick()
            self.server.upkeep.settle()

        self.run(work())

    def hash(self) -> str:
        """The state's hash, read on the engine's own loop."""

        async def read() -> str:
            return self.engine.state.hash()

        return str(self.run(read()))

    def close(self) -> None:
        self.channel.close()
        self.run(self.server.drain(0))
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()

    async def _close(self) -> None:
        self.engine.close()


def running(data_dir: Path, clock: Clock | None = None, *, dev: bool = True, **options: Any) -> Iterator[Loopback]:
    """A loopback that is closed in the end."""
    loopback = Loopback(data_dir, clock, dev=dev, **options)
    try:
        yield loopback
    finally:
        loopback.close()
