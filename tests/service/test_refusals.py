"""A no that can be acted on: typed, explained, small enough to arrive, its relaxations true when tried."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.full_size import size
from tests.service.loopback import LISTS, POSTED_MICRO_USD, Client, Loopback, Refusal, cluster, node, refused
from tests.worlds import world_from_seed

METADATA_BYTES_MAX = 8 * 1024
ENUMS = {
    "min_security_tier": "SECURITY_TIER_",
    "min_connectivity_tier": "CONNECTIVITY_TIER_",
    "min_interconnect": "INTERCONNECT_",
}
FLOATS = ("max_client_rtt_ms", "max_cluster_rtt_ms", "min_reliability", "max_supplier_share")
INTEGERS = ("gpu_count", "gpus_per_node", "max_price_micro_usd_per_gpu_hour", "budget_micro_usd")
FLAGS = ("allow_mixed_models", "same_fabric")
WORLDS = size(24, 36)


def assert_explained(refusal: Refusal) -> Any:
    """FAILED_PRECONDITION with an explanation that says the same as the status; the explanation."""
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION, refusal
    assert refusal.domain == "walras"
    explanation = refusal.explanation
    assert explanation is not None
    assert (explanation.feasible, explanation.reason) == (False, refusal.reason)
    assert refusal.reason == refusal.reason.upper() != ""
    assert explanation.detail == refusal.message != ""
    assert refusal.wire_bytes < METADATA_BYTES_MAX
    return explanation


def relaxed(wanted: Any, relaxation: Any) -> Any:
    """The request with a relaxation's text put into its field, as a caller would."""
    changed = type(wanted)()
    changed.CopyFrom(wanted)
    name, text = relaxation.field, relaxation.to_value
    if name in FLOATS:
        setattr(changed, name, float(text))
    elif name in INTEGERS:
        setattr(changed, name, int(text))
    elif name in FLAGS:
        setattr(changed, name, text == "true")
    elif name in ENUMS:
        setattr(
            changed,
            name,
            changed.DESCRIPTOR.fields_by_name[name].enum_type.values_by_name[ENUMS[name] + text].number,
        )
    elif text == "anywhere":
        for each in name.split(","):
            changed.ClearField(each)
    else:
        assert name in LISTS, relaxation
        assert not text.endswith("..."), relaxation
        changed.ClearField(name)
        if text not in ("any", "none"):
            getattr(changed, name).extend(text.split(", "))
    return changed


def assert_relaxations_hold(client: Client, wanted: Any, explanation: Any) -> Counter[str]:
    """Each relaxation, applied through the API, is served at the price it names; cheapest first. Their fields."""
    rates = [each.rate_micro_usd_per_hour for each in explanation.relaxations]
    assert rates == sorted(rates)
    for each in explanation.relaxations:
        quote = client.quote(relaxed(wanted, each))
        assert quote.price.rate_micro_usd_per_hour == each.rate_micro_usd_per_hour, each
        assert quote.price.total_micro_usd == each.total_micro_usd, each
        lease = client.deploy_quote(quote.name)
        client.release(lease.name)
        assert each.from_value in each.detail
        assert each.to_value in each.detail
    return Counter(each.field for each in explanation.relaxations)


def message_of(row: dict[str, Any]) -> Any:
    """A contract row as a message."""
    fields = {name: value for name, value in row.items() if value is not None}
    for name in ("tenant_id", "submitted_at_us"):
        fields.pop(name, None)
    for name, prefix in ENUMS.items():
        if name in fields:
            fields[name] = prefix + fields[name]
    return cluster(**fields)


def all_matching(wanted: Any, seed: int) -> None:
    """Ask for all that matches instead, within a budget that is often the constraint in the way."""
    wanted.ClearField("max_supplier_share")
    wanted.ClearField("interruptible")
    wanted.all_matching = True
    wanted.budget_micro_usd = (10**3, 3 * 10**6, 20 * 10**6, 10**9)[seed % 4]


