"""The columns of the contract's files as polars schemas: null means unconstrained, or none."""

from __future__ import annotations

import polars as pl

STRINGS = pl.List(pl.String)

FLEET_SCHEMA: dict[str, pl.DataType] = {
    "node_id": pl.String(),
    "supplier_id": pl.String(),
    "gpu_model": pl.String(),
    "gpu_count": pl.Int64(),
    "gpu_free": pl.Int64(),
    "site_id": pl.String(),
    "region": pl.String(),
    "country": pl.String(),
    "latitude": pl.Float64(),
    "longitude": pl.Float64(),
    "security_tier": pl.String(),
    "certifications": STRINGS,
    "connectivity_tier": pl.String(),
    "reliability": pl.Float64(),
    "ask_micro_usd_per_gpu_hour": pl.Int64(),
    "interconnect": pl.String(),
    "fabric_id": pl.String(),
    "state": pl.String(),
    "cpu_milli": pl.Int64(),
    "memory_mib": pl.Int64(),
}
RTT_SCHEMA: dict[str, pl.DataType] = {"site_a": pl.String(), "site_b": pl.String(), "rtt_ms": pl.Float64()}
REQUESTS_SCHEMA: dict[str, pl.DataType] = {
    "request_id": pl.String(),
    "tenant_id": pl.String(),
    "submitted_at_us": pl.Int64(),
    "gpu_models": STRINGS,
    "allow_mixed_models": pl.Boolean(),
    "gpu_count": pl.Int64(),
    "gpus_per_node": pl.Int64(),
    "regions": STRINGS,
    "countries": STRINGS,
    "sites": STRINGS,
    "excluded_regions": STRINGS,
    "excluded_countries": STRINGS,
    "excluded_sites": STRINGS,
    "client_latitude": pl.Float64(),
    "client_longitude": pl.Float64(),
    "client_site": pl.String(),
    "max_client_rtt_ms": pl.Float64(),
    "max_cluster_rtt_ms": pl.Float64(),
    "min_security_tier": pl.String(),
    "certifications": STRINGS,
    "min_connectivity_tier": pl.String(),
    "min_interconnect": pl.String(),
    "same_fabric": pl.Boolean(),
    "min_reliability": pl.Float64(),
    "allowed_suppliers": STRINGS,
    "excluded_suppliers": STRINGS,
    "max_supplier_share": pl.Float64(),
    "duration_s": pl.Int64(),
    "max_price_micro_usd_per_gpu_hour": pl.Int64(),
    "interruptible": pl.Boolean(),
    "gpu_milli": pl.Int64(),
    "cpu_milli": pl.Int64(),
    "memory_mib": pl.Int64(),
}
PLACEMENTS_SCHEMA: dict[str, pl.DataType] = {
    "request_id": pl.String(),
    "node_id": pl.String(),
    "gpus": pl.Int64(),
    "movable": pl.Boolean(),
    "card": pl.Int64(),
}
OPTIONAL_PLACEMENT_COLUMNS = {"card"}
OPTIONAL_FLEET_COLUMNS = {"certifications", "fabric_id", "cpu_milli", "memory_mib"}
OPTIONAL_REQUEST_COLUMNS = set(REQUESTS_SCHEMA) - {
    "request_id",
    "gpu_count",
    "duration_s",
    "max_price_micro_usd_per_gpu_hour",
}
