"""What the rows and the requests of scarce sets have in common, for all sets at once.

There are thousands of sets of thousands of rows: one look at all rows takes a tenth of the time of one look a set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.planning.fold import FABRIC, MODEL, SITE, SUPPLIER
from solvers.planning.problem import Gangs
from solvers.planning.scarcity import Kind, ScarceSet

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Least:
    """What every request of a set asks for at least, each (sets,); `certifications`: bit masks."""

    tier: Int
    connectivity: Int
    interconnect: Int
    certifications: Int
    reliability: NDArray[np.float64]
    one_fabric: Flags


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the rows of each set lie and whose they are: (sets, codes) flags.

    `fabrics`: how many, (sets,), of sets whose requests want one.
    """

    models: Flags
    sites: Flags
    regions: Flags
    countries: Flags
    suppliers: Flags
    fabrics: Int


def least_of(sets: Sequence[ScarceSet], gangs: Gangs) -> Least:
    """Of an indivisible set only its last gang counts: others only stand there."""
    members = [scarce.gangs if scarce.kind == Kind.HALL else scarce.gangs[-1:] for scarce in sets]
    member, starts = _joined(members)

    def over(reduce: Callable[..., Any], column: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(reduce(column[member], starts) if starts.size else column[:0])

    return Least(
        tier=over(np.minimum.reduceat, gangs.tier),
        connectivity=over(np.minimum.reduceat, gangs.connectivity),
        interconnect=over(np.minimum.reduceat, gangs.interconnect),
        certifications=over(np.bitwise_and.reduceat, gangs.certifications),
        reliability=over(np.minimum.reduceat, gangs.reliability),
        one_fabric=over(np.logical_and.reduceat, gangs.one_fabric),
    )


def spread_of(
    sets: Sequence[ScarceSet], one_fabric: Flags, row_table: Int, region_of: Int, country_of: Int
) -> Spread:
    """`one_fabric` (sets,): whose fabrics are counted. `row_table` (rows, 11): the folded fleet.

    `region_of`, `country_of` (sites,): codes.
    """
    rows, starts = _joined([scarce.rows for scarce in sets])
    number = np.repeat(np.arange(len(sets)), np.diff(np.append(starts, rows.size)))

    def seen(column: int) -> Flags:
        codes = np.ascontiguousarray(row_table[:, column])
        flags = np.zeros((len(sets), int(codes.max(initial=-1)) + 1), dtype=bool)
        flags[number, codes[rows]] = True
        return flags

    sites, counted = seen(SITE), one_fabric[number]
    fabric, width = row_table[rows[counted], FABRIC], int(row_table[:, FABRIC].max(initial=0)) + 1
    return Spread(
        models=seen(MODEL),
        sites=sites,
        regions=_by_place(sites, region_of),
        countries=_by_place(sites, country_of),
        suppliers=seen(SUPPLIER),
        fabrics=np.bincount(np.unique(number[counted] * width + fabric) // width, minlength=len(sets)),
    )


def _by_place(sites: Flags, place_of: Int) -> Flags:
    """(sets, places): which places have one of the sites of each set."""
    found = np.zeros((sites.shape[0], int(place_of.max(initial=-1)) + 1), dtype=bool)
    number, site = np.nonzero(sites)
    found[number, place_of[site]] = True
    return found


def _joined(lists: Sequence[Int]) -> tuple[Int, Int]:
    """(all lists one after the other, where each begins); none of them is empty."""
    sizes = np.fromiter((one.size for one in lists), dtype=np.int64, count=len(lists))
    joined = np.concatenate(lists) if lists else np.empty(0, dtype=np.int64)
    return joined, np.append(0, np.cumsum(sizes))[:-1]
