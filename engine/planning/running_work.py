"""What runs now, as the solver takes it: rows in codes, whose work is displaced, and what must stay served."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.planning.inputs import Inputs
from solvers.planning.problem import MILLI, NO_CARD, UNSHARED, Needs, Running, Spare
from solvers.spare import NOT_LIMITED

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RunningWork:
    """`row` (rows,): where each row of `rows` stands in the placements. `displaced`, `must_serve` (requests,).

    `capacity` (nodes,): GPUs that a plan may give away. Displaced: has a row on a node that is not READY.
    `spare`: None without `needs`.
    """

    rows: Running
    row: Int
    displaced: Flags
    must_serve: Flags
    capacity: Int
    spare: Spare | None


def encode_running(inputs: Inputs, ready: Flags, needs: Needs | None, replica: Int) -> RunningWork:
    """Decide rules 2 and 3 of docs/planning.md. `ready` (nodes,): whether a node takes work.

    `needs`, `replica` (requests,): what replicas need, and their GPUs.
    """
    requests, fleet = inputs.requests.height, inputs.fleet
    frame = _coded(inputs)
    request, node, gpus = (frame[column].to_numpy().astype(np.int64) for column in ("request", "node", "gpus"))
    stays = ready[node]
    pinned = stays & ~frame["movable"].to_numpy().astype(bool)
    interruptible = inputs.requests["interruptible"].fill_null(False).to_numpy().astype(bool)
    displaced = _flags(request[~stays], requests)
    may_stop = interruptible & ~_flags(request[pinned], requests)
    free = fleet["gpu_free"].to_numpy().astype(np.int64)
    rows = Running(request=request, node=node, gpus=gpus, pinned=pinned)
    movable_gpus = np.bincount(node[~pinned], weights=gpus[~pinned], minlength=fleet.height).astype(np.int64)
    spare = None
    if needs is not None:
        rows = replace(rows, card=frame["card"].fill_null(NO_CARD).to_numpy().astype(np.int64))
        shared = Shared(rows, needs, fleet["gpu_count"].to_numpy().astype(np.int64))
        movable_gpus, spare = shared.movable_gpus(), shared.spare(fleet, ready, replica)
    return RunningWork(
        rows=rows,
        row=frame["row"].to_numpy().astype(np.int64),
        displaced=displaced,
        must_serve=_flags(request, requests) & ~displaced & ~may_stop,
        capacity=np.where(ready, free + movable_gpus, 0),
        spare=spare,
    )


class Shared:
    """What running work uses beside whole GPUs of its own: cards that parts share, CPU and memory."""

    def __init__(self, rows: Running, needs: Needs, gpu_count: Int) -> None:
        self._rows, self._needs = rows, needs
        self._milli = needs.gpu_milli[rows.request]
        shape = gpu_count.size, int(gpu_count.max(initial=1))
        self._pinned, self._movable = np.zeros((2, *shape), dtype=np.int64)
        for taken, on in ((self._pinned, rows.pinned), (self._movable, ~rows.pinned)):
            part = np.flatnonzero(on & (self._milli > 0))
            if rows.card is not None:
                np.add.at(taken, (rows.node[part], rows.card[part]), self._milli[part])

    def movable_gpus(self) -> Int:
        """GPUs of movable rows (nodes,): whole ones, and cards on which none but movable parts stand."""
        rows = self._rows
        whole = ~rows.pinned & (self._milli == 0)
        gpus: Int = ((self._movable > 0) & (self._pinned == 0)).sum(axis=1)
        np.add.at(gpus, rows.node[whole], rows.gpus[whole])
        return gpus

    def spare(self, fleet: pl.DataFrame, ready: Flags, replica: Int) -> Spare:
        """What a plan may give of CPU and memory, and of cards with pinned parts. `replica` (requests,): GPUs."""
        node, request = self._rows.node[self._rows.pinned], self._rows.request[self._rows.pinned]
        replicas = self._rows.gpus[self._rows.pinned] // replica[request]
        left = []
        for column, need in (("cpu_milli", self._needs.cpu_milli), ("memory_mib", self._needs.memory_mib)):
            there = fleet[column].fill_null(NOT_LIMITED).to_numpy().astype(np.int64)
            np.subtract.at(there, node, replicas * need[request])
            left.append(there)
        cards = np.where(self._pinned > 0, MILLI - self._pinned, UNSHARED)
        cards[~ready] = UNSHARED
        cards[np.arange(cards.shape[1]) >= fleet["gpu_count"].to_numpy()[:, None]] = 0
        return Spare(left[0], left[1], cards)


def _coded(inputs: Inputs) -> pl.DataFrame:
    """The placements with numbers of requests, nodes and rows, sorted by request then node."""
    requests = inputs.requests.select("request_id").with_row_index("request")
    nodes = inputs.fleet.select("node_id").with_row_index("node")
    joined = inputs.placements.with_row_index("row").join(requests, on="request_id").join(nodes, on="node_id")
    return joined.sort("request", "node")


def _flags(numbers: Int, size: int) -> Flags:
    flags = np.zeros(size, dtype=bool)
    flags[numbers] = True
    return flags