@pytest.mark.parametrize("all_of_it", [False, True])
def test_relaxations_of_small_worlds(all_of_it: bool) -> None:
    """A no names only changes that suffice, at the price of a quote after them: tried one by one through the API,
    for so many GPUs and for all that a budget pays for."""
    fields: Counter[str] = Counter()
    refusals = 0
    for seed in range(WORLDS):
        world = world_from_seed(seed)
        known = {row["gpu_model"] for row in world.fleet} | POSTED_MICRO_USD.keys()
        wanted = message_of(world.request)
        wanted.gpu_models[:] = [name for name in wanted.gpu_models if name in known]
        if all_of_it:
            all_matching(wanted, seed)
        with tempfile.TemporaryDirectory() as place:
            loopback = Loopback(Path(place))
            try:
                client = loopback.client
                client.load(world.fleet, world.rtt)
                before = client.explain(wanted)
                if before.feasible:
                    assert client.quote(wanted).price == before.price
                    continue
                refusals += 1
                explanation = assert_explained(refused(client.deploy, wanted))
                assert explanation == before
                assert assert_explained(refused(client.quote, wanted)) == before
                fields += assert_relaxations_hold(client, wanted, explanation)
                assert client.stats().gpus_leased == 0
            finally:
                loopback.close()
    assert refusals >= WORLDS // 4
    assert len(fields) >= 6, fields


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Nine suppliers of nine GPUs each, near and far, more and less reliable."""
    loopback = Loopback(tmp_path_factory.mktemp("varied"))
    sites = ("iad1", "sfo1", "fra1")
    rows = [
        node(
            f"n{i}",
            supplier_id=f"s{i}",
            gpu_count=9,
            site_id=sites[i % 3],
            reliability=(0.9, 0.95, 0.987654321)[i // 3],
            ask_micro_usd_per_gpu_hour=2_000_001 + i * 333_333,
        )
        for i in range(9)
    ]
    loopback.client.load(rows, [{"site_a": "iad1", "site_b": "sfo1", "rtt_ms": 61.123456789}])
    yield loopback
    loopback.close()


NUMERIC: list[tuple[str, dict[str, Any], str]] = [
    ("max_client_rtt_ms", {"gpu_count": 40, "client_site": "iad1", "max_client_rtt_ms": 1.0}, ""),
    ("max_client_rtt_ms", {"gpu_count": 60, "client_latitude": 1.5, "client_longitude": 2.25}, "1.0"),
    ("max_cluster_rtt_ms", {"gpu_count": 40, "max_cluster_rtt_ms": 0.0}, ""),
    ("max_cluster_rtt_ms", {"gpu_count": 81, "max_cluster_rtt_ms": 61.0}, ""),
    ("min_reliability", {"gpu_count": 40, "min_reliability": 0.99}, "0.95"),
    ("min_reliability", {"gpu_count": 27, "min_reliability": 0.9999}, "0.987654321"),
    ("gpu_count", {"gpu_count": 82}, "81"),
    ("gpu_count", {"gpu_count": 82, "gpus_per_node": 2}, "72"),
    ("gpus_per_node", {"gpu_count": 80, "gpus_per_node": 5}, ""),
    ("max_price_micro_usd_per_gpu_hour", {"gpu_count": 81, "max_price_micro_usd_per_gpu_hour": 7}, ""),
    (
        "max_price_micro_usd_per_gpu_hour",
        {"gpu_count": 7, "max_price_micro_usd_per_gpu_hour": 2_499_999},
        "2500000",
    ),
    (
        "max_supplier_share",
        {"gpu_count": 27, "regions": ["us-east"], "max_supplier_share": 0.2},
        "0.3333333333333333",
    ),
    ("max_supplier_share", {"gpu_count": 3, "regions": ["us-east"], "gpu_models": ["H100"]}, ""),
    ("max_supplier_share", {"gpu_count": 18, "sites": ["fra1"], "max_supplier_share": 0.1}, ""),
]


@pytest.mark.parametrize(
    ("field", "wanted", "to_value"), NUMERIC, ids=[f"{f}-{i}" for i, (f, *_) in enumerate(NUMERIC)]
)
def test_a_numeric_relaxation_reads_back(
    varied: Loopback, field: str, wanted: dict[str, Any], to_value: str
) -> None:
    """A number that a relaxation names is read back to exactly what was solved, and nothing stricter suffices."""
    message = cluster(**wanted)
    if field == "max_client_rtt_ms" and not message.HasField(field):
        message.max_client_rtt_ms = 2.0
        to_value = ""
    if field == "max_supplier_share" and not message.HasField(field):
        message.gpu_count, message.max_supplier_share = 12, 1 / 12
    explanation = assert_explained(refused(varied.client.deploy, message))
    assert_relaxations_hold(varied.client, message, explanation)
    (found,) = [each for each in explanation.relaxations if each.field == field]
    if to_value:
        assert found.to_value == to_value
    assert_nothing_stricter(varied.client, message, found)


def assert_nothing_stricter(client: Client, message: Any, found: Any) -> None:
    """The change is the least: one step less is refused."""
    step = {
        "max_client_rtt_ms": -0.02,
        "max_cluster_rtt_ms": -0.02,
        "min_reliability": 1e-9,
        "max_supplier_share": -0.5 / message.gpu_count,
        "max_price_micro_usd_per_gpu_hour": -1,
    }.get(found.field)
    if step is None:
        return
    changed = relaxed(message, found)
    setattr(changed, found.field, getattr(changed, found.field) + step)
    assert_explained(refused(client.quote, changed))


@pytest.mark.parametrize("gpu_count", [3, 9, 27])
def test_a_third(varied: Loopback, gpu_count: int) -> None:
    """One third, which no float is, comes back as text that the API reads as a third."""
    message = cluster(gpu_count=gpu_count, regions=["us-east"], max_supplier_share=1 / gpu_count)
    if gpu_count == 3:
        lease = varied.client.deploy(message)
        varied.client.release(lease.name)
        return
    explanation = assert_explained(refused(varied.client.deploy, message))
    (found,) = [each for each in explanation.relaxations if each.field == "max_supplier_share"]
    assert float(found.to_value) == 1 / 3
    assert_relaxations_hold(varied.client, message, explanation)


WIDE = "\U0001f5a5"  # four bytes in UTF-8, twelve percent-encoded


def long_names(prefix: str, count: int, wide: bool) -> list[str]:
    """Distinct names of many characters, as long as 64 KiB for the whole request allow."""
    return [f"{prefix}{i}-" + (WIDE * 4 if wide else "x" * 16) for i in range(count)]


@pytest.fixture(scope="module")
def wordy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fleet whose every name is as long as names may be, in four-byte characters."""
    loopback = Loopback(tmp_path_factory.mktemp("wordy"))
    rows = [
        node(
            f"{i:02d}" + WIDE * 126,
            supplier_id=f"s{i:02d}" + WIDE * 125,
            gpu_model=f"m{i % 3}" + WIDE * 126,
            region="us-east" + WIDE * 121,
            fabric_id=f"{i}" + WIDE * 127,
            certifications=[f"c{i}" + WIDE * 126],
        )
        for i in range(10)
    ]
    loopback.client.load(rows)
    yield loopback
    loopback.close()


