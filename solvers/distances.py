"""Round trips between sites, and from a client to sites.

A measured pair counts as measured (the larger of its two directions). Any other pair is estimated from the
great circle, 2.0 + 0.02 × km, haversine on a sphere of 6371.0 km; a site is 0 ms from itself. All in float64:
a limit holds if rtt <= limit + 1e-6, and float32 would decide differently at the edge.

Rows are computed when they are first asked for, and kept: a fleet of miners can have ten thousand sites,
whose full matrix would need 800 MB, while requests look at a few rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvers.kernel import kernel

RTT_TOLERANCE_MS = 1e-6
BASE_RTT_MS = 2.0
RTT_MS_PER_KM = 0.02
EARTH_RADIUS_KM = 6371.0


@kernel
def estimate_row(
    latitude: float, longitude: float, latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Estimated RTT in ms from one position to many. Degrees, shape (sites,), float64."""
    row = np.empty(latitudes.size)
    phi = np.radians(latitude)
    for site in range(latitudes.size):
        other = np.radians(latitudes[site])
        half_phi = (other - phi) / 2.0
        half_lambda = np.radians(longitudes[site] - longitude) / 2.0
        chord = np.sin(half_phi) ** 2 + np.cos(phi) * np.cos(other) * np.sin(half_lambda) ** 2
        kilometres = 2.0 * EARTH_RADIUS_KM * np.arcsin(min(1.0, np.sqrt(chord)))
        row[site] = BASE_RTT_MS + RTT_MS_PER_KM * kilometres
    return row


class Distances:
    """RTT rows of a fixed list of sites.

    `latitudes`, `longitudes`: degrees, shape (sites,). `site_a`, `site_b`, `rtt_ms`: measured pairs, shape
    (pairs,), site numbers; a number outside the list is ignored, of a repeated pair the larger value counts.
    """

    KEPT_ROWS = 1_024

    def __init__(
        self,
        latitudes: NDArray[np.float64],
        longitudes: NDArray[np.float64],
        site_a: NDArray[np.int64],
        site_b: NDArray[np.int64],
        rtt_ms: NDArray[np.float64],
    ) -> None:
        self.latitudes, self.longitudes = latitudes, longitudes
        known = (site_a >= 0) & (site_a < latitudes.size) & (site_b >= 0) & (site_b < latitudes.size)
        start = np.concatenate([site_a[known], site_b[known]])
        end = np.concatenate([site_b[known], site_a[known]])
        rtt = np.concatenate([rtt_ms[known], rtt_ms[known]])
        order = np.lexsort((rtt, end, start))  # the largest value of a pair is written last
        self._end, self._rtt = end[order], rtt[order]
        self._first = np.searchsorted(start[order], np.arange(latitudes.size + 1))
        self._rows: OrderedDict[int | tuple[float, float], NDArray[np.float64]] = OrderedDict()

    def from_site(self, site: int) -> NDArray[np.float64]:
        """RTT in ms from one site to all, shape (sites,), float64. Read only."""
        return self._kept(site, lambda: self._site_row(site))

    def from_position(self, latitude: float, longitude: float) -> NDArray[np.float64]:
        """Estimated RTT in ms from coordinates in degrees to all sites, shape (sites,), float64. Read only."""
        key = (latitude, longitude)
        return self._kept(key, lambda: estimate_row(latitude, longitude, self.latitudes, self.longitudes))

    def _site_row(self, site: int) -> NDArray[np.float64]:
        row: NDArray[np.float64] = estimate_row(
            self.latitudes[site], self.longitudes[site], self.latitudes, self.longitudes
        )
        measured = slice(self._first[site], self._first[site + 1])
        row[self._end[measured]] = self._rtt[measured]
        row[site] = 0.0
        return row

    def _kept(
        self, key: int | tuple[float, float], compute: Callable[[], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        row = self._rows.get(key)
        if row is None:
            row = compute()
            row.flags.writeable = False
            self._rows[key] = row
            if len(self._rows) > self.KEPT_ROWS:
                self._rows.popitem(last=False)
        else:
            self._rows.move_to_end(key)
        return row
