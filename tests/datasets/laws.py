"""Laws that every fleet and every set of requests keeps, whatever built them."""

import io

import polars as pl

from engine.domain.cluster_request import REQUEST_FIELDS, ClusterRequest, parse_cluster_request
from engine.domain.tables import FLEET_SCHEMA, REQUESTS_SCHEMA, RTT_SCHEMA, check_fleet, check_rtt

TIGHTEST_LIMIT_MS = 2.0


def exact_schema(frame: pl.DataFrame, schema: dict[str, pl.DataType]) -> bool:
    return list(frame.schema.items()) == list(schema.items())


def bytes_of(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def assert_fleet(fleet: pl.DataFrame, gpus: int) -> None:
    assert exact_schema(fleet, FLEET_SCHEMA)
    check_fleet(fleet)
    assert fleet["gpu_count"].sum() == gpus
    for column, dtype in FLEET_SCHEMA.items():
        if column not in ("fabric_id", "cpu_milli", "memory_mib"):
            assert fleet[column].null_count() == 0, (column, dtype)
    assert_fabrics(fleet)


def assert_fabrics(fleet: pl.DataFrame) -> None:
    """A fabric is one kind of network at one site; Ethernet nodes have none."""
    in_fabric = pl.col("fabric_id").is_not_null()
    assert fleet.filter(in_fabric != (pl.col("interconnect") != "ETHERNET")).is_empty()
    kinds = fleet.filter(in_fabric).group_by("fabric_id").agg(pl.col("site_id", "interconnect").n_unique())
    assert kinds.filter((pl.col("site_id") > 1) | (pl.col("interconnect") > 1)).is_empty()


def assert_rtt(rtt: pl.DataFrame) -> None:
    assert exact_schema(rtt, RTT_SCHEMA)
    check_rtt(rtt)
    assert rtt.filter(pl.col("site_a") >= pl.col("site_b")).is_empty()
    assert not rtt.select("site_a", "site_b").is_duplicated().any()


def assert_requests(requests: pl.DataFrame, count: int) -> list[ClusterRequest]:
    """Every row alone is valid: it passes the border that rows from outside pass."""
    assert exact_schema(requests, REQUESTS_SCHEMA)
    assert requests.height == count == requests["request_id"].n_unique()
    assert requests["submitted_at_us"].is_sorted()
    for column in ("duration_s", "max_price_micro_usd_per_gpu_hour", "tenant_id", "interruptible"):
        assert requests[column].null_count() == 0
    rows = requests.select(name for name in REQUEST_FIELDS if name in REQUESTS_SCHEMA).iter_rows(named=True)
    return [parse_cluster_request(row) for row in rows]


def bound_share_of_gangs(requests: pl.DataFrame) -> float:
    gangs = requests.filter(pl.col("gpu_count") >= 2)
    bound = (
        (pl.col("sites").list.len() == 1).fill_null(False)
        | pl.col("same_fabric")
        | (pl.col("max_cluster_rtt_ms") <= TIGHTEST_LIMIT_MS).fill_null(False)
    )
    return float(gangs.select(bound.mean()).item())


def load_of(requests: pl.DataFrame, fleet: pl.DataFrame) -> float:
    free = fleet.filter(pl.col("state") == "READY")["gpu_free"].sum()
    return int(requests["gpu_count"].sum()) / int(free)
