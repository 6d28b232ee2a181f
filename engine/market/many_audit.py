"""The audit of leases that begin together: the rules of `engine.market.audit` for all of them at once.

It reads the event as it will be recorded and the inventory's own columns; like that audit it shares no code with
the solver. That leases in turn fit is one sum: what all of them take of a node is there before the first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.domain.tiers import NodeState
from engine.market.audit import node_faults
from engine.market.audit_prices import price_faults_of_many
from engine.market.events import LeasesStarted
from engine.market.many_leases import column
from engine.market.state import MarketState

Int = NDArray[np.int64]
Rules = Iterator[tuple[bool, str]]


def faults_of_many(state: MarketState, event: LeasesStarted) -> list[str]:
    """Every rule that any of the placements breaks, in words; empty if all are sound."""
    inventory, request = state.inventory, event.request
    counts, nodes, gpus = (column(each) for each in (event.node_counts, event.nodes, event.gpus))
    if counts.size != event.count or counts.min() < 1 or counts.sum() != nodes.size or gpus.size != nodes.size:
        return ["has columns that do not belong together"]
    if nodes.min() < 0 or nodes.max() >= inventory.node_ids.size:
        return ["names a node that does not exist"]
    seen, begins = inventory.glance(nodes), counts.cumsum() - counts
    size = np.array([gpus for gpus, _ in event.sizes])[column(event.size_of)]
    rules = [
        *_gangs(event, begins, seen.rank, seen.model, gpus, size),
        *_fits(nodes, gpus, seen.unused, seen.state),
        *_sums(event, begins, gpus, size),
    ]
    faults = [fault for holds, fault in rules if not holds]
    faults += node_faults(inventory, request, nodes, seen)
    prices, totals = (
        column(each, "<i8") for each in (event.prices_micro_usd_per_gpu_hour, event.totals_micro_usd)
    )
    return faults + price_faults_of_many(inventory, request, int(size.max()), seen, begins, gpus, prices, totals)


def _gangs(event: LeasesStarted, begins: Int, rank: Int, model: Int, gpus: Int, size: Int) -> Rules:
    within = np.ones(rank.size, dtype=bool)
    within[begins] = False
    in_order = rank[1:] > rank[:-1]
    yield bool(in_order[within[1:]].all()), "names a node twice, or nodes out of the order of their ids"
    yield bool((np.add.reduceat(gpus, begins) == size).all()), "does not place the whole gang"
    yield int(gpus.min()) > 0, "takes no GPU from a node"
    yield not (gpus % event.request.gpus_per_node).any(), "splits a replica between nodes"
    one = bool((np.maximum.reduceat(model, begins) == np.minimum.reduceat(model, begins)).all())
    yield one or event.request.allow_mixed_models, "mixes GPU models"


def _fits(nodes: Int, gpus: Int, unused: Int, state: Int) -> Rules:
    order = np.argsort(nodes, kind="stable")
    first = np.flatnonzero(np.append(True, np.diff(nodes[order]) != 0))
    taken = np.add.reduceat(gpus[order], first)
    yield bool((taken <= unused[order][first]).all()), "takes more GPUs than are free"
    yield bool((state == int(NodeState.READY)).all()), "uses a node that is not READY"


def _sums(event: LeasesStarted, begins: Int, gpus: Int, size: Int) -> Rules:
    rates, totals = (column(each, "<i8") for each in (event.rates_micro_usd_per_hour, event.totals_micro_usd))
    prices, duration_s = column(event.prices_micro_usd_per_gpu_hour, "<i8"), event.request.priced_duration_s
    yield (
        bool((np.add.reduceat(gpus * prices, begins) == rates).all()),
        "has a rate that is not the sum of its parts",
    )
    lines, line_counts = column(event.lines, "<i8").reshape(-1, 8), column(event.line_counts)
    counted = line_counts.size == size.size and line_counts.min() > 0 and line_counts.sum() == lines.shape[0]
    yield counted, "has columns that do not belong together"
    if not counted:
        return
    itemised = np.add.reduceat(lines[:, 7], line_counts.cumsum() - line_counts)
    yield bool((itemised == totals).all()), "has lines that miss the total"
    lease = np.repeat(np.arange(size.size), line_counts)
    yield _covers(lines, lease, size), "has lines that miss GPUs"
    many_bands = bool((lines[:, 3] > 0).any())
    cap = event.request.max_price_micro_usd_per_gpu_hour
    kept = capped = True
    for count, rate, total in zip(size.tolist(), rates.tolist(), totals.tolist(), strict=True):
        rounding = 3_600 + count * duration_s if many_bands else 3_600
        kept = kept and abs(total * 3_600 - rate * duration_s) * 2 <= rounding
        if cap is not None:
            most, averaged = 2 * cap * count, count if many_bands else 0
            capped = capped and total * 7_200 <= most * duration_s + 3_600 and 2 * rate <= most + averaged
    yield kept, "has a total that is not its rate times its duration"
    yield capped, "is above the price cap"


def _covers(lines: Int, lease: Int, size: Int) -> bool:
    """Whether the lines of hours name all GPUs in every band of every lease."""
    of_hours = lines[:, 2] == 0
    bands, band = np.unique(lines[of_hours, 3], return_inverse=True)
    named = np.zeros((size.size, bands.size), dtype=np.int64)
    np.add.at(named, (lease[of_hours], band), lines[of_hours, 5])
    return bool((named == size[:, None]).all())
