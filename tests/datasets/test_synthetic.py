import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.synthetic import synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.domain.errors import InvalidInput
from engine.domain.request_table import BESIDE
from engine.domain.tables import REQUESTS_SCHEMA
from tests.datasets.laws import (
    assert_fleet,
    assert_requests,
    assert_rtt,
    bound_share_of_gangs,
    bytes_of,
    exact_schema,
    load_of,
)

MILLION = 1_000_000


@pytest.fixture(scope="module")
def large() -> pl.DataFrame:
    return synthetic_fleet(MILLION, seed=7)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3_000), st.integers(0, 2**40))
def test_a_fleet_of_any_size_is_a_fleet(gpus: int, seed: int) -> None:
    fleet = synthetic_fleet(gpus, seed)
    assert_fleet(fleet, gpus)
    assert_rtt(synthetic_rtt(fleet, seed))


@settings(max_examples=15, deadline=None)
@given(st.integers(200, 3_000), st.integers(0, 60), st.integers(0, 2**40))
def test_requests_for_any_fleet_are_valid(gpus: int, count: int, seed: int) -> None:
    fleet = synthetic_fleet(gpus, seed)
    assert_requests(synthetic_requests(fleet, count, seed), count)


def test_same_seed_same_bytes_another_seed_another_world() -> None:
    fleets = [synthetic_fleet(5_000, seed) for seed in (3, 3, 4)]
    assert bytes_of(fleets[0]) == bytes_of(fleets[1]) != bytes_of(fleets[2])
    for build in (synthetic_rtt, lambda fleet, seed: synthetic_requests(fleet, 300, seed, load=0.8)):
        built = [bytes_of(build(fleet, seed)) for fleet, seed in zip(fleets, (3, 3, 4), strict=True)]
        assert built[0] == built[1] != built[2]


def test_a_million_gpus_have_the_shape_of_a_network(large: pl.DataFrame) -> None:
    assert_fleet(large, MILLION)
    assert 125_000 <= large.height <= 210_000
    assert large["region"].n_unique() >= 60
    assert large["gpu_model"].n_unique() >= 40
    for column, kinds in (("security_tier", 4), ("connectivity_tier", 4), ("interconnect", 3), ("state", 3)):
        assert large[column].n_unique() == kinds
    suppliers_of_site = large.group_by("site_id").agg(pl.col("supplier_id").n_unique())["supplier_id"]
    assert np.mean(suppliers_of_site.to_numpy() <= 4) > 0.8
    size_of_supplier = large.group_by("supplier_id").agg(pl.col("gpu_count").sum())["gpu_count"].sort()
    assert size_of_supplier.tail(size_of_supplier.len() // 10).sum() > 0.4 * MILLION


def test_a_cluster_of_ten_thousand_h100_finds_room(large: pl.DataFrame) -> None:
    free = large.filter((pl.col("state") == "READY") & (pl.col("gpu_model") == "H100"))["gpu_free"]
    assert free.sum() > 50_000
    assert free.filter(free == 8).sum() > 20_000


def test_a_fabric_holds_a_gang_of_a_thousand(large: pl.DataFrame) -> None:
    fabrics = large.filter((pl.col("state") == "READY") & pl.col("fabric_id").is_not_null())
    assert fabrics.group_by("fabric_id").agg(pl.col("gpu_free").sum())["gpu_free"].max() >= 1_024  # type: ignore[operator]


def test_a_million_gpus_fold_into_some_ten_thousand_pools(large: pl.DataFrame) -> None:
    keys = ("gpu_model", "site_id", "gpu_count", "security_tier", "connectivity_tier", "interconnect", "fabric_id")
    certified = pl.col("certifications").list.join(" ")
    assert 5_000 < large.select(pl.struct(*keys, certified).n_unique()).item() < 30_000


def test_only_confidential_nodes_have_a_tee(large: pl.DataFrame) -> None:
    tee = large.filter(pl.col("certifications").list.contains("TEE"))
    assert tee.height > 0
    assert tee["security_tier"].unique().to_list() == ["CONFIDENTIAL"]


def test_asks_lie_about_the_reference_and_below_it(large: pl.DataFrame) -> None:
    h100 = large.filter((pl.col("gpu_model") == "H100") & (pl.col("security_tier") == "VERIFIED"))
    assert 1_400_000 < float(np.median(h100["ask_micro_usd_per_gpu_hour"])) < 2_300_000


def test_all_kinds_of_constraints_occur_and_two_gangs_in_five_are_bound(large: pl.DataFrame) -> None:
    requests = synthetic_requests(large, 5_000, seed=7, load=0.4)
    assert_requests(requests, 5_000)
    for column, dtype in ((name, kind) for name, kind in REQUESTS_SCHEMA.items() if name not in BESIDE):
        used = requests[column].sum() if dtype == pl.Boolean() else requests[column].count()
        assert used >= 50, column
    assert 0.30 <= bound_share_of_gangs(requests) <= 0.55
    assert load_of(requests, large) == pytest.approx(0.4, rel=0.002)


def test_a_gang_of_one_fabric_has_a_fabric_that_could_hold_it(large: pl.DataFrame) -> None:
    requests = synthetic_requests(large, 2_000, seed=7, load=0.5)
    room = large.filter((pl.col("state") == "READY") & pl.col("fabric_id").is_not_null())
    largest = room.group_by("gpu_model", "fabric_id").agg(pl.col("gpu_free").sum())["gpu_free"].max()
    gangs = requests.filter(pl.col("same_fabric"))
    assert gangs.height > 50
    assert gangs["gpu_count"].max() <= largest  # type: ignore[operator]


@pytest.mark.parametrize("load", [0.3, 0.9, 1.5])
def test_the_load_is_hit(load: float) -> None:
    fleet = synthetic_fleet(50_000, seed=1)
    requests = synthetic_requests(fleet, 1_000, seed=1, load=load)
    assert load_of(requests, fleet) == pytest.approx(load, rel=0.05)


def test_no_requests_is_an_empty_table() -> None:
    assert exact_schema(synthetic_requests(synthetic_fleet(100, 1), 0, 1), REQUESTS_SCHEMA)


def test_a_fleet_that_takes_no_work_gets_no_requests() -> None:
    down = synthetic_fleet(100, 1).with_columns(pl.lit("DOWN").alias("state"))
    with pytest.raises(InvalidInput, match="READY"):
        synthetic_requests(down, 1, 1)


def test_a_fleet_without_fabrics_gets_no_gangs_of_one_fabric() -> None:
    fleet = synthetic_fleet(5_000, 1).with_columns(
        pl.lit("ETHERNET").alias("interconnect"), pl.lit(None, dtype=pl.String).alias("fabric_id")
    )
    assert not synthetic_requests(fleet, 500, 1, load=0.9)["same_fabric"].any()


def test_no_gpus_is_refused() -> None:
    with pytest.raises(InvalidInput, match="gpus"):
        synthetic_fleet(0, 1)
