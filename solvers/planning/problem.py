"""The joint problem as arrays: a fleet, the gangs that want it, and what runs now.

Maximise the welfare rate  W = Σ served_i·n_i·value_i − Σ x_ij·ask_j − move_cost·(GPUs moved)  subject to the
capacity of every node and to everything a gang asks for (DESIGN, section 2). All money is integer micro-USD per
GPU-hour; codes are indices into the caller's vocabularies. A part of a GPU pays and is worth its share, rounded
up.
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
MILLI = 1_000
"""Thousandths of a GPU."""
UNSHARED = -1
"""Cell of a card that no part stands on."""
NO_CARD = -1


@dataclass(frozen=True, slots=True)
class Needs:
    """What gangs ask for beside whole GPUs, columns of shape (gangs,), 0 where they do not.

    `cpu_milli`, `memory_mib`: of each replica, on its node. `gpu_milli`: the thousandths of one card that a *part*
    wants, instead of its one GPU.
    """

    cpu_milli: Int
    memory_mib: Int
    gpu_milli: Int


@dataclass(frozen=True, slots=True)
class Spare:
    """What a plan may give of each node beside whole GPUs: `cpu_milli`, `memory_mib` (nodes,).

    `left` (nodes, cards): thousandths of a card on which an immovable part stands, 0 of those that a node has
    not, `UNSHARED` of all others. A card on which none but movable parts stand is a GPU of `Problem.capacity`.
    """

    cpu_milli: Int
    memory_mib: Int
    left: Int


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
    needs: Needs | None = None
    """None: nobody asks for more than whole GPUs."""

    @property
    def gpus(self) -> Int:
        """GPUs of each gang; 1 of a part."""
        return self.replicas * self.gpus_per_replica

    def money(self, gang: Int, gpus: Int, price: Int) -> Int:
        """What GPUs of some gangs come to at a price per GPU-hour each; of a part its share, rounded up."""
        amount: Int = gpus * price
        if self.needs is not None:
            milli = self.needs.gpu_milli[gang]
            amount = np.where(milli > 0, (gpus > 0) * -(-price * milli // MILLI), amount)
        return amount

    def size(self, gang: Int) -> Int | Float:
        """GPUs of a replica of some gangs, of a part the fraction that it is."""
        size = self.gpus_per_replica[gang]
        if self.needs is None:
            return size
        milli = self.needs.gpu_milli[gang]
        return np.where(milli > 0, milli / MILLI, size)

    def is_part(self, gang: Int) -> Flags:
        """Which of some gangs are parts."""
        return np.zeros(gang.size, bool) if self.needs is None else self.needs.gpu_milli[gang] > 0


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
    card: Int | None = None
    """Of a part the card that it stands on, else `NO_CARD`; None: there are no parts."""


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
    spare: Spare | None = None
    """None if no gang has `needs`."""

    @property
    def live(self) -> Flags:
        """Nodes that a plan may give anything of, (nodes,)."""
        live: Flags = self.capacity > 0
        return live if self.spare is None else live | (self.spare.left > 0).any(axis=1)

    @property
    def milli(self) -> int:
        """How many units a GPU has where GPUs are counted: 1, or thousandths if there are parts."""
        needs = self.gangs.needs
        return MILLI if needs is not None and needs.gpu_milli.any() else 1

    def wanted(self) -> Int:
        """What each gang wants, in units of `milli`, (gangs,)."""
        gangs, needs = self.gangs, self.gangs.needs
        wanted = gangs.gpus * self.milli
        if needs is not None:
            wanted = np.where(needs.gpu_milli > 0, needs.gpu_milli * gangs.replicas, wanted)
        return wanted

    def shared_left(self) -> Int:
        """Thousandths that are left on cards with immovable parts, (nodes,)."""
        if self.spare is None:
            return np.zeros(self.capacity.size, dtype=np.int64)
        left: Int = np.maximum(self.spare.left, 0).sum(axis=1)
        return left
