"""Bad and contradictory fleet loads (law 9), and what a load must leave alone (law 1)."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from walras.v1 import fleet_service_pb2 as pb

from tests.service.loopback import Loopback, load_chunks, node, refused
from tests.service.test_bad_requests import INT64_MAX, LONG, NAN, UNPRINTABLE, Unchanged, assert_bad_input

BAD_VALUES: list[tuple[str, Any]] = [
    *(
        (name, bad)
        for name in ("node_id", "supplier_id", "gpu_model", "site_id", "region")
        for bad in ("", LONG, UNPRINTABLE, " x")
    ),
    *(("gpu_count", bad) for bad in (0, -1, 1_025, INT64_MAX, -INT64_MAX)),
    *(("gpu_free", bad) for bad in (-1, 9, INT64_MAX)),
    *(("country", bad) for bad in ("", "usa", "us", "U1", "ÄÖ")),
    *(("latitude", bad) for bad in (NAN, float("inf"), -90.1, 91.0)),
    *(("longitude", bad) for bad in (NAN, -float("inf"), -180.5, 1e308)),
    *(("reliability", bad) for bad in (NAN, -0.1, 1.0001, float("inf"))),
    *(("ask_micro_usd_per_gpu_hour", bad) for bad in (0, -1, 100_000_000_001, INT64_MAX)),
    *(("security_tier", bad) for bad in ("", "secure", "TOP", UNPRINTABLE)),
    *(("connectivity_tier", bad) for bad in ("", "FAST")),
    *(("interconnect", bad) for bad in ("", "CARRIER_PIGEON")),
    *(("state", bad) for bad in ("", "ready", "GONE")),
    *(("fabric_id", bad) for bad in (LONG, UNPRINTABLE, " ")),
    *(("certifications", bad) for bad in ([LONG], ["SOC2", UNPRINTABLE], ["SOC2", ""], [" x"])),
]


@pytest.mark.parametrize(("column", "bad"), BAD_VALUES, ids=[f"{c}={str(b)[:20]!r}" for c, b in BAD_VALUES])
def test_a_bad_value_is_named_by_row_and_column(shared: Loopback, column: str, bad: Any) -> None:
    """Law 9: a load with one bad value names its row and column and changes nothing."""
    rows = [node("new1"), {**node("new2", site_id="fra1"), column: bad}]
    with Unchanged(shared):
        refusal = refused(shared.client.load, rows)
    assert_bad_input(shared, refusal, f"nodes row 1 column {column}")


def test_every_bad_value_is_named(shared: Loopback) -> None:
    """Law 9: nodes and round trips are checked whole; every rule that is broken is listed."""
    rows = [
        node("n1", gpu_free=9),
        node("n1", state="GONE"),
        node("n2", latitude=NAN),
        node("n3", reliability=2.0),
    ]
    rtts = [{"site_a": "iad1", "site_b": "iad1", "rtt_ms": 3.0}, {"site_a": "", "site_b": "b", "rtt_ms": NAN}]
    with Unchanged(shared):
        refusal = refused(shared.client.load, rows, rtts)
    assert_bad_input(
        shared,
        refusal,
        "nodes row 0 column node_id",
        "nodes row 1 column node_id",
        "nodes row 0 column gpu_free",
        "nodes row 1 column state",
        "nodes row 2 column latitude",
        "nodes row 3 column reliability",
        "rtts row 0 column rtt_ms",
        "rtts row 1 column rtt_ms",
        "rtts row 1 column site_a",
    )


@pytest.mark.parametrize("rtt_ms", [NAN, float("inf"), -1.0, 60_000.5])
def test_bad_round_trips(shared: Loopback, rtt_ms: float) -> None:
    """Laws 7 and 9: a measured round trip is finite, not negative, bounded."""
    with Unchanged(shared):
        refusal = refused(shared.client.load, rtts=[{"site_a": "iad1", "site_b": "sfo1", "rtt_ms": rtt_ms}])
    assert_bad_input(shared, refusal, "rtts row 0 column rtt_ms")


def test_columns_of_different_lengths(shared: Loopback) -> None:
    """Law 9: every column whose length differs is named, in nodes and in round trips, with the chunk."""
    good, bad = load_chunks([node("n1"), node("n2")]), load_chunks([node("n3"), node("n4")])
    del bad[0].nodes.gpu_free[:]
    bad[0].nodes.state.append("READY")
    bad[0].rtts.site_a.append("iad1")
    with Unchanged(shared):
        refusal = refused(shared.client.load_messages, [*good, *bad])
        expected = ("chunk 1 nodes.gpu_free", "chunk 1 nodes.state", "chunk 1 rtts.site_b", "chunk 1 rtts.rtt_ms")
    assert_bad_input(shared, refusal, *expected)


def test_an_empty_load(shared: Loopback) -> None:
    """Law 9: no message, or messages without rows, are bad input."""
    empty = pb.LoadFleetRequest()
    columns = pb.LoadFleetRequest(nodes=pb.NodeColumns(), rtts=pb.RttColumns())
    with Unchanged(shared):
        for chunks in ([], [empty], [empty, columns]):
            assert_bad_input(shared, refused(shared.client.load_messages, chunks), "nodes")


def test_duplicates_across_chunks(shared: Loopback) -> None:
    """Law 9: one node id twice in a load is bad input, also in two chunks."""
    chunks = [*load_chunks([node("n1")]), *load_chunks([node("n1")])]
    with Unchanged(shared):
        refusal = refused(shared.client.load_messages, chunks)
    assert_bad_input(shared, refusal, "nodes row 0 column node_id", "nodes row 1 column node_id")


def test_a_site_with_two_places(shared: Loopback) -> None:
    """Law 9: nodes of one site share region, country and coordinates."""
    rows = [node("n1"), node("n2", latitude=39.0), node("n3", country="CA"), node("n4", region="us-west")]
    with Unchanged(shared):
        refusal = refused(shared.client.load, rows)
    assert_bad_input(
        shared, refusal, *(f"nodes row 0 column {name}" for name in ("latitude", "country", "region"))
    )


def test_a_load_that_moves_a_site_of_the_fleet(shared: Loopback) -> None:
    """Law 9: a load that contradicts the fleet that is there is bad input."""
    with Unchanged(shared):
        for change in ({"latitude": 1.0}, {"region": "us-west"}, {"country": "CA"}):
            refusal = refused(shared.client.load, [node("new", **change)])
            (column,) = change
            assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
            assert any(column in field for field in refusal.fields), refusal
            assert_bad_input(shared, refusal)


@pytest.mark.parametrize("kinds", [(62, 1), (62, 2), (40, 40), (62, 62)])
def test_more_certifications_than_the_solver_has_bits(empty: Loopback, kinds: tuple[int, int]) -> None:
    """Law 9: the limit on kinds of certifications holds for the fleet after a load, too."""
    first, second = ([f"{side}{i}" for i in range(count)] for side, count in zip("ab", kinds, strict=True))
    empty.client.load([node("n1", certifications=first)])
    with Unchanged(empty):
        refusal = refused(empty.client.load, [node("n2", certifications=second)])
    assert_bad_input(empty, refusal)
    assert any("certifications" in field for field in refusal.fields)


def test_a_load_below_what_is_leased(loopback: Loopback) -> None:
    """Law 1: a load cannot take GPUs that are leased; every node concerned is named."""
    client = loopback.client
    client.deploy(gpu_count=16, gpu_models=["H100"], regions=["us-east"])
    with Unchanged(loopback):
        for change in ({"gpu_free": 7}, {"gpu_count": 4, "gpu_free": 4}):
            refusal = refused(client.load, [node("h1", **change), node("h2", **{"supplier_id": "bolt", **change})])
            assert_bad_input(loopback, refusal, "nodes/h1", "nodes/h2")
    answer = client.load([node("h1", gpu_count=9, gpu_free=8)])
    assert (answer.nodes_added, answer.nodes_updated) == (0, 1)
    assert client.node("nodes/h1").gpu_leased == 8


def test_a_load_replaces_every_column_of_a_node(loopback: Loopback) -> None:
    """Law 9: what is loaded is what is there, also where a value was taken away."""
    client = loopback.client
    client.load([node("h1", fabric_id="f1", certifications=["SOC2", "TEE"])])
    assert (client.node("nodes/h1").fabric_id, list(client.node("nodes/h1").certifications)) == (
        "f1",
        ["SOC2", "TEE"],
    )
    client.load([node("h1", certifications=[])])
    after = client.node("nodes/h1")
    assert (after.fabric_id, list(after.certifications)) == ("", [])


@pytest.mark.parametrize("state", ["DRAINING", "DOWN"])
def test_a_load_leaves_the_state_of_other_nodes(loopback: Loopback, state: str) -> None:
    """Law 1: a node that was made DOWN stays so when other nodes, or only round trips, are loaded."""
    client = loopback.client
    client.set_state("nodes/h1", state)
    free = client.stats().gpus_free
    client.load(rtts=[{"site_a": "iad1", "site_b": "sfo1", "rtt_ms": 60.0}])
    assert client.node("nodes/h1").state == state
    client.load([node("new")])
    assert client.node("nodes/h1").state == state
    assert client.stats().gpus_free == free + 8
    placement = client.quote(gpu_count=16, gpu_models=["H100"], regions=["us-east"]).placement
    assert "h1" not in placement.node_ids


def test_counts_after_a_load(loopback: Loopback) -> None:
    """Law 1: free + leased + draining + dead + used outside = registered, and a load reports what it did."""
    client = loopback.client
    rtts = [{"site_a": "iad1", "site_b": "sfo1", "rtt_ms": 60.0}]
    answer = client.load([node("n9", gpu_free=3), node("n8", state="DRAINING", gpu_free=5), node("h1")], rtts)
    assert (answer.nodes_added, answer.nodes_updated, answer.rtt_pairs) == (2, 1, 1)
    stats = client.stats()
    assert answer.gpus_registered == stats.gpus_registered == 44 + 16
    assert answer.fleet_version == stats.fleet_version
    assert answer.pools == stats.pools
    assert (
        stats.gpus_free
        + stats.gpus_leased
        + stats.gpus_held
        + stats.gpus_draining
        + stats.gpus_dead
        + stats.gpus_used_outside
        == stats.gpus_registered
    )
    assert (stats.gpus_draining, stats.gpus_used_outside) == (5, 8)
