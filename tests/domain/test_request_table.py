"""A queue is checked by columns as a request is by fields: the same rules, named by row and column (law 9)."""

from __future__ import annotations

from random import Random
from typing import Any

import polars as pl
import pytest

from engine.domain.cluster_request import REQUEST_FIELDS, parse_cluster_request
from engine.domain.errors import InvalidInput
from engine.domain.request_table import milli_of_part
from engine.domain.tables import (
    OPTIONAL_REQUEST_COLUMNS,
    REQUESTS_SCHEMA,
    RTT_SCHEMA,
    check_client_sites,
    check_requests,
    shape,
)
from tests.worlds import world_from_seed

GOOD = {
    "request_id": "r",
    "gpu_count": 16,
    "gpus_per_node": 8,
    "duration_s": 3_600,
    "max_price_micro_usd_per_gpu_hour": 2_000_000,
}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"request_id": None}, "request_id"),
    ({"request_id": " r"}, "request_id"),
    ({"tenant_id": ""}, "tenant_id"),
    ({"gpu_count": 0}, "gpu_count"),
    ({"gpu_count": None}, "gpu_count"),
    ({"gpu_count": 12}, "gpus_per_node"),
    ({"gpus_per_node": 0}, "gpus_per_node"),
    ({"gpus_per_node": 2_048, "gpu_count": 2_048}, "gpus_per_node"),
    ({"gpu_models": ["H100", ""]}, "gpu_models"),
    ({"gpu_models": ["H100", None]}, "gpu_models"),
    ({"sites": ["a\nb"]}, "sites"),
    ({"regions": [f"r{number}" for number in range(1_001)]}, "regions"),
    ({"client_latitude": 91.0, "client_longitude": 0.0}, "client_latitude"),
    ({"client_latitude": 1.0}, "client_latitude"),
    ({"client_longitude": 1.0}, "client_longitude"),
    ({"client_latitude": 1.0, "client_longitude": float("nan")}, "client_longitude"),
    ({"client_latitude": 1.0, "client_longitude": 1.0, "client_site": "a"}, "client_site"),
    ({"max_client_rtt_ms": 5.0}, "max_client_rtt_ms"),
    ({"max_client_rtt_ms": float("nan"), "client_site": "a"}, "max_client_rtt_ms"),
    ({"max_cluster_rtt_ms": float("inf")}, "max_cluster_rtt_ms"),
    ({"max_cluster_rtt_ms": -1.0}, "max_cluster_rtt_ms"),
    ({"min_security_tier": "PARANOID"}, "min_security_tier"),
    ({"min_connectivity_tier": "low"}, "min_connectivity_tier"),
    ({"min_interconnect": "WIFI"}, "min_interconnect"),
    ({"min_reliability": 1.5}, "min_reliability"),
    ({"regions": ["a", "b"], "excluded_regions": ["b"]}, "excluded_regions"),
    ({"countries": ["US"], "excluded_countries": ["US"]}, "excluded_countries"),
    ({"sites": ["a"], "excluded_sites": ["a"]}, "excluded_sites"),
    ({"allowed_suppliers": ["a"], "excluded_suppliers": ["a"]}, "excluded_suppliers"),
    ({"max_supplier_share": 0.0}, "max_supplier_share"),
    ({"max_supplier_share": 0.4}, "max_supplier_share"),
    ({"duration_s": 0}, "duration_s"),
    ({"duration_s": None}, "duration_s"),
    ({"max_price_micro_usd_per_gpu_hour": None}, "max_price_micro_usd_per_gpu_hour"),
    ({"max_price_micro_usd_per_gpu_hour": 10**12}, "max_price_micro_usd_per_gpu_hour"),
    ({"gpu_milli": 500}, "gpu_milli"),
    ({"gpu_milli": 0, "gpu_count": 1, "gpus_per_node": 1}, "gpu_milli"),
    ({"gpu_milli": 1_001, "gpu_count": 1, "gpus_per_node": 1}, "gpu_milli"),
    ({"cpu_milli": 0}, "cpu_milli"),
    ({"memory_mib": -1}, "memory_mib"),
]


