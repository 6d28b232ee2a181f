"""What is sold: the terms of a quote or a lease, as events carry them.

Codec and columns as in `engine.market.events`.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest

Int = NDArray[np.int64]


class PriceLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of a total: the GPUs of one market whose price is set in the same way, in a band of seconds.

    `set_by`: POSTED, ASK, BOTH, PLAN or LOCKED. `kind`: GPU_HOURS, LOCALITY, SPREAD (without a market), or empty
    in a lease of a plan. [from_s, to_s) counts from the start; 0 and 0 is the whole duration.
    """

    gpu_model: str
    region: str
    security_tier: str
    set_by: str
    gpus: int
    rate_micro_usd_per_hour: int
    amount_micro_usd: int
    kind: str = ""
    from_s: int = 0
    to_s: int = 0


class Profile(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How the prices of nodes run over the hours, where they do not stay: max(ask, forward curve) of each.

    `asks_micro_usd_per_gpu_hour` ("<i8") and `curve_of_node` ("<i4"): in the order of the placement's nodes.
    `curves`: (posted, long-run) price of each market used.
    """

    asks_micro_usd_per_gpu_hour: bytes
    curve_of_node: bytes
    curves: list[tuple[int, int]]
    half_life_h: float


class Terms(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A placement with its price and proof: what a quote shows and a lease charges."""

    request: ClusterRequest
    nodes: bytes
    gpus: bytes
    prices_micro_usd_per_gpu_hour: bytes
    lines: list[PriceLine]
    rate_micro_usd_per_hour: int
    duration_s: int
    total_micro_usd: int
    price_snapshot_id: str
    lower_bound_micro_usd_per_hour: int
    idle_nodes_broken: int
    relaxations_solved: int
    fleet_version: int
    plan_id: str = ""
    """The joint plan it came from; bound and counts are then of no meaning, the plan's own prove it."""
    price_epoch: int = 0
    spread_micro_usd: int = 0
    """Price of holding the capacity; inside the total, outside prices and rate."""
    network_fee_micro_usd: int = 0
    """The network's part of the total."""
    network_fee_ppm: int = 0
    """The same as parts per million of whatever is charged for the lease, extensions included."""
    profile: Profile | None = None
    """None: the prices hold in every hour."""
    gpu_count_bound: int = 0
    """Of a request for all that matches: no placement within its budget has more GPUs."""
    extension_locked: bool = False
    """It can be extended at its price, for as long again; the price of that is in `spread_micro_usd`."""
    card: int = -1
    """Of a part of a GPU: the card of its node that it stands on."""

    @property
    def node_numbers(self) -> Int:
        """Node numbers, (nodes,), int64, in the order of node ids."""
        return np.frombuffer(self.nodes, dtype="<i4").astype(np.int64)

    @property
    def gpus_per_node(self) -> Int:
        """GPUs of each node, (nodes,), int64."""
        return np.frombuffer(self.gpus, dtype="<i4").astype(np.int64)

    @property
    def prices(self) -> Int:
        """Price of each node in micro-USD per GPU-hour, (nodes,), int64."""
        return np.frombuffer(self.prices_micro_usd_per_gpu_hour, dtype="<i8").astype(np.int64)
