"""What the large clouds list for a GPU-hour, on demand: the price a tenant of the demo would else pay.

FACT: Full Stack Deep Learning cloud GPU table (the-full-stack/website @ 2bddc6d, MIT), docs/cloud-gpus/
cloud-gpus.csv, last changed 2025-03-07. Of AWS, Azure, Google Cloud and Oracle Cloud it lists the H100 for
Oracle only. Clouds have cut prices since; the table is the newest open one that names a large cloud.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListPrice:
    """One line of a cloud's price list."""

    cloud: str
    micro_usd_per_gpu_hour: int
    source: str


H100_LIST_PRICE = ListPrice(
    cloud="Oracle Cloud",
    micro_usd_per_gpu_hour=10_000_000,
    source="BM.GPU.H100.8, Full Stack Deep Learning table, 2025-03",
)
REFERENCE_SOURCE = "median firm offer of 21 providers, tardellirs/gpu-pricing, 2026-05"
"""Of `engine.datasets.reference_prices`."""
