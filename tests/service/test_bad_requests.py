"""Bad cluster requests at the gRPC border (laws 7 and 9): every violation named, nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.service.loopback import LISTS, Loopback, Refusal, cluster, node, refused, small_fleet

INT64_MAX = 2**63 - 1
NAN, INF = float("nan"), float("inf")
LONG, UNPRINTABLE = "x" * 129, "a\x07b"

ONE_BAD_FIELD: list[tuple[str, dict[str, Any], str]] = [
    ("empty message", {"gpu_count": 0}, "gpu_count"),
    ("negative count", {"gpu_count": -1}, "gpu_count"),
    ("huge count", {"gpu_count": INT64_MAX}, "gpu_count"),
    ("count above the limit", {"gpu_count": 10_000_001}, "gpu_count"),
    ("zero per node", {"gpus_per_node": 0}, "gpus_per_node"),
    ("negative per node", {"gpus_per_node": -8}, "gpus_per_node"),
    ("huge per node", {"gpus_per_node": INT64_MAX}, "gpus_per_node"),
    ("per node does not divide", {"gpu_count": 8, "gpus_per_node": 3}, "gpus_per_node"),
    ("zero duration", {"duration_s": 0}, "duration_s"),
    ("negative duration", {"duration_s": -1}, "duration_s"),
    ("huge duration", {"duration_s": INT64_MAX}, "duration_s"),
    ("zero cap", {"max_price_micro_usd_per_gpu_hour": 0}, "max_price_micro_usd_per_gpu_hour"),
    ("negative cap", {"max_price_micro_usd_per_gpu_hour": -5}, "max_price_micro_usd_per_gpu_hour"),
    ("huge cap", {"max_price_micro_usd_per_gpu_hour": INT64_MAX}, "max_price_micro_usd_per_gpu_hour"),
    ("zero share", {"max_supplier_share": 0.0}, "max_supplier_share"),
    ("share above one", {"max_supplier_share": 1.0000001}, "max_supplier_share"),
    ("share too small", {"max_supplier_share": 0.1}, "max_supplier_share"),
    ("latitude alone", {"client_latitude": 1.0}, "client_latitude"),
    ("longitude alone", {"client_longitude": 1.0}, "client_longitude"),
    (
        "site and coordinates",
        {"client_site": "iad1", "client_latitude": 1.0, "client_longitude": 1.0},
        "client_site",
    ),
    ("client limit without a client", {"max_client_rtt_ms": 5.0}, "max_client_rtt_ms"),
    ("unknown client site", {"client_site": "nowhere", "max_client_rtt_ms": 5.0}, "client_site"),
    ("unknown model", {"gpu_models": ["H100", "Z9000"]}, "gpu_models[1]"),
    ("unknown region", {"regions": ["atlantis"]}, "regions[0]"),
    ("unknown site", {"sites": ["zzz9"]}, "sites[0]"),
    ("unknown security tier", {"min_security_tier": 99}, "min_security_tier"),
    ("negative enum", {"min_connectivity_tier": -1}, "min_connectivity_tier"),
    ("unknown interconnect", {"min_interconnect": 2**31 - 1}, "min_interconnect"),
    ("long request id", {"request_id": LONG}, "request_id"),
    ("unprintable request id", {"request_id": UNPRINTABLE}, "request_id"),
    ("padded request id", {"request_id": " r "}, "request_id"),
    ("long client site", {"client_site": LONG}, "client_site"),
    ("empty client site", {"client_site": ""}, "client_site"),
    *((f"1,001 {name}", {name: [f"e{i}" for i in range(1_001)]}, name) for name in LISTS),
    *((f"long text in {name}", {name: ["ok", LONG]}, f"{name}[1]") for name in LISTS),
    *((f"unprintable text in {name}", {name: [UNPRINTABLE]}, f"{name}[0]") for name in LISTS),
    *((f"empty text in {name}", {name: [""]}, f"{name}[0]") for name in LISTS),
    *(
        (f"{wanted} wanted and excluded", {wanted: [known], excluded: ["other", known]}, excluded)
        for wanted, excluded, known in (
            ("regions", "excluded_regions", "us-east"),
            ("countries", "excluded_countries", "US"),
            ("sites", "excluded_sites", "iad1"),
            ("allowed_suppliers", "excluded_suppliers", "acme"),
        )
    ),
    *(
        (f"{name} = {value}", {name: value}, name)
        for name in (
            "client_latitude",
            "client_longitude",
            "max_client_rtt_ms",
            "max_cluster_rtt_ms",
            "min_reliability",
            "max_supplier_share",
        )
        for value in (NAN, INF, -INF, -1e9, 1e308)
    ),
]

Asked = Callable[..., Any]
METHODS = ("quote", "deploy", "explain")


def assert_bad_input(loopback: Loopback, refusal: Refusal, *fields: str) -> None:
    """What every answer to bad input must be."""
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, refusal
    assert (refusal.reason, refusal.domain) == ("INVALID_INPUT", "walras")
    assert set(fields) <= set(refusal.fields), refusal
    for trace in ("Traceback", "Error", "<class", "object at", "engine.", "google."):
        assert trace not in refusal.message


class Unchanged:
    """The engine's state is the same before and after, and it still serves."""

    def __init__(self, loopback: Loopback) -> None:
        self._loopback = loopback

    def __enter__(self) -> None:
        self._before = self._loopback.client.stats(), self._loopback.hash()

    def __exit__(self, *_: object) -> None:
        assert (self._loopback.client.stats(), self._loopback.hash()) == self._before


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("fields", "field"), [case[1:] for case in ONE_BAD_FIELD], ids=[c[0] for c in ONE_BAD_FIELD]
)
def test_each_bad_field_is_named(shared: Loopback, method: str, fields: dict[str, Any], field: str) -> None:
    """Law 9: bad input gets INVALID_ARGUMENT naming the field, and changes nothing; law 7: no NaN passes."""
    with Unchanged(shared):
        refusal = refused(getattr(shared.client, method), **fields)
    assert_bad_input(shared, refusal, f"cluster.{field}")


