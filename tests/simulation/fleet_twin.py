"""The part of the twin that knows nodes and prices, and whether a placement is right there."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from engine.market.apply import read_frame
from engine.market.events import FleetLoaded, PricesPublished
from engine.market.lease_terms import Terms
from tests.checker import violations
from tests.service.loopback import POSTED_MICRO_USD, Row
from tests.simulation.things import Placement, row_of

SECOND_US = 1_000_000
OWN_FAULT = {"NODE_LOST", "SUPPLIER_DRAINED", "OUTBID", "DISPLACED"}
READY, DRAINING, DOWN = "READY", "DRAINING", "DOWN"


@dataclass
class FleetTwin:
    """`taken`, `held`: GPUs of each node in leases and in holds. `until_us`: when leases must have left a node."""

    ids: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    posted: dict[tuple[str, str, str], int] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    until_us: dict[str, int] = field(default_factory=dict)
    version: int = 0
    found: list[str] = field(default_factory=list)

    def _fault(self, law: int, told: str) -> None:
        self.found.append(f"law {law}: event {self.version}: {told}")

    def _load(self, event: FleetLoaded) -> None:
        rows = {row["node_id"]: row for row in read_frame(event.nodes).iter_rows(named=True)}
        self.ids += sorted(rows.keys() - self.rows.keys())
        self.rows = self.rows | rows
        self.until_us = {name: at for name, at in self.until_us.items() if self.rows[name]["state"] == DRAINING}
        for name, row in rows.items():
            if self.taken[name] + self.held[name] > row["gpu_free"]:
                self._fault(1, f"{name} was loaded with fewer GPUs than are in use")

    def _post(self) -> None:
        """A load posts the book's prices where no oracle published any."""
        for row in self.rows.values():
            name = row["gpu_model"], row["region"], row["security_tier"]
            self.posted.setdefault(name, POSTED_MICRO_USD.get(row["gpu_model"], 0))

    def _publish(self, event: PricesPublished) -> None:
        columns = np.frombuffer(zlib.decompress(event.columns), dtype="<i8").reshape(-1, len(event.markets))
        self.posted = self.posted | dict(zip(event.markets, columns[0].tolist(), strict=True))

    def _set_state(self, nodes: list[int], state: str, until_us: int = 0) -> None:
        for node in nodes:
            self.until_us.pop(self.ids[node], None)
            if until_us:
                self.until_us[self.ids[node]] = until_us
        changed = {self.ids[node]: {**self.rows[self.ids[node]], "state": state} for node in nodes}
        self.rows = self.rows | changed

    def free(self, name: str) -> int:
        row = self.rows[name]
        return row["gpu_free"] - self.taken[name] - self.held[name] if row["state"] == READY else 0

    def _placement(self, nodes: bytes, gpus: bytes) -> Placement:
        numbers = np.frombuffer(nodes, "<i4").tolist()
        placement = {self.ids[number]: 0 for number in numbers}
        for number, count in zip(numbers, np.frombuffer(gpus, "<i4").tolist(), strict=True):
            placement[self.ids[number]] += count
        return placement

    def _check_new(
        self, terms: Terms, placement: Placement, own: Placement, *, priced: bool, planned: bool
    ) -> None:
        """Whether GPUs are there for a new place, and it keeps all constraints. `own`: given back first."""
        used = []
        for name in placement:
            row = self.rows[name]
            unused = row["gpu_free"] - self.taken[name] - self.held[name] + own.get(name, 0)
            stays = placement[name] <= own.get(name, 0)
            state = READY if stays and row["state"] == DRAINING else row["state"]
            used.append({**row, "gpu_free": unused, "state": state})
            if placement[name] > unused:
                self._fault(1, f"{name} has {unused} GPUs unused and gives {placement[name]}")
        prices = None
        if priced:
            prices = dict(zip(placement, terms.prices.tolist(), strict=True)) if not planned else None
        if planned and any(
            price < self.rows[name]["ask_micro_usd_per_gpu_hour"]
            for name, price in zip(placement, terms.prices.tolist(), strict=True)
        ):
            self._fault(3, "a plan sells below an ask")
        request = row_of(terms)
        for told in violations(used, [], self.posted if priced else {}, request, placement, prices):
            kind = told.partition(":")[0]
            if kind in ("gpu_count", "gpus_per_node"):
                self._fault(2, told)
            elif priced or kind not in ("price", "max_price"):
                self._fault(3, told)
