"""Terms of the leases that a joint plan starts or moves, made with the plan and checked when it is applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.domain.money import itemise_micro_usd, share_of_gpu, total_micro_usd
from engine.market.inventory import Inventory
from engine.market.lease_terms import PriceLine, Terms

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Place(NamedTuple):
    """Nodes in the order of their ids, and GPUs, (nodes,) each; the card of a part, or -1."""

    nodes: Int
    gpus: Int
    card: int


PLAN, ASK = "PLAN", "ASK"
"""What sets the price of a line: the plan's shadow price, or asks that are not below it."""


def sold_terms(
    request: ClusterRequest,
    place: Place,
    prices_micro_usd: Int,
    lines: list[PriceLine],
    fleet_version: int,
) -> Terms:
    """What a new lease of a plan charges for its whole duration. Prices (nodes,) of a part are those of the
    part.
    """
    nodes, gpus, card = place
    duration_s = request.priced_duration_s
    rate = sum(line.rate_micro_usd_per_hour for line in lines)
    return Terms(
        request=request,
        nodes=nodes.astype("<i4").tobytes(),
        gpus=gpus.astype("<i4").tobytes(),
        prices_micro_usd_per_gpu_hour=prices_micro_usd.astype("<i8").tobytes(),
        lines=lines,
        rate_micro_usd_per_hour=rate,
        duration_s=duration_s,
        total_micro_usd=total_micro_usd(rate, duration_s),
        price_snapshot_id="",
        lower_bound_micro_usd_per_hour=0,
        idle_nodes_broken=0,
        relaxations_solved=0,
        fleet_version=fleet_version,
        card=card,
    )


def due_micro_usd(request: ClusterRequest, price_micro_usd: Int) -> Int:
    """What a request pays of prices per GPU-hour: all, or the share of its part."""
    if request.gpu_milli is None:
        return price_micro_usd
    return np.array([share_of_gpu(price, request.gpu_milli) for price in price_micro_usd.tolist()], dtype=np.int64)


def average_price_micro_usd(terms: Terms) -> int:
    """What a GPU of the lease, or its part of one, pays per hour on average, rounded down."""
    return terms.rate_micro_usd_per_hour // terms.request.gpu_count


def moved_terms(standing: Terms, place: Place) -> Terms:
    """The terms of a lease at another place. Rate, total and lines stay; every node shows the average price,
    because the rate need not divide among the new nodes."""
    nodes, gpus, card = place
    return msgspec.structs.replace(
        standing,
        nodes=nodes.astype("<i4").tobytes(),
        gpus=gpus.astype("<i4").tobytes(),
        prices_micro_usd_per_gpu_hour=np.full(nodes.size, average_price_micro_usd(standing), "<i8").tobytes(),
        card=card,
    )


@dataclass(frozen=True, slots=True)
class SoldLines:
    """Of each gang, per market, the GPUs at a shadow price and those at their ask, in the order of markets.

    Lines of gang i are [first[i], first[i + 1]); `kind`: 2 × market + whether at the ask; `rate`: micro-USD per
    hour.
    """

    first: list[int]
    kind: list[int]
    gpus: list[int]
    rate: list[int]

    def priced(self, inventory: Inventory, gang: int, duration_s: int) -> list[PriceLine]:
        """What a gang is charged over a duration."""
        mine = slice(self.first[gang], self.first[gang + 1])
        rates = self.rate[mine]
        amounts = itemise_micro_usd(rates, duration_s)
        return [
            PriceLine(
                *inventory.market_names(inventory.markets[kind // 2]), (PLAN, ASK)[kind % 2], gpus, rate, amount
            )
            for kind, gpus, rate, amount in zip(self.kind[mine], self.gpus[mine], rates, amounts, strict=True)
        ]


def sold_lines(
    inventory: Inventory, gangs: int, gang: Int, nodes: Int, gpus: Int, prices_micro_usd: Int, at_ask: Flags
) -> SoldLines:
    """The lines of all gangs at once, from columns of shape (rows,); `at_ask`: pays no more than the ask."""
    kinds = 2 * max(inventory.markets.size, 1)
    keys, line = np.unique(gang * kinds + 2 * inventory.market[nodes] + at_ask, return_inverse=True)
    gpus_of, rates = np.zeros((2, keys.size), dtype=np.int64)
    np.add.at(gpus_of, line, gpus)
    np.add.at(rates, line, gpus * prices_micro_usd)
    first = np.searchsorted(keys, np.arange(gangs + 1) * kinds)
    return SoldLines(first.tolist(), (keys % kinds).tolist(), gpus_of.tolist(), rates.tolist())
