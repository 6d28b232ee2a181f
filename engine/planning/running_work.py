"""What runs now, as the solver takes it: rows in codes, whose work is displaced, and what must stay served."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.planning.inputs import Inputs
from solvers.planning.problem import Running

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RunningWork:
    """`row` (rows,): where each row of `rows` stands in the placements. `displaced`, `must_serve` (requests,).

    `capacity` (nodes,): GPUs that a plan may give away. Displaced: has a row on a node that is not READY.
    """

    rows: Running
    row: Int
    displaced: Flags
    must_serve: Flags
    capacity: Int


def encode_running(inputs: Inputs, ready: Flags) -> RunningWork:
    """Decide rules 2 and 3 of docs/planning.md. `ready` (nodes,): whether a node takes work."""
    requests, fleet = inputs.requests.height, inputs.fleet
    frame = _coded(inputs)
    request, node, gpus = (frame[column].to_numpy().astype(np.int64) for column in ("request", "node", "gpus"))
    stays = ready[node]
    pinned = stays & ~frame["movable"].to_numpy().astype(bool)
    interruptible = inputs.requests["interruptible"].fill_null(False).to_numpy().astype(bool)
    displaced = _flags(request[~stays], requests)
    may_stop = interruptible & ~_flags(request[pinned], requests)
    movable_gpus = np.bincount(node[~pinned], weights=gpus[~pinned], minlength=fleet.height).astype(np.int64)
    free = fleet["gpu_free"].to_numpy().astype(np.int64)
    return RunningWork(
        rows=Running(request=request, node=node, gpus=gpus, pinned=pinned),
        row=frame["row"].to_numpy().astype(np.int64),
        displaced=displaced,
        must_serve=_flags(request, requests) & ~displaced & ~may_stop,
        capacity=np.where(ready, free + movable_gpus, 0),
    )


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
