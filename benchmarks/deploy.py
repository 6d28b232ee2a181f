"""One request size on one fleet: rounds of a floor block, an engine block and a decision block.

The three alternate, so what disturbs the machine for a while disturbs all of them; a round gives one ratio
call / (floor + decision) of its medians. Each round takes the next variant of the request, its floor repeats
that variant's own lease, and everything deployed is released outside the timed part.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from walras.v1 import cluster_service_pb2 as pb

from benchmarks.calls import STAGES, Client
from benchmarks.decisions import decision_block_ns
from benchmarks.registry import Effort, Size
from benchmarks.statistics import p50, p99
from engine.domain.cluster_request import ClusterRequest
from engine.market.state import MarketState

NS_PER_US, NS_PER_MS = 1e3, 1e6
IDLE_S = 0.002
IDLE_DECISIONS = 8
"""Decisions after a pause, in one block: what a decision costs a server that was waiting for the call."""
Results = dict[str, float]


@dataclass(slots=True)
class Samples:
    """What the rounds of one size gave, nanoseconds but for `ratios`, `nodes` and `stages_us`."""

    calls: list[int] = field(default_factory=list)
    floors: list[int] = field(default_factory=list)
    decisions: list[int] = field(default_factory=list)
    idle_decisions: list[int] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    idle_ratios: list[float] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    stages_us: dict[str, list[int]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    def add_round(self, floors: list[int], calls: list[int], decisions: list[int], idle: list[int]) -> None:
        """Take one round. Calls and floors find an idle server; `idle` are decisions that do, too."""
        self.floors += floors
        self.calls += calls
        self.decisions += decisions
        self.idle_decisions += idle
        self.ratios.append(p50(calls) / (p50(floors) + p50(decisions)))
        self.idle_ratios.append(p50(calls) / (p50(floors) + p50(idle)))

    def results(self, size: Size) -> Results:
        """The figures, by the last part of their keys."""
        figures = _percentiles("decision", self.decisions, size.unit)
        figures |= _percentiles("decision_after_idle", self.idle_decisions, size.unit)
        figures |= _percentiles("floor", self.floors, "ms") | _percentiles("call", self.calls, "ms")
        figures["call_over_floor_and_idle_decision_p50"] = p50(self.idle_ratios)
        figures["call_over_floor_p50"] = p50(self.ratios)
        figures["call_over_floor_p99"] = p99(self.ratios)
        figures["call_over_floor_of_p99s"] = p99(self.calls) / (p99(self.floors) + p99(self.decisions))
        figures["nodes"] = p50(self.nodes)
        figures |= {f"server_{stage}_us_p50": p50(values) for stage, values in self.stages_us.items()}
        return figures


def _percentiles(name: str, laps_ns: list[int], unit: str) -> Results:
    scale = NS_PER_US if unit == "us" else NS_PER_MS
    return {f"{name}_{unit}_p50": p50(laps_ns) / scale, f"{name}_{unit}_p99": p99(laps_ns) / scale}


def measure(
    client: Client, state: MarketState, variants: list[ClusterRequest], size: Size, effort: Effort
) -> Samples:
    """All rounds of one size. `state`: the server's fleet in this process, for the decision block."""
    samples = Samples()
    for number in range(effort.rounds):
        request = variants[number % len(variants)]
        _prepare(client, request)
        with _no_collections():
            floors = [client.floor(request)[1] for _ in range(effort.calls(size))]
            calls = _engine_block(client, request, effort.calls(size), samples)
            decisions = decision_block_ns(state, request, size.decisions)
            idle = decision_block_ns(state, request, IDLE_DECISIONS, IDLE_S)
        samples.add_round(floors, calls, decisions, idle)
    return samples


def _prepare(client: Client, request: ClusterRequest) -> None:
    """Let the floor repeat a lease of this request, and prove that it answers the same."""
    lease, _ = client.deploy(request)
    client.remember(lease)
    repeated, _ = client.floor(request)
    client.release(lease)
    lease.ClearField("timings")
    if repeated != lease:
        raise RuntimeError("the floor's reply is not the engine's")


def _engine_block(client: Client, request: ClusterRequest, calls: int, samples: Samples) -> list[int]:
    laps = []
    for _ in range(calls):
        lease, lap = client.deploy(request)
        client.release(lease)
        laps.append(lap)
        _note(lease, samples)
    return laps


def _note(lease: pb.Lease, samples: Samples) -> None:
    samples.nodes.append(len(lease.placement.node_ids))
    for stage in STAGES:
        samples.stages_us[stage].append(getattr(lease.timings, f"{stage}_us"))


@contextmanager
def _no_collections() -> Iterator[None]:
    """No garbage collection of the client's own heap while the clock runs."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
