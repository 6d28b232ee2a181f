"""The audit of leases that begin together: the rules of `engine.market.audit` for all of them at once.

It reads the event as it will be recorded and the inventory's own columns; like that audit it shares no code with
the solver. That leases in turn fit is one sum: what all of them take of a node is there before the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.tiers import NodeState
from engine.market.audit import node_faults
from engine.market.audit_prices import price_faults_of_many
from engine.market.events import LeasesStarted
from engine.market.fleet_columns import Glance
from engine.market.many_groups import Groups
from engine.market.many_leases import column, kinds_of
from engine.market.state import MarketState

Int = NDArray[np.int64]
Rules = Iterator[tuple[bool, str]]


class _Leases(NamedTuple):
    """Leases of one shape in the columns of the event: `begins`, `size`, rates, totals and `line_counts`
    (leases,); the next four (nodes,)."""

    request: ClusterRequest
    begins: Int
    size: Int
    rates: Int
    totals: Int
    line_counts: Int
    seen: Glance
    nodes: Int
    gpus: Int
    prices: Int
    lines: Int


def faults_of_many(state: MarketState, event: LeasesStarted) -> list[str]:
    """Every rule that any of the placements breaks, in words; empty if all are sound."""
    inventory = state.inventory
    counts, nodes, gpus, line_counts = (
        column(each) for each in (event.node_counts, event.nodes, event.gpus, event.line_counts)
    )
    if counts.size != event.count or counts.min() < 1 or counts.sum() != nodes.size or gpus.size != nodes.size:
        return ["has columns that do not belong together"]
    lines = column(event.lines, "<i8").reshape(-1, 8)
    if line_counts.size != event.count or line_counts.min() < 1 or line_counts.sum() != lines.shape[0]:
        return ["has columns that do not belong together"]
    if nodes.min() < 0 or nodes.max() >= inventory.node_ids.size:
        return ["names a node that does not exist"]
    seen = inventory.glance(nodes)
    faults = [fault for holds, fault in _fits(nodes, gpus, seen.unused, seen.state) if not holds]
    for part in _parts(event, seen, counts, nodes, gpus, line_counts, lines):
        rules = *_gangs(part), *_sums(part)
        faults += [fault for holds, fault in rules if not holds]
        faults += node_faults(inventory, part.request, part.nodes, part.seen)
        faults += price_faults_of_many(
            inventory,
            part.request,
            int(part.size.max()),
            part.seen,
            part.begins,
            part.gpus,
            part.prices,
            part.totals,
        )
    return faults


def _parts(
    event: LeasesStarted,
    seen: Glance,
    counts: Int,
    nodes: Int,
    gpus: Int,
    line_counts: Int,
    lines: Int,
) -> Iterator[_Leases]:
    """The leases of each shape."""
    groups = Groups([kind.request for kind in kinds_of(event)], column(event.size_of))
    rates, totals = (column(each, "<i8") for each in (event.rates_micro_usd_per_hour, event.totals_micro_usd))
    prices = column(event.prices_micro_usd_per_gpu_hour, "<i8")
    size = np.array([gpus for gpus, _ in event.sizes])[groups.size_of]
    line_rows = groups.each(line_counts)
    for (request, own, rows), (_, _, of_lines) in zip(groups.each(counts), line_rows, strict=True):
        begins = counts[own].cumsum() - counts[own]
        of_lease = size[own], rates[own], totals[own], line_counts[own]
        own_seen = Glance._make((*(each[rows] for each in seen[:-1]), None))
        yield _Leases(request, begins, *of_lease, own_seen, nodes[rows], gpus[rows], prices[rows], lines[of_lines])


def _gangs(part: _Leases) -> Rules:
    rank, model, gpus, begins = part.seen.rank, part.seen.model, part.gpus, part.begins
    within = np.ones(rank.size, dtype=bool)
    within[begins] = False
    in_order = rank[1:] > rank[:-1]
    yield bool(in_order[within[1:]].all()), "names a node twice, or nodes out of the order of their ids"
    yield bool((np.add.reduceat(gpus, begins) == part.size).all()), "does not place the whole gang"
    yield int(gpus.min()) > 0, "takes no GPU from a node"
    yield not (gpus % part.request.gpus_per_node).any(), "splits a replica between nodes"
    one = bool((np.maximum.reduceat(model, begins) == np.minimum.reduceat(model, begins)).all())
    yield one or part.request.allow_mixed_models, "mixes GPU models"


def _fits(nodes: Int, gpus: Int, unused: Int, state: Int) -> Rules:
    order = np.argsort(nodes, kind="stable")
    first = np.flatnonzero(np.append(True, np.diff(nodes[order]) != 0))
    taken = np.add.reduceat(gpus[order], first)
    yield bool((taken <= unused[order][first]).all()), "takes more GPUs than are free"
    yield bool((state == int(NodeState.READY)).all()), "uses a node that is not READY"


def _sums(part: _Leases) -> Rules:
    lines, line_counts, rates, totals = part.lines, part.line_counts, part.rates, part.totals
    yield (
        bool((np.add.reduceat(part.gpus * part.prices, part.begins) == rates).all()),
        "has a rate that is not the sum of its parts",
    )
    itemised = np.add.reduceat(lines[:, 7], line_counts.cumsum() - line_counts)
    yield bool((itemised == totals).all()), "has lines that miss the total"
    lease = np.repeat(np.arange(part.size.size), line_counts)
    yield _covers(lines, lease, part.size), "has lines that miss GPUs"
    many_bands = bool((lines[:, 3] > 0).any())
    cap, duration_s = part.request.max_price_micro_usd_per_gpu_hour, part.request.priced_duration_s
    kept = capped = True
    for count, rate, total in zip(part.size.tolist(), rates.tolist(), totals.tolist(), strict=True):
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
