"""Microsoft's ITP job traces of 2021, the eight clusters at hand: 63,944 jobs from 2021-03-04 on.

Source: microsoft/elasticflow-traces @ 277ed24, MIT. Sizes are 1 to 64 GPUs, powers of two. The trace names no
GPU model, no region and no price.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from engine.datasets.arrivals import MICROSECONDS, Arrivals, in_time_order
from engine.datasets.sources import read_parquet, require

FOLDER = "msr_itp_2021"
CLUSTERS = ("01", "02", "04", "05", "07", "08", "09", "10")
_COLUMNS = {"submission_time": pl.Int64(), "duration": pl.Int64(), "num_gpu": pl.Int64()}


def itp_arrivals(data_dir: Path) -> Arrivals:
    """The jobs of all clusters merged by time; times count from the start of the trace."""
    jobs = pl.concat(_cluster(data_dir / FOLDER / f"cluster{name}.parquet") for name in CLUSTERS)
    return in_time_order(
        jobs["submission_time"].to_numpy() * MICROSECONDS, jobs["duration"].to_numpy(), jobs["num_gpu"].to_numpy()
    )


def _cluster(path: Path) -> pl.DataFrame:
    jobs = read_parquet(path, dict(_COLUMNS))
    require(jobs, path, "submission_time", pl.col("submission_time") >= 0, "is not a time of the trace")
    for column in ("duration", "num_gpu"):
        require(jobs, path, column, pl.col(column) > 0, "is not positive")
    return jobs
