"""What an earlier queue's requests want in codes, kept for requests that come again.

A demand depends on its request and on the names and places of a fleet, not on what is free or asked: after a
change of a few nodes it is as it was. Kept only up to a number of bytes; what is not kept is made anew and is the
same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from engine.domain.cluster_request import ClusterRequest
from engine.market.inventory import Inventory
from solvers.placement import Demand

KEPT_BYTES_MAX = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Names:
    """All that a demand reads of a fleet: names by code, where sites are, what is measured, what else is known."""

    words: tuple[tuple[str, ...], ...]
    places: bytes
    rtt: pl.DataFrame
    catalogue: frozenset[str]

    def is_like(self, other: Names) -> bool:
        """Whether every request has the same demand, or the same violations, with both."""
        mine, theirs = (self.words, self.places, self.catalogue), (other.words, other.places, other.catalogue)
        return mine == theirs and self.rtt.equals(other.rtt)


def names_of(inventory: Inventory, catalogue: Collection[str]) -> Names:
    """The names of a fleet; `catalogue` as in `demand_of`."""
    sites = inventory.sites
    known = (
        inventory.models,
        inventory.regions,
        inventory.countries,
        inventory.suppliers,
        inventory.certifications,
        sites.names,
    )
    places = (sites.region, sites.country, sites.latitude, sites.longitude)
    return Names(
        tuple(tuple(vocabulary.names) for vocabulary in known),
        b"".join(np.ascontiguousarray(column).tobytes() for column in places),
        inventory.rtt,
        frozenset(catalogue),
    )


@dataclass(frozen=True, slots=True)
class KnownDemands:
    """Demands of requests under some names. `of_request`: by the identity of a request, which is kept with it."""

    names: Names
    of_request: dict[int, tuple[ClusterRequest, Demand]]

    def demand(self, request: ClusterRequest) -> Demand | None:
        """The demand of this very object, if it is known."""
        known = self.of_request.get(id(request))
        return None if known is None else known[1]


def kept_demands(names: Names, requests: Sequence[ClusterRequest], demands: Sequence[Demand]) -> KnownDemands:
    """Those of the first requests, as far as their sets of sites and suppliers do not take too much memory."""
    sizes = np.cumsum([demand.site_ok.nbytes + demand.supplier_ok.nbytes for demand in demands], dtype=np.int64)
    fits = int(np.searchsorted(sizes, KEPT_BYTES_MAX, side="right"))
    pairs = zip(requests[:fits], demands[:fits], strict=True)
    return KnownDemands(names, {id(request): (request, demand) for request, demand in pairs})
