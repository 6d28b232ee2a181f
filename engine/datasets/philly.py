"""Microsoft's Philly jobs, 2017-09-04 to 12-22: 82,247 jobs, gangs of 1 to 128 GPUs.

Source: msr-fiddle/philly-traces (CC-BY-4.0; Jeon et al., ATC'19), as filtered by gudiandian/ElasticFlow
@ b3f5ea4 (Apache-2.0). Times are wall-clock times without a zone; read as UTC.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from engine.datasets.arrivals import Arrivals, in_time_order
from engine.datasets.sources import read_parquet, reject, require

JOBS_FILE = "philly_2017/philly_jobs.parquet"


def philly_arrivals(data_dir: Path) -> Arrivals:
    """The jobs of all virtual clusters by time; durations of part seconds are rounded up."""
    path = data_dir / JOBS_FILE
    jobs = read_parquet(path, {"timestamp": pl.String(), "duration": pl.Float64(), "num_gpus": pl.Int64()})
    for column in ("duration", "num_gpus"):
        require(jobs, path, column, pl.col(column) > 0, "is not positive")
    time = jobs["timestamp"].str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    reject(time.is_null(), jobs["timestamp"], path, "timestamp", "is not a time like 2017-10-09 07:01:55")
    duration_s = np.ceil(jobs["duration"].to_numpy()).astype(np.int64)
    return in_time_order(time.to_physical().to_numpy(), duration_s, jobs["num_gpus"].to_numpy())