@pytest.mark.parametrize("wide", [False, True], ids=["ascii", "four bytes"])
@pytest.mark.parametrize(
    "field",
    [
        "countries",
        "excluded_regions",
        "excluded_sites",
        "certifications",
        "allowed_suppliers",
        "excluded_suppliers",
    ],
)
def test_lists_of_a_thousand_names(shared: Loopback, field: str, wide: bool) -> None:
    """Law 9: a refusal of a request with 1,000 names still fits into 8 KiB of metadata, whatever the alphabet."""
    names = [f"{chr(65 + i // 26 % 26)}{chr(65 + i % 26)}" for i in range(676)] if field == "countries" else []
    names = [each for each in names if each not in ("US", "DE")] or long_names("n", 1_000, wide)
    wanted = cluster(gpu_count=1_000, **{field: names})
    explanation = assert_explained(refused(shared.client.deploy, wanted))
    assert explanation.gpu_count == 1_000


@pytest.mark.parametrize("wide", [False, True], ids=["ascii", "four bytes"])
def test_a_thousand_unknown_names(shared: Loopback, wide: bool) -> None:
    """Law 9: 1,000 violations are cut to fit, and the message says how many are left out."""
    refusal = refused(shared.client.deploy, cluster(regions=long_names("r", 1_000, wide)))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.wire_bytes < METADATA_BYTES_MAX
    assert refusal.fields[-1] == "..."


