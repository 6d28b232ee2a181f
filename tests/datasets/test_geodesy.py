import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.datasets.geodesy import EARTH_RADIUS_KM, great_circle_km, least_rtt_ms, unmeasured_rtt_ms
from engine.datasets.regions import REGIONS, nearest_regions

LATITUDES, LONGITUDES = st.floats(-90, 90), st.floats(-180, 180)


def _twin_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The angle between the two unit vectors, by way of three dimensions."""
    vectors = []
    for latitude, longitude in (a, b):
        phi, lam = math.radians(latitude), math.radians(longitude)
        vectors.append(np.array([math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)]))
    cross = float(np.linalg.norm(np.cross(vectors[0], vectors[1])))
    return EARTH_RADIUS_KM * math.atan2(cross, float(vectors[0] @ vectors[1]))


@given(st.tuples(LATITUDES, LONGITUDES), st.tuples(LATITUDES, LONGITUDES))
def test_the_haversine_is_the_angle_between_vectors(a: tuple[float, float], b: tuple[float, float]) -> None:
    km = great_circle_km(*(np.array([degrees]) for degrees in (*a, *b)))[0]
    assert km == pytest.approx(_twin_km(a, b), abs=1e-3)


@given(st.floats(0, 20_100))
def test_the_formula_never_outruns_light(km: float) -> None:
    assert unmeasured_rtt_ms(np.array([km]))[0] >= least_rtt_ms(np.array([km]))[0]


def test_every_region_is_nearest_to_itself() -> None:
    index = nearest_regions(
        [region.country for region in REGIONS],
        np.array([region.latitude for region in REGIONS]),
        np.array([region.longitude for region in REGIONS]),
    )
    assert index.tolist() == list(range(len(REGIONS)))


def test_a_place_belongs_to_its_own_country_if_that_has_a_region() -> None:
    """Detroit is nearer to Toronto than to Ohio's data centres; Luxembourg has no region of its own."""
    detroit, luxembourg = nearest_regions(["US", "LU"], np.array([42.33, 49.61]), np.array([-83.05, 6.13]))
    assert REGIONS[detroit].country == "US"
    assert REGIONS[luxembourg].name == "de-central"
