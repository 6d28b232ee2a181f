"""Choosing mutually close sites: best-first branch and bound over the graph "rtt <= limit".

A gang with a limit between its nodes lives in a clique of that graph, and there can be exponentially many.

    relax: place on all sites still allowed, ignoring the limit between them: a lower bound
    if the sites used are mutually close, it is the optimum of this branch
    else pick the most used site v that is too far from another used one, and branch:
        either v may be used, then only sites close to v are allowed; or v is not used

Every clique lies in one of the two branches. The branch of least bound is taken first, so the first placement
that is close is optimal. In a search that lasts, a branch is shrunk before it is relaxed: a site whose close and
allowed sites together cannot hold the gang is dropped, over and over; most hopeless branches end there, at the
price of one product of a small matrix with a vector.

After `relaxations_max` relaxations the search stops: it dives from the most promising branches for a placement
that is close, and returns the best one with the least open bound. A gap is reported, never hidden.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.distances import Distances

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
DIVES = 16
"""Branches from which a search that was cut short still looks for a placement."""
SHRINK_AFTER = 8
"""Relaxations after which shrinking begins: most searches end before, and its matrix costs a dozen of them."""
SHRINK_SITES_MAX = 1_024
"""Beyond so many sites with room the matrix would cost more than it saves; the search is as exact without it."""


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """The cheapest placement on the allowed sites of one option, whatever the distances between them."""

    option: Any
    site_ok: Flags
    rate: int
    broken: int
    slots: Int
    take: Int
    sites: Int
    """Site of each slot."""

    def key(self, depth: int, age: int) -> tuple[int, int, int, int]:
        """Least rate first; one broken idle node more or less is not worth a wider search; then go deep."""
        return self.rate, max(self.broken - 1, 0), -depth, age


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to. Without `branch` none was found, and if `proven` there is none."""

    branch: Branch | None
    bound: int
    proven: bool
    relaxations: int


class Closeness:
    """Which sites are close to which, and which can hold a gang together with those close to them."""

    def __init__(self, distances: Distances, limit_ms: float, count: Callable[[], Int], needed: int) -> None:
        """`count()`: replicas each site could take, (sites,), asked for only once a branching needs it."""
        self._distances, self._limit_ms, self._count, self._needed = distances, limit_ms, count, needed
        self._sites: Int | None = None

    def near(self, site: int) -> Flags:
        """Sites within the limit of one, (sites,)."""
        return self._distances.from_site(site) <= self._limit_ms

    def shrink(self, site_ok: Flags) -> Flags | None:
        """The allowed sites without those that cannot be part of a close gang; None if none is left."""
        if self._sites is None:
            self._build()
        assert self._sites is not None
        if self._sites.size > SHRINK_SITES_MAX:
            return site_ok
        ok = site_ok[self._sites]
        while True:
            kept = ok & (self._matrix @ (self._capacity * ok) >= self._needed)
            if kept.sum() == ok.sum():
                break
            ok = kept
        if not ok.any():
            return None
        shrunk = np.zeros_like(site_ok)
        shrunk[self._sites[ok]] = True
        return shrunk

    def _build(self) -> None:
        capacity = self._count()
        self._sites = np.flatnonzero(capacity)
        self._capacity = capacity[self._sites].astype(np.float64)  # counts far below 2^53: exact
        if self._sites.size <= SHRINK_SITES_MAX:
            rows = [self.near(int(site))[self._sites] for site in self._sites]
            self._matrix = np.array(rows, dtype=np.float64).reshape(self._sites.size, self._sites.size)


class CloseSearch:
    """One search. `relax(option, site_ok)` solves a branch, None if it has no placement."""

    def __init__(
        self, relax: Callable[[Any, Flags], Branch | None], distances: Distances, limit_ms: float, most: int
    ) -> None:
        """`limit_ms`: inclusive, tolerance included. `most`: relaxations at which the search is cut short."""
        self._relax, self._distances, self._limit_ms, self._most = relax, distances, limit_ms, most
        self._queue: list[tuple[tuple[int, int, int, int], Branch, int, Closeness]] = []
        self._solved = 0

    def add(self, option: Any, site_ok: Flags, count: Callable[[], Int], needed: int) -> None:
        """Add an alternative of which the gang may be. `count`, `needed`: as `Closeness` takes them."""
        self._relaxed(option, site_ok, 0, Closeness(self._distances, self._limit_ms, count, needed))

    def run(self) -> Found:
        """Search until a placement is proven best, none is left, or the limit is reached."""
        while self._queue:
            _, branch, depth, closeness = heapq.heappop(self._queue)
            far = self._most_used_far_site(branch)
            if far is None:
                return Found(branch, branch.rate, True, self._solved)
            if self._solved >= self._most:
                return self._cut_short(branch)
            self._push(branch.option, branch.site_ok & closeness.near(far), depth + 1, closeness)
            without = branch.site_ok.copy()
            without[far] = False
            self._push(branch.option, without, depth + 1, closeness)
        return Found(None, 0, True, self._solved)

    def _push(self, option: Any, site_ok: Flags, depth: int, closeness: Closeness) -> None:
        shrunk = site_ok if self._solved < SHRINK_AFTER else closeness.shrink(site_ok)
        if shrunk is not None:
            self._relaxed(option, shrunk, depth, closeness)

    def _relaxed(self, option: Any, site_ok: Flags, depth: int, closeness: Closeness) -> None:
        self._solved += 1
        branch = self._relax(option, site_ok)
        if branch is not None:
            heapq.heappush(self._queue, (branch.key(depth, self._solved), branch, depth, closeness))

    def _cut_short(self, first: Branch) -> Found:
        branches = [first, *(entry[1] for entry in sorted(self._queue, key=lambda entry: entry[0]))]
        dives = (self._dive(branch) for branch in branches[:DIVES])
        found = [dived for dived in dives if dived is not None]
        best = min(found, key=lambda branch: branch.rate, default=None)
        return Found(best, first.rate, best is not None and best.rate == first.rate, self._solved)

    def _dive(self, branch: Branch | None) -> Branch | None:
        """Keep to the sites close to the most used far one until the placement is close."""
        while branch is not None:
            far = self._most_used_far_site(branch)
            if far is None:
                return branch
            branch = self._relax(branch.option, branch.site_ok & self._near(far))
        return None

    def _near(self, site: int) -> Flags:
        return self._distances.from_site(site) <= self._limit_ms

    def _most_used_far_site(self, branch: Branch) -> int | None:
        used, place = np.unique(branch.sites, return_inverse=True)
        if used.size == 1:
            return None
        weight = np.bincount(place, weights=branch.take)
        for index in np.argsort(-weight, kind="stable"):
            site = int(used[index])
            if not self._near(site)[used].all():
                return site
        return None
