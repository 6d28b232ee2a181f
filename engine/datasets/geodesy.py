"""Distances on the globe, and the RTT that the contract puts where none was measured.

    km  = great-circle distance by the haversine, Earth radius 6371.0 km, float64
    rtt = 2.0 + 0.02 × km      milliseconds, between two sites; within one site it is 0

Nothing travels faster than light: a measured RTT below 2·km/c disproves the coordinates, never the clock.
"""

from __future__ import annotations

import numpy as np

from engine.datasets.draws import FloatArray

EARTH_RADIUS_KM = 6371.0
BASE_RTT_MS = 2.0
RTT_MS_PER_KM = 0.02
LIGHT_KM_PER_MS = 299.792458


def great_circle_km(
    latitude_a: FloatArray, longitude_a: FloatArray, latitude_b: FloatArray, longitude_b: FloatArray
) -> FloatArray:
    """Distances between points given in degrees; the arrays broadcast."""
    phi_a, phi_b = np.radians(latitude_a), np.radians(latitude_b)
    half_phi, half_lambda = (phi_b - phi_a) / 2, np.radians(longitude_b - longitude_a) / 2
    chord = np.sin(half_phi) ** 2 + np.cos(phi_a) * np.cos(phi_b) * np.sin(half_lambda) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(chord, 1.0))), dtype=np.float64)


def unmeasured_rtt_ms(distance_km: FloatArray) -> FloatArray:
    """RTT between two different sites by the formula of the contract."""
    return BASE_RTT_MS + RTT_MS_PER_KM * distance_km


def least_rtt_ms(distance_km: FloatArray) -> FloatArray:
    """RTT of light in vacuum: no measurement between honest coordinates can be below it."""
    return 2 * distance_km / LIGHT_KM_PER_MS
