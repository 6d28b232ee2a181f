"""The audit's own distances: by unit vectors, and from the measured pairs, without the code of the solver."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.domain.cluster_request import ClusterRequest
from engine.market.inventory import Inventory

Int = NDArray[np.int64]


def client_rtt_ms(inventory: Inventory, request: ClusterRequest, sites: Int) -> NDArray[np.float64]:
    """RTT from the client to each of some sites."""
    if request.client_site is None:
        return _formula_ms(
            request.client_latitude or 0.0,
            request.client_longitude or 0.0,
            inventory.sites.latitude[sites],
            inventory.sites.longitude[sites],
        )
    measured = inventory.measured_ms
    home = inventory.sites.names.code.get(request.client_site)
    result = np.full(sites.size, np.inf)
    for place, site in enumerate(sites.tolist()):
        name = inventory.sites.names.names[site]
        if name == request.client_site:
            result[place] = 0.0
        elif (pair := _pair(name, request.client_site)) in measured:
            result[place] = measured[pair]
        elif home is not None:
            result[place] = _between_ms(inventory, home, np.array([site]))[0]
    return result


def pairwise_rtt_ms(inventory: Inventory, sites: Int) -> NDArray[np.float64]:
    """RTT between all pairs of some sites, (sites, sites)."""
    result = np.array([_between_ms(inventory, site, sites) for site in sites.tolist()])
    names = [inventory.sites.names.names[site] for site in sites.tolist()]
    for row, a in enumerate(names):
        for column, b in enumerate(names):
            result[row, column] = 0.0 if a == b else inventory.measured_ms.get(_pair(a, b), result[row, column])
    return result


def _pair(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a <= b else (b, a)


def _between_ms(inventory: Inventory, site: int, others: Int) -> NDArray[np.float64]:
    latitude, longitude = inventory.sites.latitude, inventory.sites.longitude
    return _formula_ms(float(latitude[site]), float(longitude[site]), latitude[others], longitude[others])


def _formula_ms(
    latitude: float, longitude: float, latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """2.0 + 0.02 × km, the great circle taken from the angle between unit vectors."""
    here = _unit_vector(np.array([latitude]), np.array([longitude]))
    there = _unit_vector(latitudes, longitudes)
    chord = np.sqrt(((there - here) ** 2).sum(axis=1))
    milliseconds: NDArray[np.float64] = 2.0 + 0.02 * 6371.0 * 2.0 * np.arcsin(np.minimum(1.0, chord / 2.0))
    return milliseconds


def _unit_vector(latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    phi, lam = np.radians(latitudes), np.radians(longitudes)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=1)
