from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.instances import (
    LOADS,
    NODES,
    REAL_MIX,
    REQUESTS,
    Instance,
    bound_gangs,
    changed,
    mix,
    real,
    standard,
    write,
)
from engine.datasets.reference_prices import reference_price_micro_usd
from engine.domain.request_table import BESIDE
from engine.domain.tables import REQUESTS_SCHEMA
from engine.domain.tiers import SecurityTier
from engine.planning.inputs import read_inputs

NAMED = Path(os.environ.get("WALRAS_DATA") or "unset")
PRICE = "max_price_micro_usd_per_gpu_hour"


@pytest.fixture(scope="module", params=LOADS)
def loaded(request: pytest.FixtureRequest) -> tuple[float, Instance]:
    return request.param, standard(request.param)


@pytest.fixture(scope="module")
def small() -> Instance:
    return standard(0.9, requests=200, nodes=2_000)


def test_the_fleet_is_a_data_centres(loaded: tuple[float, Instance]) -> None:
    fleet = loaded[1].fleet
    assert fleet.height == NODES == fleet["node_id"].n_unique()
    assert 950_000 <= fleet["gpu_count"].sum() <= 1_000_000
    assert (fleet["gpu_count"] == 8).mean() >= 0.95  # type: ignore[operator]


def test_the_queue_asks_for_its_load(loaded: tuple[float, Instance]) -> None:
    load, instance = loaded
    free = instance.fleet.filter(pl.col("state") == "READY")["gpu_free"].sum()
    assert instance.requests.height == REQUESTS
    assert instance.requests["gpu_count"].sum() / free == pytest.approx(load, rel=0.001)
    assert instance.requests["gpu_count"].max() == 1_024


def test_no_column_is_constrained_less_than_in_the_real_queue(loaded: tuple[float, Instance]) -> None:
    reached = mix(loaded[1].requests)
    assert [column for column in REAL_MIX if reached[column] < REAL_MIX[column]] == []


def test_every_column_says_something(loaded: tuple[float, Instance]) -> None:
    requests = loaded[1].requests
    silent = [column for column in REQUESTS_SCHEMA if requests[column].n_unique() < 2]
    assert silent == list(BESIDE), "what the joint plan knows"


def test_a_third_of_the_gangs_is_bound_to_one_site_or_fabric(loaded: tuple[float, Instance]) -> None:
    assert bound_gangs(loaded[1].requests) >= 0.30


def test_bids_lie_about_the_reference_price(loaded: tuple[float, Instance]) -> None:
    named = loaded[1].requests.filter(pl.col("gpu_models").is_not_null())
    tiers = named["min_security_tier"].fill_null("VERIFIED")
    models = named["gpu_models"].list.first()
    reference = [reference_price_micro_usd(m, SecurityTier[t]) for m, t in zip(models, tiers, strict=True)]
    logs = np.log(named[PRICE].to_numpy() / np.array(reference, dtype=np.float64))
    assert logs.mean() == pytest.approx(0.0, abs=0.03)
    assert logs.std() == pytest.approx(0.5, abs=0.02)


@pytest.mark.skipif(not NAMED.is_dir(), reason="WALRAS_DATA names no directory: the public data is not at hand")
def test_the_real_mix_is_what_the_real_queue_has() -> None:
    queues = {load: real(load, NAMED).requests for load in LOADS}
    reached = [mix(queue) for queue in queues.values()]
    assert {column: max(shares[column] for shares in reached) for column in REAL_MIX} == pytest.approx(REAL_MIX)
    assert bound_gangs(queues[0.9]) >= 0.30


def test_same_arguments_same_frames(small: Instance) -> None:
    again = standard(0.9, requests=200, nodes=2_000)
    for name in ("fleet", "rtt", "requests"):
        assert getattr(small, name).equals(getattr(again, name))


def test_one_per_cent_changes(small: Instance) -> None:
    after = changed(small, 0.01)
    assert 0 < (after.fleet["gpu_free"] != small.fleet["gpu_free"]).sum() <= 20
    assert after.fleet.drop("gpu_free").equals(small.fleet.drop("gpu_free"))
    assert (after.requests["request_id"] != small.requests["request_id"]).sum() == 2
    assert after.requests["request_id"].n_unique() == 200
    assert changed(small, 0.01).requests.equals(after.requests)


def test_what_is_written_is_accepted(small: Instance, tmp_path: Path) -> None:
    for instance, place in ((small, "now"), (changed(small, 0.1), "later")):
        inputs = read_inputs(write(instance, tmp_path / place))
        assert inputs.fleet.height == 2_000
        assert inputs.requests.equals(instance.requests)
