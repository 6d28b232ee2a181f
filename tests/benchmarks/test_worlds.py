from __future__ import annotations

import polars as pl

from benchmarks.worlds import requests_for


def fleet(**free: int) -> pl.DataFrame:
    return pl.DataFrame({"state": "READY", "gpu_model": list(free), "gpu_free": list(free.values())}).vstack(
        pl.DataFrame({"state": ["DOWN"], "gpu_model": ["H100"], "gpu_free": [1_000]})
    )


def test_plentiful_models_are_asked_one_by_one_most_first() -> None:
    found = requests_for(fleet(H100=100, B200=200, T4=10), 20, {})
    assert [request.gpu_models for request in found] == [("B200",), ("H100",)]
    assert not any(request.allow_mixed_models for request in found)


def test_scarce_models_are_mixed() -> None:
    [found] = requests_for(fleet(H100=100, B200=90, T4=10), 120, {"gpus_per_node": 8})
    assert found.allow_mixed_models
    assert found.gpu_models == ("B200", "H100")
    assert found.gpus_per_node == 8


def test_what_no_fleet_holds_is_not_asked() -> None:
    assert requests_for(fleet(H100=100), 100, {}) == []
