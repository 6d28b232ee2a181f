"""The border check of a queue: whole columns of `requests.parquet`, by the rules of `cluster_request`.

In a queue every request has an id, a duration and a highest price. An empty list and null mean the same:
unconstrained.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from engine.domain.cluster_request import SHARE_TOLERANCE
from engine.domain.errors import InvalidInput
from engine.domain.limits import (
    MAX_CPU_MILLI,
    MAX_DURATION_S,
    MAX_GPU_COUNT,
    MAX_GPUS_PER_NODE,
    MAX_MEMORY_MIB,
    MAX_PRICE_MICRO_USD_PER_GPU_HOUR,
    MAX_RTT_MS,
    MILLI_OF_GPU,
)
from engine.domain.table_rules import (
    Rule,
    duplicate_rule,
    grade_rule,
    range_rule,
    text_rule,
    texts_rules,
    violations_of,
)
from engine.domain.table_schemas import REQUESTS_SCHEMA, STRINGS
from engine.domain.tiers import ConnectivityTier, Interconnect, SecurityTier

LIST_COLUMNS = tuple(column for column, dtype in REQUESTS_SCHEMA.items() if dtype == STRINGS)


def check_requests(frame: pl.DataFrame, table: str = "requests.parquet") -> None:
    """Check a frame of REQUESTS_SCHEMA; InvalidInput lists every rule that is broken, with rows."""
    if violations := violations_of(frame, table, _rules()):
        raise InvalidInput(violations)


BESIDE = ("gpu_milli", "cpu_milli", "memory_mib")
"""What a request may name beside whole GPUs."""


def milli_of_part() -> pl.Expr:
    """Thousandths of a GPU that a request wants, 0 unless it is for a part: all of a GPU is none."""
    milli = pl.col("gpu_milli")
    return pl.when(milli < MILLI_OF_GPU).then(milli).otherwise(0)


def check_client_sites(
    requests: pl.DataFrame, fleet: pl.DataFrame, rtt: pl.DataFrame, table: str = "requests.parquet"
) -> None:
    """InvalidInput lists client sites that are no site of the fleet, while the RTT to some of its sites is not
    measured. Without a fleet there is nothing to measure."""
    sites = fleet["site_id"].unique()
    named = requests["client_site"].drop_nulls().unique()
    strangers = named.filter(~named.is_in(sites.implode()))
    both_ways = [
        rtt.select(client=client, site=site) for client, site in (("site_a", "site_b"), ("site_b", "site_a"))
    ]
    measured = (
        pl.concat(both_ways)
        .filter(pl.col("client").is_in(strangers.implode()) & pl.col("site").is_in(sites.implode()))
        .group_by("client")
        .agg(pl.col("site").n_unique())
        .filter(pl.col("site") == sites.len())["client"]
    )
    unknown = strangers.filter(~strangers.is_in(measured.implode())) if sites.len() else strangers.clear()
    reason = "is no site of the fleet, and its RTT is not measured"
    rule = ("client_site", pl.col("client_site").is_in(unknown.implode()), reason)
    if violations := violations_of(requests, table, [rule]):
        raise InvalidInput(violations)


def _rules() -> Iterator[Rule]:
    yield text_rule("request_id")
    yield duplicate_rule("request_id", pl.col("request_id"))
    yield text_rule("tenant_id", optional=True)
    yield text_rule("client_site", optional=True)
    for column in LIST_COLUMNS:
        yield from texts_rules(column)
    yield range_rule("gpu_count", 1, MAX_GPU_COUNT)
    yield range_rule("gpus_per_node", 1, MAX_GPUS_PER_NODE, optional=True)
    yield range_rule("client_latitude", -90.0, 90.0, optional=True)
    yield range_rule("client_longitude", -180.0, 180.0, optional=True)
    yield range_rule("max_client_rtt_ms", 0.0, MAX_RTT_MS, optional=True)
    yield range_rule("max_cluster_rtt_ms", 0.0, MAX_RTT_MS, optional=True)
    yield range_rule("min_reliability", 0.0, 1.0, optional=True)
    yield range_rule("max_supplier_share", 0.0, 1.0, optional=True)
    yield "max_supplier_share", pl.col("max_supplier_share") == 0, "must be above 0"
    yield range_rule("duration_s", 1, MAX_DURATION_S)
    yield range_rule("max_price_micro_usd_per_gpu_hour", 1, MAX_PRICE_MICRO_USD_PER_GPU_HOUR)
    yield grade_rule("min_security_tier", SecurityTier, optional=True)
    yield grade_rule("min_connectivity_tier", ConnectivityTier, optional=True)
    yield grade_rule("min_interconnect", Interconnect, optional=True)
    yield range_rule("gpu_milli", 1, MILLI_OF_GPU, optional=True)
    yield range_rule("cpu_milli", 1, MAX_CPU_MILLI, optional=True)
    yield range_rule("memory_mib", 1, MAX_MEMORY_MIB, optional=True)
    yield from _contradictions()


def _contradictions() -> Iterator[Rule]:
    count, per_node = pl.col("gpu_count"), pl.col("gpus_per_node").fill_null(1)
    yield "gpus_per_node", (count % per_node != 0) & (count > 0), "does not divide gpu_count"
    part = pl.col("gpu_milli").is_not_null() & (count > 1)
    yield "gpu_milli", part, "is a part of one GPU: gpu_count must be 1"
    for wanted in ("regions", "countries", "sites"):
        yield _both(wanted, f"excluded_{wanted}")
    yield _both("allowed_suppliers", "excluded_suppliers")
    share = pl.col("max_supplier_share")
    below = ((share * count + SHARE_TOLERANCE).floor() < per_node) & (share > 0)
    yield "max_supplier_share", below, "allows a supplier less than one replica"
    yield from _client_contradictions()


def _both(wanted: str, excluded: str) -> Rule:
    shared = pl.col(wanted).list.set_intersection(pl.col(excluded)).list.len() > 0
    return excluded, shared, f"contradicts {wanted}: a name is in both"


def _client_contradictions() -> Iterator[Rule]:
    latitude, longitude, site = (
        pl.col(f"client_{part}").is_not_null() for part in ("latitude", "longitude", "site")
    )
    together = "client_latitude and client_longitude must be given together"
    yield "client_latitude", latitude & ~longitude, together
    yield "client_longitude", longitude & ~latitude, together
    yield "client_site", site & latitude, "give either client_site or client coordinates, not both"
    homeless = pl.col("max_client_rtt_ms").is_not_null() & ~site & ~latitude & ~longitude
    yield "max_client_rtt_ms", homeless, "needs client_site or client_latitude and client_longitude"