def test_all_violations_are_named_at_once(shared: Loopback) -> None:
    """Law 9: every violation is listed, never only the first."""
    bad = {
        "gpu_count": -1,
        "duration_s": 0,
        "min_reliability": NAN,
        "max_cluster_rtt_ms": -1.0,
        "min_security_tier": 77,
        "request_id": LONG,
        "regions": [UNPRINTABLE],
        "sites": [LONG],
    }
    refusal = refused(shared.client.deploy, **bad)
    named = {name + "[0]" if name in ("regions", "sites") else name for name in bad}
    assert_bad_input(shared, refusal, *(f"cluster.{name}" for name in named))


def test_all_bad_entries_of_a_list_are_named(shared: Loopback) -> None:
    """Law 9: every violation is listed, also inside one list."""
    refusal = refused(shared.client.deploy, gpu_models=["", "H100", UNPRINTABLE])
    assert_bad_input(shared, refusal, "cluster.gpu_models[0]", "cluster.gpu_models[2]")


def test_contradictions_are_listed_beside_bad_values(shared: Loopback) -> None:
    """Law 9: every violation is listed; a bad value elsewhere does not hide a contradiction."""
    refusal = refused(shared.client.deploy, duration_s=-1, regions=["us-east"], excluded_regions=["us-east"])
    assert_bad_input(shared, refusal, "cluster.duration_s", "cluster.excluded_regions")


def test_unknown_names_are_all_listed(shared: Loopback) -> None:
    """Law 9: models, regions, sites and the client's site that nobody knows are all named at once."""
    refusal = refused(
        shared.client.deploy, gpu_models=["Z1", "Z2"], regions=["r"], sites=["s"], client_site="nowhere"
    )
    names = ("gpu_models[0]", "gpu_models[1]", "regions[0]", "sites[0]", "client_site")
    assert_bad_input(shared, refusal, *(f"cluster.{name}" for name in names))


def test_violations_beside_the_cluster_are_listed_with_it(shared: Loopback) -> None:
    """Law 9: a bad ttl and a bad key are listed together with what is wrong with the cluster."""
    refusal = refused(shared.client.quote, ttl_s=0, key=LONG, gpu_count=-1)
    assert_bad_input(shared, refusal, "cluster.gpu_count", "ttl_s", "idempotency_key")


@pytest.mark.parametrize("ttl_s", [0, -1, 3_601, INT64_MAX])
def test_bad_ttl(shared: Loopback, ttl_s: int) -> None:
    """Law 9: a quote's ttl is 1 to 3,600 seconds."""
    assert_bad_input(shared, refused(shared.client.quote, ttl_s=ttl_s), "ttl_s")


@pytest.mark.parametrize("key", [LONG, UNPRINTABLE, " k", "\n"])
@pytest.mark.parametrize("method", ["quote", "deploy"])
def test_bad_idempotency_keys(shared: Loopback, method: str, key: str) -> None:
    """Law 9: a key is printable and at most 128 characters."""
    with Unchanged(shared):
        refusal = refused(getattr(shared.client, method), key=key)
    assert_bad_input(shared, refusal, "idempotency_key")


