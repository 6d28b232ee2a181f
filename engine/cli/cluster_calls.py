"""Quote, deploy and explain: one call each, then an answer as tables or JSON."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from walras.v1 import cluster_service_pb2, cluster_service_pb2_grpc

from engine.cli.cluster_message import checked_request, cluster_message
from engine.cli.cluster_view import show_lease, show_quote, show_request
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.explanation_view import show_explanation
from engine.cli.json_reply import lease_json, plain, quote_json
from engine.cli.screen import answers, print_json, remarks
from engine.domain.errors import InvalidInput, Violation

if TYPE_CHECKING:
    from engine.cli.request_options import AskedCluster
    from engine.domain.cluster_request import ClusterRequest

RETRY_PAUSE_S = 0.25
QUOTE_PREFIX = "quotes/"


@dataclass(frozen=True, slots=True)
class Firmness:
    """How long a quote is firm, and what it sets aside."""

    ttl_s: int | None = None
    hold: bool = False
    lock_extension_price: bool = False

    @classmethod
    def of(cls, ttl_s: int | None, hold: str | None, lock_extension_price: bool) -> Firmness:
        """From the options; `hold`: seconds as text, empty for the engine's default. InvalidInput otherwise."""
        if not hold:
            return cls(ttl_s, hold is not None, lock_extension_price)
        if ttl_s is not None:
            raise InvalidInput([Violation("--hold", "says the same as --ttl-s: give the seconds once")])
        if not hold.isascii() or not hold.isdigit():
            raise InvalidInput([Violation("--hold", f"must be whole seconds, got {hold[:40]!r}")])
        return cls(int(hold[:12]), True, lock_extension_price)


def quote_cluster(
    connection: Connection, asked: AskedCluster, firmness: Firmness, idempotency_key: str, as_json: bool
) -> None:
    """Ask for a price."""
    request = _request(asked)
    call = cluster_service_pb2.QuoteClusterRequest(
        cluster=cluster_message(request),
        ttl_s=firmness.ttl_s,
        idempotency_key=idempotency_key,
        hold=firmness.hold,
        lock_extension_price=firmness.lock_extension_price,
    )
    with connection.channel() as channel, remarks().status("asking for a quote"):
        service = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        quote = service.QuoteCluster(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
    if as_json:
        print_json(quote_json(quote))
    else:
        show_request(answers(), request)
        show_quote(answers(), quote)


def deploy_cluster(
    connection: Connection,
    asked: AskedCluster,
    quote: str | None,
    lock_extension_price: bool,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Lease a cluster, of a request or of a quote."""
    request = _request_unless_quoted(asked, quote)
    call = cluster_service_pb2.DeployClusterRequest(
        cluster=cluster_message(request) if request is not None else None,
        quote=_quote_name(quote) if quote is not None else "",
        idempotency_key=idempotency_key or uuid.uuid4().hex,
        lock_extension_price=lock_extension_price,
    )
    with connection.channel() as channel, remarks().status("deploying"):
        lease = deploy(channel, connection, call)
    if as_json:
        print_json(lease_json(lease))
        return
    if request is not None:
        show_request(answers(), request)
    show_lease(answers(), lease)


def check_alone(asked: AskedCluster, quote: str | None, lock_extension_price: bool) -> None:
    """InvalidInput if more is asked for than the requests of a file."""
    if not asked.is_empty or quote is not None or lock_extension_price:
        raise InvalidInput([Violation("--requests", "stands alone: the file says what is wanted")])


def explain_cluster(connection: Connection, asked: AskedCluster, as_json: bool) -> None:
    """Ask how the constraints narrow the fleet. A request that cannot be served is explained, which is done."""
    request = _request(asked)
    call = cluster_service_pb2.ExplainClusterRequest(cluster=cluster_message(request))
    with connection.channel() as channel, remarks().status("explaining"):
        service = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        explanation = service.ExplainCluster(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
    if as_json:
        print_json(plain(explanation))
    else:
        show_request(answers(), request)
        show_explanation(answers(), explanation)


def deploy(
    channel: grpc.Channel, connection: Connection, call: cluster_service_pb2.DeployClusterRequest
) -> cluster_service_pb2.Lease:
    """Deploy; on UNAVAILABLE once more under the same idempotency key, which makes repeating safe."""
    service = cluster_service_pb2_grpc.ClusterServiceStub(channel)
    try:
        return service.DeployCluster(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
    except grpc.RpcError as error:
        if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
    time.sleep(RETRY_PAUSE_S)
    return service.DeployCluster(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)


def _request(asked: AskedCluster) -> ClusterRequest:
    return checked_request(asked.fields(), asked.source)


def _request_unless_quoted(asked: AskedCluster, quote: str | None) -> ClusterRequest | None:
    if quote is None:
        return _request(asked)
    if not asked.is_empty:
        raise InvalidInput([Violation("--quote", "stands alone: the quote already says what is wanted")])
    return None


def _quote_name(quote: str) -> str:
    return quote if quote.startswith(QUOTE_PREFIX) else QUOTE_PREFIX + quote
