"""Nobody is refused who fits, for less than its value, on what the plan leaves free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from engine.planning.certificate_bound import ASK, least_costs, worth
from engine.planning.certificate_distances import RoundTrips
from engine.planning.certificate_faults import Fault, FaultCode
from engine.planning.certificate_ledger import Ledger
from engine.planning.certificate_moves import given_of_capacity
from engine.planning.plan_files_schema import RefusalReason


def overlooked(ledger: Ledger, trips: RoundTrips, refused: pl.DataFrame) -> Iterator[Fault]:
    """Requests refused as scarce that would fit on what is left at the asks; `refused` as from `judged_by_cost`.

    Judged are those of whole GPUs that do not run and limit neither RTT, CPU nor memory: of them the least cost is
    exact.
    """
    fleet = ledger.fleet.join(
        given_of_capacity(ledger).select("node_id", "given"), on="node_id", how="left", maintain_order="left"
    ).with_columns(capacity=(pl.col("capacity") - pl.col("given").fill_null(0)).clip(lower_bound=0))
    limited = (pl.col(name).fill_null(0) > 0 for name in ("part_milli", "cpu_milli", "memory_mib"))
    exact = ~pl.col("running") & pl.col("max_cluster_rtt_ms").is_null() & ~pl.any_horizontal(*limited)
    judged = refused.filter((pl.col("reason") == RefusalReason.SCARCE_CAPACITY) & exact)
    left = least_costs(replace(ledger, fleet=fleet), trips, judged, ASK)
    for request in judged.iter_rows(named=True):
        cost = left[request["request_id"]]
        if cost < worth(request):
            told = f"{request['request_id']}, worth {worth(request)} an hour, fits for {cost:.0f} on what is left"
            yield Fault(FaultCode.WRONG_REASON, f"{told}: not {RefusalReason.SCARCE_CAPACITY}")
