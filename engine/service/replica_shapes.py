"""What one replica of a request takes of a node: the shapes in which demand buys what is left of nodes.

Which nodes a request may use is told by its models alone here, see `solvers.sharing.worth`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.limits import MILLI_OF_GPU
from engine.market.inventory import Inventory
from solvers.sharing.fleet import Shapes
from solvers.sharing.worth import Wants, Worth, cleared, scale_of, states_of
from solvers.spare import Spare
from solvers.warmup import warm_up_worth

Int = NDArray[np.int64]
SHAPES_MAX = 500
"""Shapes that a clearing looks at, those with the most money."""


class ReplicaShape(NamedTuple):
    """One replica. `gpu_milli`: of each GPU. `models`: names, empty for any."""

    gpus: int
    gpu_milli: int
    cpu_milli: int
    memory_mib: int
    models: tuple[str, ...]

    @property
    def is_plain(self) -> bool:
        """Whether it is whole GPUs and nothing beside them."""
        return self.gpu_milli == MILLI_OF_GPU and not (self.cpu_milli or self.memory_mib)


class Left(NamedTuple):
    """What was left of nodes at one moment. `free` (nodes,): whole GPUs."""

    free: Int
    spare: Spare


def left_of(inventory: Inventory) -> Left:
    """A copy, for another thread."""
    return Left(inventory.free, inventory.spare.copy())


class ShapeMarket:
    """The market for what is left of one fleet, cleared once an epoch. Not safe for two threads at once."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._numbers: dict[ReplicaShape, int] = {}
        self._fill = np.ones(0)
        nodes = inventory.nodes
        self._scale = scale_of(nodes.gpu_count, inventory.cpu_milli, inventory.memory_mib)

    def number(self, request: ClusterRequest) -> int:
        """The number of the shape of a request's replicas."""
        beside = request.gpu_milli or MILLI_OF_GPU, request.cpu_milli or 0, request.memory_mib or 0
        shape = ReplicaShape(request.gpus_per_node, *beside, request.gpu_models)
        return self._numbers.setdefault(shape, len(self._numbers))

    def wants(self, shape: Int, value: Int, gpu_seconds: Int) -> Wants | None:
        """What bids (bids,) come to by shape; None if all are for whole GPUs alone, which need no such market.

        `value`: micro-USD per GPU-hour; `gpu_seconds`: of whole GPUs, a part as its share.
        """
        shapes, count = list(self._numbers), len(self._numbers)
        amount = np.bincount(shape, weights=gpu_seconds, minlength=count)
        if all(each.is_plain for each, wanted in zip(shapes, amount.tolist(), strict=True) if wanted > 0):
            return None
        money = np.bincount(shape, weights=value.astype(np.float64) * gpu_seconds, minlength=count)
        amount[np.argsort(-money, kind="stable")[SHAPES_MAX:]] = 0.0
        gpus, gpu_milli, cpu_milli, memory_mib = np.array([each[:4] for each in shapes], dtype=np.int64).T.copy()
        names = self._inventory.models.names
        accepted = np.array([[not each.models or name in each.models for name in names] for each in shapes])
        share = gpus * gpu_milli / MILLI_OF_GPU
        price = money / np.maximum(amount, 1.0) / max(money.sum() / max(amount.sum(), 1.0), 1.0)
        kinds = Shapes(cpu_milli, memory_mib, gpus, gpu_milli, accepted)
        return Wants(kinds, amount / share, share * MILLI_OF_GPU * price)

    def clear(self, wants: Wants, left: Left) -> Worth:
        """What these pay for what is left, starting where the last clearing ended.

        Whoever first needs it waits for its kernels here, beside the calls and not among them.
        """
        warm_up_worth()
        inventory = self._inventory
        most = max(int(inventory.nodes.gpu_count.max(initial=1)), 1)
        worth = cleared(wants, states_of(inventory.nodes.model, *left, most), self._scale, self._fill)
        self._fill = worth.fill
        return worth
