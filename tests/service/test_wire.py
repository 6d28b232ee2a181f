"""Bytes that are no message, and messages that are too much (law 9)."""

from __future__ import annotations

import random
import time

import grpc
import pytest
from walras.v1 import cluster_service_pb2, fleet_service_pb2

from tests.full_size import size
from tests.service.loopback import Loopback, cluster, refused
from tests.service.test_bad_requests import Unchanged, assert_bad_input

LIMIT = 64 * 1024
UNARY = (
    *(f"ClusterService/{name}Cluster" for name in ("Quote", "Deploy", "Explain")),
    *(f"ClusterService/{name}" for name in ("GetLease", "ListLeases", "ReleaseLease")),
    *(f"FleetService/{name}" for name in ("GetNode", "ListNodes", "SetNodeState", "GetFleetStats")),
    *(f"ClusterService/{name}" for name in ("GetQuote", "ReleaseQuote")),
    *(f"OracleService/{name}" for name in ("GetPrice", "ListPrices", "GetPriceHistory", "EstimateCost")),
    *(f"OracleService/{name}" for name in ("GetSupplyCurve", "GetIndicativePrice")),
    *(f"LedgerService/{name}" for name in ("GetBalance", "ListEntries", "Deposit", "Withdraw")),
    *(f"PlanService/{name}" for name in ("GetPlan", "ApplyPlan")),
)
TRUNCATED = b"\x0a\xff\x01abc"
"""Field 1, text of 255 bytes, of which three are there."""
BAD_UTF8 = b"\x0a\x02\xff\xfe"


def length_prefixed(tag: int, body: bytes) -> bytes:
    """A field of wire type 2."""
    size, prefix = len(body), bytearray([tag << 3 | 2])
    while size > 127:
        prefix.append(size & 127 | 128)
        size >>= 7
    return bytes([*prefix, size]) + body


def empties(tag: int, count: int) -> bytes:
    """A repeated field with that many empty entries, two bytes each."""
    return bytes([tag << 3 | 2, 0]) * count


@pytest.mark.parametrize("method", UNARY)
def test_garbage_is_invalid_argument(shared: Loopback, method: str) -> None:
    """Law 9: bytes that are no message are INVALID_ARGUMENT, not UNKNOWN with Python's text."""
    with Unchanged(shared):
        for garbage in (TRUNCATED, b"\xff" * 11, b"\x07", b"\x0b" * 40):
            assert_bad_input(shared, refused(shared.client.raw, f"/walras.v1.{method}", garbage), "request")


def test_text_that_is_no_utf8(shared: Loopback) -> None:
    """Law 9: a text field of other bytes is bad input."""
    assert_bad_input(shared, refused(shared.client.raw, "/walras.v1.ClusterService/GetLease", BAD_UTF8), "request")


def test_random_bytes_never_crash(shared: Loopback) -> None:
    """Law 9: whatever arrives, the answer is typed and the engine goes on."""
    draw = random.Random(7)
    allowed = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}
    for round_ in range(300):
        method, payload = draw.choice(UNARY), draw.randbytes(draw.randint(0, 60))
        if round_ % 3 == 0:  # damage to a real message gets further than noise
            real = bytearray(
                cluster_service_pb2.DeployClusterRequest(
                    cluster=cluster(gpu_count=100_000, regions=["us-east"])
                ).SerializeToString()
            )
            real[draw.randrange(len(real))] ^= 1 << draw.randrange(8)
            method, payload = "ClusterService/DeployCluster", bytes(real)
        try:
            shared.client.raw(f"/walras.v1.{method}", payload)
        except grpc.RpcError as error:
            assert error.code() in allowed, (method, payload, error)
    assert shared.client.stats().nodes


def test_garbage_in_a_stream(shared: Loopback) -> None:
    """Law 9: the same of any chunk of a load."""
    good = fleet_service_pb2.LoadFleetRequest().SerializeToString()
    with Unchanged(shared):
        for payloads in ([TRUNCATED], [good, TRUNCATED], [good, b"\xff" * 9, good]):
            assert_bad_input(shared, refused(shared.client.raw_load, payloads), "request")


def test_a_message_above_the_limit_is_resource_exhausted(shared: Loopback) -> None:
    """Law 9: too much gets RESOURCE_EXHAUSTED, in a call and in a stream."""
    big = empties(2, LIMIT // 2 + 1)
    with Unchanged(shared):
        for method in UNARY[:: size(4, 1)]:
            assert refused(shared.client.raw, f"/walras.v1.{method}", big).code is (
                grpc.StatusCode.RESOURCE_EXHAUSTED
            )
        assert refused(shared.client.raw_load, [big]).code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("tag", range(1, 29))
def test_two_million_empty_entries(shared: Loopback, tag: int) -> None:
    """Law 9: 2 million empty entries are refused before anything reads them; so many as fit are refused soon."""
    path = "/walras.v1.ClusterService/DeployCluster"
    with Unchanged(shared):
        if tag == 2:
            huge = refused(shared.client.raw, path, length_prefixed(1, empties(tag, 2_000_000)))
            assert huge.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        fitting = length_prefixed(1, empties(tag, LIMIT // 2 - 4))
        started_s = time.perf_counter()
        refusal = refused(shared.client.raw, path, fitting)
        assert time.perf_counter() - started_s < 5
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("tag", range(1, 19))
def test_a_chunk_of_empty_entries(shared: Loopback, tag: int) -> None:
    """Law 9: a chunk of as many empty texts as fit is bad input, and quick."""
    chunk = length_prefixed(1, empties(tag, LIMIT // 2 - 4))
    with Unchanged(shared):
        refusal = refused(shared.client.raw_load, [chunk])
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_methods(shared: Loopback) -> None:
    """Law 9: a method nobody has is UNIMPLEMENTED."""
    refusal = refused(shared.client.raw, "/walras.v1.ClusterService/Nope", b"")
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
