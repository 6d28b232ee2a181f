"""Leases that are decided together, by what their requests have in common: all but their sizes and ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest, shapes_of

Int = NDArray[np.int64]
Rows = Int | slice


class Groups:
    """`shapes`: one request of each; `shape_of`, `gpus` (leases,). `requests`: of each size."""

    def __init__(self, requests: Sequence[ClusterRequest], size_of: Int) -> None:
        self.requests, self.size_of = requests, size_of
        self.shapes, each = shapes_of(requests)
        self.shape_of: Int = np.array(each, dtype=np.int64)[size_of]
        self.gpus: Int = np.array([request.gpu_count for request in requests], dtype=np.int64)[size_of]

    def first(self, count: int) -> Groups:
        """Of the first so many leases."""
        return Groups(self.requests, self.size_of[:count])

    def each(self, node_counts: Int) -> Iterator[tuple[ClusterRequest, Rows, Rows]]:
        """(a request of the shape, its leases, their rows among those of all nodes) of each shape that occurs."""
        if len(self.shapes) == 1:
            yield self.shapes[0], slice(None), slice(None)
            return
        shape_of_node = np.repeat(self.shape_of, node_counts)
        for shape in np.unique(self.shape_of).tolist():
            leases, nodes = (np.flatnonzero(each == shape) for each in (self.shape_of, shape_of_node))
            yield self.shapes[shape], leases, nodes