def test_names_as_long_as_they_may_be(wordy: Loopback) -> None:
    """Law 9: with every constraint set, in names of 128 four-byte characters, a no and a wrong name still fit."""
    client = wordy.client
    rows = client.nodes().nodes
    wanted = cluster(
        request_id=WIDE * 128,
        gpu_count=80,
        gpus_per_node=4,
        gpu_models=[rows[0].gpu_model, rows[1].gpu_model],
        regions=[rows[0].region],
        countries=["US"],
        sites=["iad1"],
        excluded_regions=[WIDE * 127],
        excluded_countries=["FR"],
        excluded_sites=[WIDE * 126],
        client_site="iad1",
        max_client_rtt_ms=1.0,
        max_cluster_rtt_ms=1.0,
        min_security_tier="SECURITY_TIER_CONFIDENTIAL",
        certifications=[each.certifications[0] for each in rows],
        min_connectivity_tier="CONNECTIVITY_TIER_ULTRA",
        min_interconnect="INTERCONNECT_INFINIBAND",
        same_fabric=True,
        min_reliability=0.999,
        allowed_suppliers=[each.supplier_id for each in rows],
        excluded_suppliers=[WIDE * 125],
        max_supplier_share=0.5,
        max_price_micro_usd_per_gpu_hour=1,
    )
    explanation = assert_explained(refused(client.deploy, wanted))
    assert len(explanation.constraints) > 10
    easier = cluster(gpu_count=30, gpu_models=[rows[0].gpu_model], allowed_suppliers=[rows[0].supplier_id])
    easier.certifications.append(rows[0].certifications[0])
    assert_explained(refused(client.deploy, easier))
    for call in (
        lambda: client.deploy(gpu_models=[WIDE * 128]),
        lambda: client.deploy(client_site=WIDE * 128, max_client_rtt_ms=1.0),
        lambda: client.lease("leases/" + WIDE * 128),
        lambda: client.release("leases/" + "%" * 128),
        lambda: client.deploy_quote("quotes/" + WIDE * 128),
        lambda: client.node("nodes/" + WIDE * 128),
        lambda: client.node("nodes/" + WIDE * 10_000),
        lambda: client.set_state("nodes/x", WIDE * 10_000),
        lambda: client.leases(page_token=WIDE * 10_000),
    ):
        assert refused(call).wire_bytes < METADATA_BYTES_MAX


def test_many_relaxations_with_long_names(empty: Loopback) -> None:
    """Law 9: where many changes would do, each in long names, as many as fit are told: the cheapest."""
    model, other_model = "m" + WIDE * 127, "o" + WIDE * 127
    supplier, other_supplier = "s" + WIDE * 127, "t" + WIDE * 127
    region, far_region, barred_region = "r" + WIDE * 127, "f" + WIDE * 127, "x" + WIDE * 127
    site, barred_site, site_of_barred = "i" + WIDE * 127, "j" + WIDE * 127, "k" + WIDE * 127
    held, also_held, nobody = "c" + WIDE * 127, "d" + WIDE * 127, "z" + WIDE * 127
    ask = "ask_micro_usd_per_gpu_hour"
    base = {
        **node("a"),
        "gpu_model": model,
        "supplier_id": supplier,
        "region": region,
        "site_id": site,
        "certifications": [held, also_held],
    }
    changes: list[dict[str, Any]] = [
        {},
        {"gpu_model": other_model},
        {"supplier_id": other_supplier},
        {"region": far_region, "site_id": "far"},
        {"region": barred_region, "site_id": site_of_barred},
        {"site_id": barred_site},
        {"certifications": [also_held]},
    ]
    empty.client.load({**base, "node_id": f"n{i}", ask: 2_000_000 + i} | each for i, each in enumerate(changes))
    wanted = cluster(
        gpu_count=16,
        gpu_models=[model],
        allow_mixed_models=True,
        allowed_suppliers=[supplier],
        regions=[region],
        sites=[site_of_barred],
        excluded_regions=[barred_region, nobody],
        excluded_sites=[barred_site, nobody],
        certifications=[held, also_held],
    )
    explanation = assert_explained(refused(empty.client.deploy, wanted))
    rates = [each.rate_micro_usd_per_hour for each in explanation.relaxations]
    assert len(rates) >= 3
    assert rates == sorted(rates)


def test_a_refusal_changes_nothing(shared: Loopback) -> None:
    """Law 9: no is an answer without effect."""
    before = shared.hash()
    for _ in range(3):
        assert_explained(refused(shared.client.deploy, gpu_count=1_000))
        assert_explained(refused(shared.client.quote, gpu_count=1_000))
    assert shared.hash() == before


def test_an_empty_fleet_is_a_no(empty: Loopback) -> None:
    """Without a fleet the reason says so."""
    assert assert_explained(refused(empty.client.deploy)).reason == "FLEET_EMPTY"