def test_bad_idempotency_keys_elsewhere(shared: Loopback) -> None:
    """Law 9: also of Release, SetNodeState and LoadFleet."""
    with Unchanged(shared):
        assert_bad_input(shared, refused(shared.client.release, "leases/l", key=LONG), "idempotency_key")
        assert_bad_input(shared, refused(shared.client.set_state, "nodes/h1", "DOWN", key=LONG), "idempotency_key")
        assert_bad_input(shared, refused(shared.client.load, small_fleet(), key=UNPRINTABLE), "idempotency_key")


BAD_NAMES = ["", "leases", "leases/", "lease/l-1", "quotes/l-1", "leases/" + LONG, "leases/\x00", "/leases/l"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_lease_names(shared: Loopback, name: str) -> None:
    """Law 9: a resource name that cannot be one is bad input, not a missing lease."""
    with Unchanged(shared):
        assert_bad_input(shared, refused(shared.client.lease, name), "name")
        assert_bad_input(shared, refused(shared.client.release, name), "name")


@pytest.mark.parametrize("name", ["", "nodes/", "node/h1", "nodes/" + LONG])
def test_bad_node_names(shared: Loopback, name: str) -> None:
    """Law 9: the same of nodes."""
    with Unchanged(shared):
        assert_bad_input(shared, refused(shared.client.node, name), "name")
        assert_bad_input(shared, refused(shared.client.set_state, name, "DOWN"), "name")


def test_bad_node_states(shared: Loopback) -> None:
    """Law 9: a state is READY, DRAINING or DOWN; name and state are both reported."""
    with Unchanged(shared):
        for state in ("", "ready", "BROKEN", LONG, UNPRINTABLE):
            assert_bad_input(shared, refused(shared.client.set_state, "nodes/h1", state), "state")


def test_bad_name_and_state_are_both_named(shared: Loopback) -> None:
    """Law 9: every violation is listed."""
    assert_bad_input(shared, refused(shared.client.set_state, "nope", "BROKEN"), "name", "state")


def test_deploy_wants_exactly_one_of_cluster_and_quote(shared: Loopback) -> None:
    """Law 9: neither and both are bad input; so is a quote's name that is none."""
    with Unchanged(shared):
        assert_bad_input(shared, refused(shared.client.deploy_message), "cluster")
        both = refused(shared.client.deploy_message, cluster=cluster(), quote="quotes/q-1")
        assert_bad_input(shared, both, "cluster")
        for name in ("q-1", "leases/q-1", "quotes/", "quotes/" + LONG):
            assert_bad_input(shared, refused(shared.client.deploy_quote, name), "quote")


FORKED = {"gpu_count": 0, "interruptible": True}
"""Wrong by itself, and nothing to lock a price of."""
DEPLOYMENTS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"cluster", "quote"}),
    ({"retry_on_loss_s": -3}, {"cluster", "quote", "retry_on_loss_s"}),
    (
        {"quote": "zzz", "lock_extension_price": True, "retry_on_loss_s": -3, "idempotency_key": LONG},
        {"quote", "lock_extension_price", "retry_on_loss_s", "idempotency_key"},
    ),
    (
        {"quote": "zzz", "cluster": FORKED, "lock_extension_price": True, "retry_on_loss_s": -3},
        {"quote", "cluster", "cluster.gpu_count", "lock_extension_price", "retry_on_loss_s"},
    ),
    (
        {"cluster": {"interruptible": True}, "lock_extension_price": True, "retry_on_loss_s": -3},
        {"lock_extension_price", "retry_on_loss_s"},
    ),
    ({"cluster": FORKED, "lock_extension_price": True}, {"cluster.gpu_count", "lock_extension_price"}),
]


@pytest.mark.parametrize(("fields", "named"), DEPLOYMENTS)
def test_no_violation_of_a_deployment_hides_another(
    shared: Loopback, fields: dict[str, Any], named: set[str]
) -> None:
    """Law 9: every violation is listed, whichever is found first."""
    wanted = cluster(**fields["cluster"]) if "cluster" in fields else None
    with Unchanged(shared):
        refusal = refused(shared.client.deploy_message, **{**fields, "cluster": wanted})
    assert_bad_input(shared, refusal)
    assert set(refusal.fields) == named


