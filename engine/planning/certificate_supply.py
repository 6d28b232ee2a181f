"""The fleet as the bound needs it: nodes in the order of their prices, and which of them one request may use.

Nodes of equal attributes are folded into classes, and eligibility is decided per class. A `Shelf` holds the
nodes of one set of models in the order in which a greedy choice takes them: within a group (one model, one
fabric, or all of them) the cheapest first.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain.tiers import ConnectivityTier, Interconnect, SecurityTier
from engine.planning.certificate_distances import RTT_TOLERANCE_MS, RoundTrips

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Flags = NDArray[np.bool_]
Request = Mapping[str, Any]

ENDLESS = 2**62
GRADES = (
    ("min_security_tier", "security_tier", SecurityTier),
    ("min_connectivity_tier", "connectivity_tier", ConnectivityTier),
    ("min_interconnect", "interconnect", Interconnect),
)
FOLDED = (
    *("gpu_model", "site_id", "supplier_id", "certifications", "reliability"),
    *(column for _, column, _ in GRADES),
)
PLACES = (("regions", "region"), ("countries", "country"), ("sites", "site_id"))


@dataclass(frozen=True, slots=True)
class Shelf:
    """Nodes with capacity, sorted by group, then price; columns of shape (nodes,).

    A cluster stands in one `group` (codes 0, 1, ...). `node`: number in the fleet. `folded`: number of its class
    within `classes`. `runs`: first and last + 1 row of every group.
    """

    node: Int
    group: Int
    price: Float
    capacity: Int
    folded: Int
    classes: Classes
    runs: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Classes:
    """Columns of shape (classes,); `certifications` is a list of sets, the others are codes or floats."""

    site: Int
    supplier: Int
    grades: dict[str, Int]
    reliability: Float
    certifications: dict[str, Flags]
    """By name: the classes that hold it; a name that is missing is held by none."""

    def __getitem__(self, chosen: Int) -> Classes:
        return Classes(
            self.site[chosen],
            self.supplier[chosen],
            {column: codes[chosen] for column, codes in self.grades.items()},
            self.reliability[chosen],
            {name: held[chosen] for name, held in self.certifications.items()},
        )


class Supply:
    """Nodes of a fleet with `capacity`, and their prices. `fleet` is that of a ledger, `price` one of its columns.

    `price`, `capacity`, `site`, `supplier`, `model`, `fabric`: shape (nodes,); a fabric of -1 is none. `cpu_left`,
    `memory_left`, `card_left`: of a ledger's fleet; what is not limited is as good as endless.
    """

    def __init__(self, fleet: pl.DataFrame, trips: RoundTrips, price: str) -> None:
        self.trips = trips
        self.price = fleet[price].to_numpy()
        self.capacity = fleet["capacity"].to_numpy()
        self.cpu_left = fleet["cpu_left"].fill_null(ENDLESS).to_numpy()
        self.memory_left = fleet["memory_left"].fill_null(ENDLESS).to_numpy()
        self.card_left = fleet["card_left"].to_numpy()
        self.suppliers, self.supplier = _coded(fleet["supplier_id"])
        self.models, self.model = _coded(fleet["gpu_model"])
        self.fabric = _coded(fleet["fabric_id"])[1]
        self.site = fleet["site_id"].replace_strict(trips.sites, return_dtype=pl.Int64).to_numpy()
        self._places = _places(fleet, trips)
        held = pl.col("certifications").fill_null([]).list.sort().list.join(",")
        columns = fleet.select(FOLDED).with_columns(held)
        folded = columns.unique(maintain_order=True).with_columns(number=pl.int_range(pl.len()))
        self._class = columns.join(folded, on=list(FOLDED), maintain_order="left")["number"].to_numpy()
        self._classes = _classes(folded, self.suppliers, trips)

    def shelf(self, models: Sequence[str] | None, *, one_model: bool, one_fabric: bool) -> Shelf:
        """The nodes of these models (None: of all), grouped by what a cluster may not mix."""
        usable = (self.capacity > 0) | (self.card_left > 0)
        if models is not None:
            wanted = [self.models[name] for name in models if name in self.models]
            usable &= np.isin(self.model, wanted)
        if one_fabric:
            usable &= self.fabric >= 0
        node = np.flatnonzero(usable)
        group = np.zeros(node.size, np.int64)
        if one_model:
            group += self.model[node] * (int(self.fabric.max(initial=0)) + 1)
        if one_fabric:
            group += self.fabric[node]
        order = np.lexsort((self.price[node], group))
        node = node[order]
        first, group = np.unique(group[order], return_index=True, return_inverse=True)[1:]
        numbers, folded = np.unique(self._class[node], return_inverse=True)
        return Shelf(
            node=node,
            group=group,
            price=self.price[node],
            capacity=self.capacity[node],
            folded=folded,
            classes=self._classes[numbers],
            runs=list(itertools.pairwise([*first.tolist(), node.size])),
        )

    def slots(self, request: Request, node: Int) -> Int:
        """Replicas that some nodes could hold if nobody else were there; at most one of a part."""
        slots: Int = self.capacity[node] // request["gpus_per_node"]
        if request["part_milli"]:
            whole = (slots > 0) | (self.card_left[node] >= request["part_milli"])
            slots = whole.astype(np.int64)
        for need, left in ((request["cpu_milli"], self.cpu_left), (request["memory_mib"], self.memory_left)):
            if need:
                slots = np.minimum(slots, np.maximum(left[node], 0) // need)
        return slots

    def eligible(self, request: Request, classes: Classes) -> Flags:
        """Which classes keep every rule that a node keeps or not (models and fabrics: the shelf's part)."""
        if classes.site.size == 0:  # columns of an empty fleet have no type to index by
            return np.zeros(0, bool)
        sites = self._sites(request)
        kept = np.ones(classes.site.size, bool) if sites is None else sites[classes.site]
        for least, column, grades in GRADES:
            if request[least] is not None:
                kept &= classes.grades[column] >= grades[request[least]]
        if request["min_reliability"] is not None:
            kept &= classes.reliability >= request["min_reliability"]
        for name in request["certifications"] or ():
            kept &= classes.certifications.get(name, False)
        for names, good in (("allowed_suppliers", True), ("excluded_suppliers", False)):
            if request[names] is not None:
                codes = [self.suppliers[name] for name in request[names] if name in self.suppliers]
                kept &= np.isin(classes.supplier, codes) == good
        return kept

    def _sites(self, request: Request) -> Flags | None:
        """Sites that keep location and client round trip; None: all do."""
        masks = []
        if any(request[names] is not None for names, _ in PLACES):
            masks.append(self._named(request, ""))
        if any(request[f"excluded_{names}"] is not None for names, _ in PLACES):
            masks.append(~self._named(request, "excluded_"))
        if request["max_client_rtt_ms"] is not None:
            client = (request[f"client_{part}"] for part in ("site", "latitude", "longitude"))
            masks.append(self.trips.from_client(*client) <= request["max_client_rtt_ms"] + RTT_TOLERANCE_MS)
        return np.logical_and.reduce(masks) if masks else None

    def _named(self, request: Request, prefix: str) -> Flags:
        named = np.zeros(len(self.trips.sites), bool)
        for names, column in PLACES:
            for name in request[prefix + names] or ():
                named[self._places[column].get(name, [])] = True
        return named


def _coded(names: pl.Series) -> tuple[dict[str, int], Int]:
    """Numbers of the names by first row, and the number of each row, -1 for null."""
    distinct = names.drop_nulls().unique(maintain_order=True)
    numbers = {name: number for number, name in enumerate(distinct.to_list())}
    codes = names.replace_strict(numbers, default=-1, return_dtype=pl.Int64)
    return numbers, codes.fill_null(-1).to_numpy()


def _places(fleet: pl.DataFrame, trips: RoundTrips) -> dict[str, dict[str, list[int]]]:
    """By column, by name: the sites there."""
    sites = fleet.unique("site_id", keep="first", maintain_order=True)
    places: dict[str, dict[str, list[int]]] = {}
    for _, column in PLACES:
        by_name = places.setdefault(column, {})
        for site, name in sites.select("site_id", pl.col(column).alias("name")).iter_rows():
            by_name.setdefault(name, []).append(trips.sites[site])
    return places


def _classes(folded: pl.DataFrame, suppliers: dict[str, int], trips: RoundTrips) -> Classes:
    def code(column: str, codes: dict[str, int]) -> Int:
        return folded[column].replace_strict(codes, return_dtype=pl.Int64).to_numpy()

    held = folded["certifications"].str.split(",")
    names = [name for name in held.explode().unique().to_list() if name]
    return Classes(
        site=code("site_id", trips.sites),
        supplier=code("supplier_id", suppliers),
        grades={column: code(column, {g.name: int(g) for g in grades}) for _, column, grades in GRADES},
        reliability=folded["reliability"].to_numpy(),
        certifications={name: held.list.contains(name).to_numpy() for name in names},
    )