def queue(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=REQUESTS_SCHEMA)


def fields_of(frame: pl.DataFrame) -> set[str]:
    try:
        check_requests(frame)
    except InvalidInput as error:
        return {violation.field for violation in error.violations}
    return set()


@pytest.mark.parametrize(("change", "column"), BAD)
def test_each_bad_cell_is_named_by_row_and_column(change: dict[str, Any], column: str) -> None:
    rows = [GOOD | {"request_id": f"r{number}"} for number in range(3)]
    rows[1] |= change
    assert fields_of(queue(*rows)) == {f"requests.parquet row 1 column {column}"}


def test_all_of_a_gpu_is_no_part() -> None:
    """A part is what wants less than 1,000 thousandths."""
    part = GOOD | {"gpu_count": 1, "gpus_per_node": 1}
    rows = [part | {"request_id": f"r{milli}", "gpu_milli": milli} for milli in (None, 1_000, 999)]
    check_requests(queue(*rows))
    assert queue(*rows).select(milli_of_part()).to_series().to_list() == [0, 0, 999]


def test_an_id_that_stands_twice_is_named() -> None:
    assert fields_of(queue(GOOD, GOOD)) == {f"requests.parquet row {row} column request_id" for row in (0, 1)}


def test_every_optional_column_may_be_missing_null_or_an_empty_list() -> None:
    """CONTRACT: a missing optional column is null, and null is unconstrained."""
    needed = pl.DataFrame([GOOD]).drop("gpus_per_node")
    check_requests(shape(needed, REQUESTS_SCHEMA, "requests.parquet", OPTIONAL_REQUEST_COLUMNS))
    check_requests(queue(GOOD, GOOD | {"request_id": "s", "regions": [], "sites": [], "gpu_models": []}))


def test_columns_and_fields_agree_on_what_is_a_request() -> None:
    """Law 9, both ways in: a row is refused by the column rules if and only if the fields are."""
    for seed in range(300):
        random = Random(seed)
        row = GOOD | world_from_seed(seed).request | {"request_id": "r"}
        row.setdefault("max_price_micro_usd_per_gpu_hour", 1)
        for change in random.sample([change for change, _ in BAD], random.randint(0, 2)):
            row |= change
        required = ("request_id", "duration_s", "max_price_micro_usd_per_gpu_hour")
        good = all(row[name] is not None for name in required) and row.get("tenant_id") != ""
        try:
            parse_cluster_request({name: row[name] for name in REQUEST_FIELDS if name in row})
        except InvalidInput:
            good = False
        assert (not fields_of(queue(row))) == good, row


def test_numbers_beyond_64_bits_are_named() -> None:
    frame = pl.DataFrame([GOOD]).with_columns(pl.Series("gpus_per_node", [2**64 - 1], dtype=pl.UInt64))
    with pytest.raises(InvalidInput, match="row 0 column gpus_per_node"):
        shape(frame, REQUESTS_SCHEMA, "requests.parquet", OPTIONAL_REQUEST_COLUMNS)


@pytest.mark.parametrize(
    ("site", "measured", "bad"),
    [
        ("a", [], False),  # stands in the fleet
        ("x", [], True),
        ("x", ["a"], True),  # the way to b is neither measured nor can it be estimated
        ("x", ["a", "b"], False),
        (None, [], False),
    ],
)
def test_a_client_site_is_in_the_fleet_or_measured_to_all_of_it(
    site: str | None, measured: list[str], bad: bool
) -> None:
    """CONTRACT: the RTT table, or the formula if the site stands in the fleet; else exit 2."""
    fleet = pl.DataFrame({"site_id": ["a", "b", "b"]})
    rtt = pl.DataFrame([(name, "x", 1.0) for name in measured], schema=RTT_SCHEMA, orient="row")
    requests = queue(GOOD, GOOD | {"client_site": site})
    if not bad:
        check_client_sites(requests, fleet, rtt)
        check_client_sites(requests, fleet.clear(), rtt.clear())
        return
    with pytest.raises(InvalidInput, match="row 1 column client_site"):
        check_client_sites(requests, fleet, rtt)