def test_no_violation_of_a_cluster_hides_what_does_not_go_with_it(shared: Loopback) -> None:
    """Law 9: a budget has no price to lock, nothing to hold, and no size to wait for, whatever else is wrong."""
    wanted = cluster(all_matching=True, budget_micro_usd=1, duration_s=0)
    refusal = refused(shared.client.quote, wanted, hold=True, ttl_s=0)
    assert set(refusal.fields) == {"cluster.duration_s", "hold", "ttl_s"}
    refusal = refused(shared.client.place, wanted, ttl_s=0)
    limit = "cluster.max_price_micro_usd_per_gpu_hour"
    assert set(refusal.fields) == {"cluster.duration_s", "cluster.all_matching", limit, "ttl_s"}


@pytest.mark.parametrize("path", ["QuoteCluster", "ExplainCluster", "DeployCluster"])
def test_calls_without_a_cluster(shared: Loopback, path: str) -> None:
    """Law 9: an empty message lacks its cluster."""
    assert_bad_input(shared, refused(shared.client.raw, f"/walras.v1.ClusterService/{path}", b""), "cluster")


PAGE_TOKENS = ["%%%", "a", "ö", "////=", "\x00", "_w=="]
"""The last one is base64 of a byte that is no UTF-8."""


@pytest.mark.parametrize("method", ["leases", "nodes", "prices"])
def test_bad_pages(shared: Loopback, method: str) -> None:
    """Law 9: tokens of nobody and negative sizes are bad input; a size beyond the limit is cut."""
    lists = getattr(shared.client, method)
    for token in PAGE_TOKENS:
        assert_bad_input(shared, refused(lists, page_token=token), "page_token")
    assert_bad_input(shared, refused(lists, page_size=-1), "page_size")
    lists(page_size=2**31 - 1)


@pytest.mark.parametrize("method", ["leases", "nodes", "prices"])
def test_bad_size_and_token_are_both_named(shared: Loopback, method: str) -> None:
    """Law 9: every violation is listed."""
    refusal = refused(getattr(shared.client, method), page_size=-1, page_token="%%%")
    assert_bad_input(shared, refusal, "page_size", "page_token")


@pytest.mark.parametrize("method", ["price", "history", "estimate", "supply_curve"])
def test_bad_market_names(shared: Loopback, method: str) -> None:
    """Law 9: every part of a market's name is checked, a market that is not there is NOT_FOUND."""
    ask, more = getattr(shared.client, method), {"gpu_count": 1} if method == "estimate" else {}
    for name in ({}, {"gpu_model": "", "region": "\0", "security_tier": "GOOD"}):
        refusal = refused(ask, **name, **more)
        assert_bad_input(shared, refusal)
        assert set(refusal.fields) == {"gpu_model", "region", "security_tier"}
    missing = refused(ask, gpu_model="H100", region="nowhere", security_tier="SECURE", **more)
    assert missing.code is grpc.StatusCode.NOT_FOUND


def test_long_foreign_text_fits_into_the_status(shared: Loopback) -> None:
    """Law 9: violations that quote long texts beyond ASCII still reach a caller with default limits."""
    names = [chr(0x1F600 + i) * 128 for i in range(60)]
    refusal = refused(shared.client.deploy, gpu_models=names, regions=names[:40])
    assert_bad_input(shared, refusal, "cluster.gpu_models[0]")
    assert refusal.wire_bytes <= 8_192


def test_a_thousand_violations_are_cut_with_a_count(shared: Loopback) -> None:
    """Law 9: what does not fit into a status is counted, not dropped in silence."""
    names = [f"unknown-model-{i}" for i in range(1_000)]
    refusal = refused(shared.client.deploy, gpu_models=names)
    assert_bad_input(shared, refusal, "cluster.gpu_models[0]", "...")
    assert refusal.wire_bytes <= 8_192


def test_a_total_beyond_64_bits_is_refused_typed(empty: Loopback) -> None:
    """Law 7: prices are bounded; the dearest fleet for the longest time overflows nothing."""
    dear = {"gpu_count": 1_024, "ask_micro_usd_per_gpu_hour": 100_000_000_000, "gpu_model": "L40S"}
    empty.client.load([node(f"n{i}", **dear) for i in range(4)])
    wanted = {"gpu_count": 4_096, "duration_s": 10 * 365 * 24 * 3_600}
    for method in METHODS:
        with Unchanged(empty):
            refusal = refused(getattr(empty.client, method), **wanted)
            assert refusal.code in (
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.FAILED_PRECONDITION,
            ), f"{method}: {refusal}"
