"""Every placement keeps the constraints of its request: rules that a node keeps, and rules that bind nodes.

Written as expressions over the joined rows of the plan, apart from the eligibility that the bound is computed
from (`engine.planning.certificate_supply`): one slip cannot hide in both.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from engine.domain.cluster_request import SHARE_TOLERANCE
from engine.domain.tiers import ConnectivityTier, Interconnect, SecurityTier
from engine.planning.certificate_distances import RTT_TOLERANCE_MS, RoundTrips
from engine.planning.certificate_faults import Fault, FaultCode, faults_in_rows
from engine.planning.certificate_ledger import Ledger

LOCATIONS = (("regions", "node_region"), ("countries", "node_country"), ("sites", "node_site_id"))


def broken_constraints(ledger: Ledger, trips: RoundTrips) -> Iterator[Fault]:
    """Constraints that placements of the plan break; `trips` holds the sites of the fleet."""
    for broken, code, sentence in _node_rules():
        yield from faults_in_rows(ledger.rows, broken, code, "{request_id} on {node_id}: " + sentence)
    yield from _mixed(ledger.rows)
    yield from _supplier_shares(ledger.rows)
    yield from _far_from_client(ledger.rows, trips)
    yield from _distant_pairs(ledger.rows, trips)


def _node_rules() -> Iterator[tuple[pl.Expr, FaultCode, str]]:
    gpus, size = pl.col("gpus"), pl.col("gpus_per_node")
    yield gpus % size != 0, FaultCode.SPLIT_REPLICA, "{gpus} GPUs are not whole replicas of {gpus_per_node}"
    yield pl.col("node_state") != "READY", FaultCode.NODE_NOT_READY, "the node is {node_state}"
    yield ~_named("gpu_models", "node_gpu_model"), FaultCode.WRONG_MODEL, "{node_gpu_model} was not asked for"
    wanted = pl.any_horizontal(_named(names, column).fill_null(False) for names, column in LOCATIONS)
    free = pl.all_horizontal(pl.col(names).is_null() for names, _ in LOCATIONS)
    yield ~(wanted | free), FaultCode.WRONG_LOCATION, "{node_site_id} is in no wanted place"
    barred = pl.any_horizontal(_named(f"excluded_{names}", column).fill_null(False) for names, column in LOCATIONS)
    yield barred, FaultCode.EXCLUDED_LOCATION, "{node_site_id} is in an excluded place"
    for code, least, column, grades in (
        (FaultCode.SECURITY_TIER, "min_security_tier", "node_security_tier", SecurityTier),
        (FaultCode.CONNECTIVITY_TIER, "min_connectivity_tier", "node_connectivity_tier", ConnectivityTier),
        (FaultCode.INTERCONNECT, "min_interconnect", "node_interconnect", Interconnect),
    ):
        order = pl.Enum(list(grades.__members__))
        below = pl.col(column).cast(order) < pl.col(least).cast(order)
        yield below, code, f"{{{column}}} is below {{{least}}}"
    missing = pl.col("certifications").list.set_difference(pl.col("node_certifications").fill_null([]))
    sentence = "has {node_certifications}, not all of {certifications}"
    yield missing.list.len() > 0, FaultCode.CERTIFICATIONS, sentence
    unreliable = pl.col("node_reliability") < pl.col("min_reliability")
    yield unreliable, FaultCode.RELIABILITY, "{node_reliability} is below {min_reliability}"
    supplier = "node_supplier_id"
    barred = ~_named("allowed_suppliers", supplier).fill_null(True)
    barred = barred | _named("excluded_suppliers", supplier).fill_null(False)
    yield barred, FaultCode.WRONG_SUPPLIER, "{node_supplier_id} is not acceptable"


def _named(names: str, column: str) -> pl.Expr:
    """Whether the list names the value; null if the request gives no list."""
    return pl.col(names).list.contains(pl.col(column))


def _mixed(rows: pl.DataFrame) -> Iterator[Fault]:
    fabric = pl.col("node_fabric_id")
    clusters = rows.group_by("request_id", maintain_order=True).agg(
        models=pl.col("node_gpu_model").n_unique(),
        mixed=pl.col("allow_mixed_models").first(),
        torn=pl.col("same_fabric").first() & ((fabric.n_unique() > 1) | fabric.is_null().any()),
    )
    too_many = (pl.col("models") > 1) & ~pl.col("mixed")
    yield from faults_in_rows(clusters, too_many, FaultCode.MIXED_MODELS, "{request_id} mixes {models} models")
    yield from faults_in_rows(clusters, pl.col("torn"), FaultCode.TORN_FABRIC, "{request_id} is not on one fabric")


def _supplier_shares(rows: pl.DataFrame) -> Iterator[Fault]:
    share = pl.col("max_supplier_share") * pl.col("gpu_count") + SHARE_TOLERANCE
    given = (
        rows.filter(pl.col("max_supplier_share").is_not_null())
        .group_by("request_id", "node_supplier_id", maintain_order=True)
        .agg(given=pl.col("gpus").sum(), most=share.floor().cast(pl.Int64).first())
    )
    sentence = "{request_id} takes {given} GPUs of {node_supplier_id}, at most {most}"
    yield from faults_in_rows(given, pl.col("given") > pl.col("most"), FaultCode.SUPPLIER_SHARE, sentence)


def _far_from_client(rows: pl.DataFrame, trips: RoundTrips) -> Iterator[Fault]:
    client = ("client_site", "client_latitude", "client_longitude")
    bound = rows.filter(pl.col("max_client_rtt_ms").is_not_null()).unique(
        ["request_id", "node_site_id"], maintain_order=True
    )
    for row in bound.iter_rows(named=True):
        rtt_ms = trips.from_client(*(row[name] for name in client))[trips.sites[row["node_site_id"]]]
        if not rtt_ms <= row["max_client_rtt_ms"] + RTT_TOLERANCE_MS:
            sentence = f"{row['request_id']} on {row['node_id']}: {rtt_ms} ms from the client"
            yield Fault(FaultCode.FAR_FROM_CLIENT, sentence)


def _distant_pairs(rows: pl.DataFrame, trips: RoundTrips) -> Iterator[Fault]:
    clusters = (
        rows.filter(pl.col("max_cluster_rtt_ms").is_not_null())
        .group_by("request_id", maintain_order=True)
        .agg(pl.col("node_site_id").unique(maintain_order=True), pl.col("max_cluster_rtt_ms").first())
    )
    for request_id, names, limit_ms in clusters.iter_rows():
        sites = np.array([trips.sites[name] for name in names])
        apart_ms = np.array([trips.from_site(site)[sites] for site in sites.tolist()])
        a, b = np.unravel_index(np.argmax(apart_ms), apart_ms.shape)
        if apart_ms[a, b] > limit_ms + RTT_TOLERANCE_MS:
            sentence = f"{request_id}: {names[a]} and {names[b]} are {apart_ms[a, b]} ms apart"
            yield Fault(FaultCode.DISTANT_PAIR, sentence)
