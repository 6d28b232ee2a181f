from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.datasets.arrivals import FIRST_ARRIVAL_US
from engine.datasets.city_pings import city_pings
from engine.datasets.cloud_regions import cloud_sites
from engine.datasets.geodesy import great_circle_km, least_rtt_ms
from engine.datasets.itp import itp_arrivals
from engine.datasets.measured_rtt import larger_direction, possible
from engine.datasets.openb import openb_nodes
from engine.datasets.pai import pai_nodes
from engine.datasets.philly import philly_arrivals
from engine.datasets.real import World, real_requests, real_world
from engine.datasets.skyplane import skyplane_rtt
from engine.domain.errors import InvalidInput
from engine.domain.request_table import BESIDE
from engine.domain.tables import REQUESTS_SCHEMA
from tests.datasets.laws import (
    assert_fleet,
    assert_requests,
    assert_rtt,
    bound_share_of_gangs,
    bytes_of,
    load_of,
)

GPUS = 200_000


@pytest.fixture(scope="module")
def world(data_dir: Path) -> World:
    return real_world(data_dir, GPUS, seed=5)


def test_the_real_world_keeps_the_laws(world: World) -> None:
    assert_fleet(world.fleet, GPUS)
    assert_rtt(world.rtt)
    assert {"H100", "H200", "B200", "A100-80GB", "L40S", "RTX4090", "V100", "T4"} <= set(world.fleet["gpu_model"])


@pytest.mark.parametrize("gpus", [1, 9, 500])
def test_a_small_real_world_keeps_the_laws(data_dir: Path, gpus: int) -> None:
    assert_fleet(real_world(data_dir, gpus, seed=1).fleet, gpus)


def test_same_seed_same_bytes(data_dir: Path, world: World) -> None:
    again, other = real_world(data_dir, GPUS, seed=5), real_world(data_dir, GPUS, seed=6)
    assert bytes_of(again.fleet) == bytes_of(world.fleet) != bytes_of(other.fleet)
    assert bytes_of(again.rtt) == bytes_of(world.rtt)
    requests = [bytes_of(real_requests(data_dir, world.fleet, 500, seed, load=0.5)) for seed in (5, 5, 6)]
    assert requests[0] == requests[1] != requests[2]


def test_node_shapes_are_those_of_the_lists(data_dir: Path, world: World) -> None:
    """Shares of GPUs by shape, within what drawing lots of uneven size allows."""
    lists = pl.concat([openb_nodes(data_dir), pai_nodes(data_dir)])
    assert (lists.height, lists["gpu_count"].sum()) == (3_027, 12_954)
    for gpus in (2, 8):
        listed = lists.filter(gpu_count=gpus)["gpu_count"].sum() / 12_954
        drawn = world.fleet.filter(gpu_count=gpus)["gpu_count"].sum() / GPUS
        assert drawn == pytest.approx(listed, abs=0.1)
    assert set(world.fleet["gpu_count"].value_counts().filter(pl.col("count") > 1)["gpu_count"]) <= {1, 2, 4, 8}


def test_without_a_load_sizes_are_the_traces_own(data_dir: Path, world: World) -> None:
    requests = real_requests(data_dir, world.fleet, 2_000, seed=5, load=None)
    assert_requests(requests, 2_000)
    assert requests["submitted_at_us"][0] == FIRST_ARRIVAL_US
    assert set(requests["gpu_count"]) <= {1, 2, 4, 8, 12, 16, 24, 32, 64, 128}
    assert (requests["gpu_count"] == 1).mean() > 0.6  # type: ignore[operator]


