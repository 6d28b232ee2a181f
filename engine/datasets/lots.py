"""Lots: batches of like nodes at one facility, as they are bought; and their expansion to nodes.

A fleet of N GPUs is cut into lots by weight. Whole nodes rarely add up to N: the lots with the largest
fraction of a node left over get one node more until N is reached, and the last node added is trimmed to the
rest, so that the total is exact and one node at most has an odd shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.datasets.draws import FloatArray, IntArray, choose, lognormal
from engine.datasets.facilities import Facilities

LOTS_PER_FACILITY_AT_A_MILLION_GPUS = 16.0
LOT_SIZE_SIGMA = 1.0

DrawKinds = Callable[[np.random.Generator, int], tuple[IntArray, IntArray]]
"""Draws (index into GPU_MODELS, GPUs per node) for a number of lots, in proportion to GPUs."""


@dataclass(frozen=True, slots=True)
class Lots:
    """Columns, one entry a lot, sorted by facility."""

    facility: IntArray
    model: IntArray
    """Index into GPU_MODELS."""
    gpus_per_node: IntArray
    nodes: IntArray
    """Number of nodes, 0 included."""
    trimmed_lot: int
    """The lot whose last node has `trimmed_gpus` fewer."""
    trimmed_gpus: int


def draw_lots(facilities: Facilities, gpus: int, draw_kinds: DrawKinds, rng: np.random.Generator) -> Lots:
    """Cut a fleet of exactly `gpus` GPUs into lots."""
    facility = _facility_of_lots(facilities, gpus, rng)
    model, gpus_per_node = draw_kinds(rng, facility.size)
    size = facilities.weight[facility] / np.bincount(facility, minlength=facilities.count)[facility]
    size = size * lognormal(rng, LOT_SIZE_SIGMA, facility.size)
    nodes, trimmed_lot, trimmed_gpus = _whole_nodes(size, gpus_per_node, gpus)
    return Lots(facility, model, gpus_per_node, nodes, trimmed_lot, trimmed_gpus)


def _facility_of_lots(facilities: Facilities, gpus: int, rng: np.random.Generator) -> IntArray:
    per_facility = max(LOTS_PER_FACILITY_AT_A_MILLION_GPUS * (gpus / 1_000_000) ** 0.5, 1.0)
    more = choose(rng, facilities.weight**0.5, round(facilities.count * (per_facility - 1.0)))
    return np.sort(np.concatenate([np.arange(facilities.count, dtype=np.int64), more]))


def _whole_nodes(size: FloatArray, gpus_per_node: IntArray, gpus: int) -> tuple[IntArray, int, int]:
    wanted_nodes = size / size.sum() * gpus / gpus_per_node
    nodes = np.floor(wanted_nodes).astype(np.int64)
    missing = gpus - int((nodes * gpus_per_node).sum())
    first = np.argsort(-(wanted_nodes - nodes), kind="stable")
    reached = np.cumsum(gpus_per_node[first])
    added = int(np.searchsorted(reached, missing, side="left")) + 1 if missing > 0 else 0
    if added == 0:
        return nodes, 0, 0
    nodes[first[:added]] += 1
    return nodes, int(first[added - 1]), int(reached[added - 1]) - missing


def lot_of_nodes(lots: Lots) -> IntArray:
    """The lot of each node, sorted."""
    return np.repeat(np.arange(lots.nodes.size, dtype=np.int64), lots.nodes)


def gpu_counts(lots: Lots, lot_of_node: IntArray) -> IntArray:
    """GPUs of each node; they sum to the fleet."""
    counts = lots.gpus_per_node[lot_of_node]
    if lots.trimmed_gpus:
        counts[int(np.searchsorted(lot_of_node, lots.trimmed_lot, side="right")) - 1] -= lots.trimmed_gpus
    return counts


def position_in_lot(lots: Lots, lot_of_node: IntArray) -> IntArray:
    """0, 1, 2, … within each lot."""
    first = np.cumsum(lots.nodes) - lots.nodes
    return np.arange(lot_of_node.size, dtype=np.int64) - first[lot_of_node]
