"""The regions of a network: sixty-odd places that data centres cluster around.

FACT: names of places, their coordinates (degrees, rounded to a tenth) and countries (ISO 3166-1 alpha-2). All
but a handful are homes of AWS, Azure or Google regions.
ASSUMED: `weight`, the share of supply there; it leans on where the three clouds have most regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.datasets.draws import FloatArray, IntArray
from engine.datasets.geodesy import great_circle_km


@dataclass(frozen=True, slots=True)
class Region:
    """A named group of sites around one place."""

    name: str
    country: str
    latitude: float
    longitude: float
    weight: float


REGIONS: tuple[Region, ...] = (
    Region("us-east", "US", 39.0, -77.5, 10.0),
    Region("us-northeast", "US", 40.7, -74.0, 4.0),
    Region("us-southeast", "US", 33.7, -84.4, 3.0),
    Region("us-florida", "US", 25.8, -80.2, 1.5),
    Region("us-midwest", "US", 41.9, -87.6, 4.0),
    Region("us-ohio", "US", 40.0, -83.0, 3.0),
    Region("us-central", "US", 41.3, -95.9, 4.0),
    Region("us-south", "US", 32.8, -96.8, 6.0),
    Region("us-mountain", "US", 40.8, -111.9, 2.0),
    Region("us-southwest", "US", 33.4, -112.1, 3.0),
    Region("us-west", "US", 37.3, -121.9, 5.0),
    Region("us-california-south", "US", 34.1, -118.2, 2.5),
    Region("us-northwest", "US", 45.6, -121.2, 5.0),
    Region("ca-east", "CA", 45.5, -73.6, 2.5),
    Region("ca-central", "CA", 43.7, -79.4, 1.5),
    Region("ca-west", "CA", 51.0, -114.1, 1.0),
    Region("mx-central", "MX", 20.6, -100.4, 0.6),
    Region("br-south", "BR", -23.5, -46.6, 1.5),
    Region("cl-central", "CL", -33.4, -70.7, 0.6),
    Region("ar-central", "AR", -34.6, -58.4, 0.3),
    Region("co-central", "CO", 4.7, -74.1, 0.3),
    Region("gb-south", "GB", 51.5, -0.1, 3.0),
    Region("gb-north", "GB", 53.5, -2.2, 1.0),
    Region("ie-east", "IE", 53.3, -6.3, 2.0),
    Region("fr-north", "FR", 48.9, 2.4, 2.5),
    Region("fr-south", "FR", 43.3, 5.4, 0.8),
    Region("nl-west", "NL", 52.4, 4.9, 2.5),
    Region("be-south", "BE", 50.5, 3.8, 1.0),
    Region("de-central", "DE", 50.1, 8.7, 3.5),
    Region("de-east", "DE", 52.5, 13.4, 1.0),
    Region("ch-north", "CH", 47.4, 8.5, 1.0),
    Region("at-east", "AT", 48.2, 16.4, 0.6),
    Region("it-north", "IT", 45.5, 9.2, 1.2),
    Region("es-central", "ES", 40.4, -3.7, 1.2),
    Region("pt-west", "PT", 38.7, -9.1, 0.4),
    Region("pl-central", "PL", 52.2, 21.0, 1.0),
    Region("cz-central", "CZ", 50.1, 14.4, 0.5),
    Region("ro-south", "RO", 44.4, 26.1, 0.5),
    Region("gr-central", "GR", 38.0, 23.7, 0.3),
    Region("se-central", "SE", 59.3, 18.1, 2.0),
    Region("no-east", "NO", 59.9, 10.8, 1.5),
    Region("fi-south", "FI", 60.6, 27.2, 2.0),
    Region("dk-east", "DK", 55.7, 12.6, 0.6),
    Region("is-west", "IS", 64.1, -21.9, 1.0),
    Region("tr-west", "TR", 41.0, 29.0, 0.4),
    Region("il-central", "IL", 32.1, 34.8, 0.8),
    Region("ae-north", "AE", 25.2, 55.3, 1.0),
    Region("qa-east", "QA", 25.3, 51.5, 0.5),
    Region("sa-east", "SA", 26.4, 50.1, 0.7),
    Region("za-north", "ZA", -26.2, 28.0, 0.6),
    Region("za-west", "ZA", -33.9, 18.4, 0.3),
    Region("ke-central", "KE", -1.3, 36.8, 0.2),
    Region("in-west", "IN", 19.1, 72.9, 2.0),
    Region("in-south", "IN", 17.4, 78.5, 1.5),
    Region("in-north", "IN", 28.7, 77.1, 0.8),
    Region("sg-central", "SG", 1.3, 103.8, 2.5),
    Region("my-central", "MY", 3.1, 101.7, 1.0),
    Region("id-west", "ID", -6.2, 106.8, 0.7),
    Region("th-central", "TH", 13.8, 100.5, 0.4),
    Region("hk-central", "HK", 22.3, 114.2, 1.2),
    Region("tw-central", "TW", 24.2, 120.7, 1.2),
    Region("cn-north", "CN", 39.9, 116.4, 1.0),
    Region("cn-east", "CN", 31.2, 121.5, 1.0),
    Region("kr-central", "KR", 37.6, 127.0, 2.0),
    Region("jp-east", "JP", 35.7, 139.8, 3.0),
    Region("jp-west", "JP", 34.7, 135.5, 1.2),
    Region("au-east", "AU", -33.9, 151.2, 1.5),
    Region("au-southeast", "AU", -37.8, 145.0, 0.8),
    Region("nz-north", "NZ", -36.8, 174.8, 0.3),
)


def nearest_regions(countries: list[str], latitudes: FloatArray, longitudes: FloatArray) -> IntArray:
    """Index into REGIONS of the region each place belongs to: the nearest of its country, else of all."""
    region_latitudes = np.array([region.latitude for region in REGIONS])
    region_longitudes = np.array([region.longitude for region in REGIONS])
    km = great_circle_km(latitudes[:, None], longitudes[:, None], region_latitudes, region_longitudes)
    home = np.array([region.country for region in REGIONS])
    abroad = np.array(countries)[:, None] != home
    # Further than any point on Earth: a region abroad wins only where the country has none.
    return np.asarray(np.argmin(km + 50_000.0 * abroad, axis=1), dtype=np.int64)
