"""JSON carries every field with integers as numbers; tables show what the reply says."""

from __future__ import annotations

import io
import json

from rich.console import Console
from walras.v1 import cluster_service_pb2, oracle_service_pb2, placement_pb2

from engine.cli.cluster_message import checked_request
from engine.cli.cluster_view import asked_rows, gpus_by_region, show_lease, show_request
from engine.cli.json_reply import lease_json, plain, quote_json

BIG = 2**53 + 1
"""Not a float64: a reader that goes through one would change it."""


def lease() -> cluster_service_pb2.Lease:
    placement = placement_pb2.Placement(
        node_ids=["n[1]", "n2"], gpus=[8, 4], prices_micro_usd_per_gpu_hour=[2_000_000, 3_000_000]
    )
    price = placement_pb2.Price(total_micro_usd=BIG, rate_micro_usd_per_hour=28_000_000, duration_s=3_600)
    price.lines.add(gpu_model="H100", region="us-east", security_tier="SECURE", gpus=4, set_by="ASK")
    price.lines.add(gpu_model="H100", region="de-central", security_tier="SECURE", gpus=5, set_by="POSTED")
    price.lines.add(gpu_model="H100", region="us-east", security_tier="VERIFIED", gpus=3, set_by="POSTED")
    return cluster_service_pb2.Lease(
        name="leases/l1",
        lease_id="l1",
        request_id="r1",
        placement=placement,
        price=price,
        certificate=placement_pb2.PlacementCertificate(optimal=True, method="walk"),
        state=cluster_service_pb2.Lease.STATE_ACTIVE,
        gpu_count=12,
        timings=cluster_service_pb2.Timings(decision_us=1_500),
    )


def test_a_lease_in_json_has_the_contracts_keys_first() -> None:
    shown = json.loads(json.dumps(lease_json(lease())))
    assert list(shown)[:4] == ["request_id", "lease_id", "total_micro_usd", "placements"]
    assert shown["total_micro_usd"] == BIG
    assert shown["placements"] == [
        {"node_id": "n[1]", "gpus": 8, "price_micro_usd_per_gpu_hour": 2_000_000},
        {"node_id": "n2", "gpus": 4, "price_micro_usd_per_gpu_hour": 3_000_000},
    ]
    assert shown["state"] == "STATE_ACTIVE"
    assert shown["timings"]["decision_us"] == 1_500


def test_json_leaves_nothing_out() -> None:
    price = oracle_service_pb2.MarketPrice(gpu_model="H100")
    assert set(plain(price)) == {field.name for field in price.DESCRIPTOR.fields}
    empty = plain(cluster_service_pb2.Quote())
    assert empty["price"] is None and empty["create_time_us"] == 0
    assert plain(cluster_service_pb2.QuoteClusterRequest())["ttl_s"] is None
    assert quote_json(cluster_service_pb2.Quote(quote_id="q", request_id="r"))["placements"] == []


def test_regions_come_from_the_price_lines_largest_first() -> None:
    assert gpus_by_region(lease().price) == {"us-east": 7, "de-central": 5}


def test_tables_show_ids_as_they_are() -> None:
    written = io.StringIO()
    console = Console(file=written, width=140, markup=False, highlight=False)
    request = checked_request({"gpu_count": 12, "gpu_models": ["[bold]"], "min_security_tier": "SECURE"})
    show_request(console, request)
    show_lease(console, lease())
    text = written.getvalue()
    assert "[bold]" in text and "12 GPUs on 2 nodes" in text
    assert "proven cheapest" in text and "1.5 ms" in text


def test_what_is_asked_names_only_what_constrains() -> None:
    rows = dict(
        asked_rows(checked_request({"gpu_count": 12_000, "same_fabric": True, "min_security_tier": "SECURE"}))
    )
    assert rows["gpu_count"] == "12,000" and rows["same_fabric"] == "yes"
    assert rows["min_security_tier"] == "SECURE" and rows["duration"] == "1 h"
    assert "interruptible" not in rows and "regions" not in rows
