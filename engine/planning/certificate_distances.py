"""Round trips as the contract defines them, computed for the checker alone.

A measured pair counts as measured, the larger of its directions; any other is 2.0 + 0.02 × great-circle km on
a sphere of 6371.0 km, reached by the chord through the sphere; one site is 0 ms from itself.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Float = NDArray[np.float64]

RTT_TOLERANCE_MS = 1e-6


class RoundTrips:
    """Round trips to the sites of a fleet. `sites`: number of a site by its name, in order of first row."""

    def __init__(self, fleet: pl.DataFrame, rtt: pl.DataFrame) -> None:
        places = fleet.unique("site_id", keep="first", maintain_order=True)
        self._names = places["site_id"].to_list()
        self.sites = {name: number for number, name in enumerate(self._names)}
        self._points = _on_sphere(places["latitude"].to_numpy(), places["longitude"].to_numpy())
        self._measured = self._measured_rows(rtt)
        self._rows: dict[object, Float] = {}

    def from_site(self, site: int) -> Float:
        """RTT in ms from a site of the fleet to all, shape (sites,), float64. Read only."""
        row = self._rows.get(site)
        if row is None:
            row = self._overridden(self._estimate(self._points[site]), self._names[site])
            row[site] = 0.0
            self._rows[site] = row
        return row

    def from_client(self, site: str | None, latitude: float | None, longitude: float | None) -> Float:
        """RTT in ms from a client to all sites of the fleet; NaN from a strange site where nothing is measured."""
        if site in self.sites:
            return self.from_site(self.sites[site])
        key = (site, latitude, longitude)
        if key not in self._rows:
            if site is None:
                position = _on_sphere(np.array([latitude], float), np.array([longitude], float))[0]
                self._rows[key] = self._estimate(position)
            else:
                self._rows[key] = self._overridden(np.full(len(self.sites), np.nan), site)
        return self._rows[key]

    def _estimate(self, point: Float) -> Float:
        chord = np.sqrt(((self._points - point) ** 2).sum(axis=1))
        row: Float = 2.0 + 0.02 * 6371.0 * 2.0 * np.arcsin(np.minimum(1.0, chord / 2.0))
        return row

    def _overridden(self, row: Float, name: str) -> Float:
        for end, rtt_ms in self._measured.get(name, ()):
            row[end] = rtt_ms
        return row

    def _measured_rows(self, rtt: pl.DataFrame) -> dict[str, list[tuple[int, float]]]:
        """By name of a site: the sites of the fleet it was measured to, the larger value last."""
        both = pl.concat([rtt, rtt.select(site_a="site_b", site_b="site_a", rtt_ms="rtt_ms")]).sort("rtt_ms")
        measured: dict[str, list[tuple[int, float]]] = {}
        for start, end, rtt_ms in both.iter_rows():
            if end in self.sites:
                measured.setdefault(start, []).append((self.sites[end], rtt_ms))
        return measured


def _on_sphere(latitudes: Float, longitudes: Float) -> Float:
    """Points on the unit sphere, shape (n, 3), of degrees."""
    phi, theta = np.radians(latitudes), np.radians(longitudes)
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=1)
