"""The joint problem as arrays: a fleet, the gangs that want it, and what runs now.

Maximise the welfare rate  W = Σ served_i·n_i·value_i − Σ x_ij·ask_j − move_cost·(GPUs moved)  subject to the
capacity of every node and to everything a gang asks for (DESIGN, section 2). All money is integer micro-USD per
GPU-hour; codes are indices into the caller's vocabularies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.distances import Distances
from solvers.pools import NodeColumns

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Flags = NDArray[np.bool_]

NO_SHARE = -1
"""`Gangs.max_gpus_per_supplier` of a gang that does not limit its suppliers."""


@dataclass(frozen=True, slots=True)
class Gangs:
    """What is asked for; columns of shape (requests,). A gang is placed whole or not at all.

    `model_set`, `site_set`, `supplier_set` are rows of the problem's sets: location, exclusions and client RTT
    are already decided there. `value_micro_usd` is worth per GPU-hour (for displaced work with its bonus).
    `must_serve`: runs on READY nodes and may move, but not end. `max_cluster_rtt_ms`: inf without a limit
    (tolerance not included).
    """

    replicas: Int
    gpus_per_replica: Int
    value_micro_usd: Int
    model_set: Int
    site_set: Int
    supplier_set: Int
    one_model: Flags
    tier: Int
    certifications: Int
    """Bit mask."""
    connectivity: Int
    interconnect: Int
    one_fabric: Flags
    reliability: Float
    max_gpus_per_supplier: Int
    max_cluster_rtt_ms: Float
    must_serve: Flags

    @property
    def gpus(self) -> Int:
        """GPUs of each gang."""
        return self.replicas * self.gpus_per_replica


@dataclass(frozen=True, slots=True)
class Running:
    """Placements that run now, a row per request and node, sorted by request then node; columns of shape (rows,).

    `pinned`: immovable on a READY node. Pinned GPUs are not part of any capacity; all others on READY nodes are.
    Rows on DRAINING and DOWN nodes are not pinned and their nodes have capacity 0.
    """

    request: Int
    node: Int
    gpus: Int
    pinned: Flags


@dataclass(frozen=True, slots=True)
class Problem:
    """One joint planning problem. `capacity` (nodes,): free GPUs plus those of movable rows if READY, else 0.

    `model_sets` (sets, models), `site_sets` (sets, sites), `supplier_sets` (sets, suppliers): bool.
    A gang with a row on a node that is not READY is displaced: it competes, with its bonus in `value_micro_usd`,
    and every GPU that does not stay on its node costs `move_cost_micro_usd` if the gang is served.
    """

    nodes: NodeColumns
    capacity: Int
    gangs: Gangs
    model_sets: Flags
    site_sets: Flags
    supplier_sets: Flags
    distances: Distances
    running: Running
    move_cost_micro_usd: int
