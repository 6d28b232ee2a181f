"""What a placement takes of its nodes: whole GPUs, a part of a card, CPU and memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.market.lease_terms import Terms

Int = NDArray[np.int64]


class Use(NamedTuple):
    """Distinct nodes and GPUs, (nodes,) each; CPU and memory of each replica of `replica_gpus`, 0 if none.

    `gpu_milli`: thousandths taken of card `card` of the only node, 0: whole GPUs.
    """

    nodes: Int
    gpus: Int
    replica_gpus: int = 1
    cpu_milli: int = 0
    memory_mib: int = 0
    gpu_milli: int = 0
    card: int = -1

    @property
    def is_plain(self) -> bool:
        """Whether it takes whole GPUs and nothing beside them."""
        return not (self.cpu_milli or self.memory_mib or self.gpu_milli)

    @property
    def replicas(self) -> Int:
        """Replicas on each node, (nodes,)."""
        return self.gpus // self.replica_gpus


def use_of(terms: Terms) -> Use:
    """What a quote holds or a lease has."""
    return use_at(terms.request, terms.node_numbers, terms.gpus_per_node, terms.card)


def use_at(request: ClusterRequest, nodes: Int, gpus: Int, card: int) -> Use:
    """What a request takes at some place."""
    if request.is_plain:
        return Use(nodes, gpus)
    beside = request.cpu_milli or 0, request.memory_mib or 0, request.gpu_milli or 0
    return Use(nodes, gpus, request.gpus_per_node, *beside, card)