@pytest.mark.parametrize("load", [0.1, 0.9])
def test_with_a_load_all_kinds_occur_and_the_load_is_hit(data_dir: Path, world: World, load: float) -> None:
    requests = real_requests(data_dir, world.fleet, 3_000, seed=5, load=load)
    assert_requests(requests, 3_000)
    assert load_of(requests, world.fleet) == pytest.approx(load, rel=0.05)
    assert set(requests["gpu_count"]) <= {1 << k for k in range(11)}
    assert bound_share_of_gangs(requests) >= 0.30
    for column, dtype in ((name, kind) for name, kind in REQUESTS_SCHEMA.items() if name not in BESIDE):
        used = requests[column].sum() if dtype == pl.Boolean() else requests[column].count()
        assert used > 0, column


def test_a_load_out_of_reach_says_what_is_in_reach(data_dir: Path, world: World) -> None:
    with pytest.raises(InvalidInput, match=r"10 requests of 1 to 1,024 GPUs"):
        real_requests(data_dir, world.fleet, 10, seed=5, load=0.9)


def test_traces_have_the_rows_their_publishers_say(data_dir: Path) -> None:
    assert itp_arrivals(data_dir).count == 63_944
    assert philly_arrivals(data_dir).count == 82_247
    assert skyplane_rtt(data_dir).height == 69 * 68 // 2


def test_more_requests_than_a_trace_has_repeat_it(data_dir: Path, world: World) -> None:
    requests = real_requests(data_dir, world.fleet, 90_000, seed=5, load=None)
    assert requests["submitted_at_us"].is_sorted()
    assert requests.height == 90_000


def test_latitude_and_longitude_are_not_swapped(data_dir: Path) -> None:
    """Regions of different clouds in one place lie close together, whatever order their file uses."""
    sites = {row["site_id"]: row for row in cloud_sites(data_dir).iter_rows(named=True)}
    assert len(sites) == 34 + 52 + 41
    for one, other in (
        ("aws:eu-central-1", "azure:germanywestcentral"),
        ("azure:japaneast", "gcp:asia-northeast1"),
        ("azure:spaincentral", "gcp:europe-southwest1"),
        ("azure:southafricanorth", "gcp:africa-south1"),
        ("azure:brazilsouth", "gcp:southamerica-east1"),
    ):
        a, b = sites[one], sites[other]
        assert a["country"] == b["country"]
        ends = [np.array([place[axis]]) for place in (a, b) for axis in ("latitude", "longitude")]
        km = great_circle_km(ends[0], ends[1], ends[2], ends[3])
        assert km[0] < 100, (one, other)


def test_no_cloud_region_is_disproved_by_its_pings(data_dir: Path) -> None:
    sites, measured = cloud_sites(data_dir), skyplane_rtt(data_dir)
    assert possible(measured, sites).height == measured.height


def test_misplaced_cities_are_left_out(data_dir: Path) -> None:
    cities = city_pings(data_dir)
    kept = set(cities.sites["site_id"])
    assert len(kept) == 224
    assert not {"city:cromwell", "city:maidstone", "city:monticello", "city:toledo"} & kept
    assert {"city:ho-chi-minh-city", "city:sao-paulo", "city:new-york"} <= kept
    assert set(cities.rtt["site_a"]) | set(cities.rtt["site_b"]) <= kept


def test_nothing_in_the_rtt_table_outruns_light(data_dir: Path, world: World) -> None:
    every = pl.concat([cloud_sites(data_dir), city_pings(data_dir).sites])
    at = {row[0]: row[2:] for row in every.iter_rows()}
    ends = np.array([(*at[a], *at[b]) for a, b in world.rtt.select("site_a", "site_b").iter_rows()])
    assert (world.rtt["rtt_ms"].to_numpy() >= least_rtt_ms(great_circle_km(*ends.T))).all()


def test_the_larger_direction_counts() -> None:
    measured = pl.DataFrame({"a": ["x", "y", "x", "z"], "b": ["y", "x", "x", "x"], "ms": [1.0, 2.0, 9.0, 3.0]})
    assert larger_direction(measured).rows() == [("x", "y", 2.0), ("x", "z", 3.0)]
