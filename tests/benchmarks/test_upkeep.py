"""The benchmark of orders and failures runs, small, and judges no time."""

from __future__ import annotations

from pathlib import Path

from benchmarks.upkeep import Bench


def test_it_runs(tmp_path: Path) -> None:
    """Every family gives figures, and they are of this run."""
    bench = Bench(tmp_path, 2_000, 60)
    bench.deploy_all()
    placed, freed, prices = bench.place_all(), bench.free_one_by_one(), bench.move_prices()
    lost, beats = bench.lose(), bench.beat()
    bench.engine.close()
    assert placed["open"] + freed["filled"] <= 60 and prices["order_bids"] <= 60
    assert lost["nodes"] > 0 and lost["moved"] + lost["ended"] > 0
    assert set(beats) == {"call_ms", "tick_ms"}
