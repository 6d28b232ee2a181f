"""The fleet as columns: node numbers, vocabularies, what is used where, and the pools that placement reads.

A node keeps its number for ever: new nodes get the next numbers, so leases and the journal refer to nodes by
number. GPUs of a node = used outside this engine + leased here + held by quotes + unused; only a READY node's
unused GPUs can be placed on. Leases, holds and new prices change the pools in place; a load folds them anew.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import ConnectivityTier, Interconnect, NodeState, SecurityTier
from engine.market.fleet_columns import (
    Freed,
    Glance,
    Sites,
    grades,
    masks,
    merge_pairs,
)
from engine.market.priced_fleet import PricedFleet
from engine.market.use import Use
from engine.market.vocabulary import Vocabulary, vocabulary
from solvers import node_rows
from solvers.distances import Distances
from solvers.placement import Demand
from solvers.pools import NodeColumns
from solvers.spare import NOT_LIMITED, Spare

Int = NDArray[np.int64]
READY = int(NodeState.READY)
assert node_rows.READY == READY
_TIERS = tuple(tier.name for tier in SecurityTier)


class Inventory(PricedFleet):
    """All nodes by number. `frame` holds the loaded rows in number order; the arrays are derived from it.

    `markets` (markets,): sorted market keys, `market` (nodes,): each node's place among them. `unused` (nodes,):
    GPUs neither leased or held here nor used outside, whatever the node's state; `held` (nodes,): held by quotes,
    `held_milli` (nodes,): thousandths in parts that quotes hold. A card of which a part is leased or held counts
    as leased. `cpu_milli`, `memory_mib` (nodes,): what there is, `spare`: what is left, also of shared cards.
    `kind` (markets,): model and tier as one number. `posted_of_market`, `long_run` (markets,): where the forward
    curves begin and end. `pools` and `placer` are there once prices are.
    """

    def __init__(self, frame: pl.DataFrame, rtt: pl.DataFrame) -> None:
        self.frame, self.rtt = frame, rtt
        self.node_ids = frame["node_id"].to_numpy().astype(object)
        self.number = {node_id: index for index, node_id in enumerate(frame["node_id"].to_list())}
        self.models = vocabulary(frame["gpu_model"])
        self.model_count = len(self.models)
        self.regions = vocabulary(frame["region"])
        self.countries = vocabulary(frame["country"])
        self.suppliers = vocabulary(frame["supplier_id"])
        self.certifications = vocabulary(frame["certifications"].explode())
        self.sites = self._sites()
        self.all_sites = np.ones(len(self.sites.names), dtype=bool)
        self.nodes = self._nodes()
        region = self.sites.region[self.nodes.site]
        market = (self.nodes.model * max(len(self.regions), 1) + region) * len(_TIERS) + self.nodes.tier
        self.markets, self.market = np.unique(market, return_inverse=True)
        of_model, tier_of_market = np.divmod(self.markets, len(_TIERS))
        self.kind = of_model // max(len(self.regions), 1) * len(_TIERS) + tier_of_market
        self.sorted_ids: list[str] = frame["node_id"].sort().to_list()
        self.unused = frame["gpu_free"].to_numpy().astype(np.int64)
        self.outside = self.nodes.gpu_count - self.unused
        self.held = np.zeros(frame.height, dtype=np.int64)
        self.held_milli = np.zeros(frame.height, dtype=np.int64)
        self.freed = Freed(frame.height)
        self.state = grades(frame["state"], NodeState)
        self.cpu_milli, self.memory_mib = (
            frame[column].fill_null(NOT_LIMITED).to_numpy().astype(np.int64)
            for column in ("cpu_milli", "memory_mib")
        )
        most = int(self.nodes.gpu_count.max(initial=0))
        self.spare = Spare(self.cpu_milli.copy(), self.memory_mib.copy(), most)
        self.demands: dict[tuple[Any, ...], Demand] = {}
        """By `wish_of` their requests; the fleet's columns never change, so they hold as long as it."""
        self.audited_hours: object = None
        """What the audit of prices keeps; nobody else reads it."""
        self._names_of_market: dict[int, tuple[str, str, str]] = {}
        self._listed: tuple[list[tuple[str, str, str]], Int] = [], np.empty(0, dtype=np.int64)
        self.distances = self._distances()
        self.measured_ms = {(min(a, b), max(a, b)): rtt_ms for a, b, rtt_ms in rtt.sort("rtt_ms").iter_rows()}
        self._lay_side_by_side()
        self.price_snapshot_id = ""
        self.posted_of_market = self.long_run = np.zeros(self.markets.size, dtype=np.int64)
        self.half_life_h = 1.0

    @classmethod
    def empty(cls) -> Inventory:
        """No nodes yet."""
        return cls(pl.DataFrame(schema=FLEET_SCHEMA), pl.DataFrame(schema=RTT_SCHEMA))

    def merged_frame(self, nodes: pl.DataFrame) -> pl.DataFrame:
        """The rows of this inventory with nodes added or replaced, in number order."""
        known = nodes.filter(pl.col("node_id").is_in(self.frame["node_id"].implode()))
        new = nodes.join(known.select("node_id"), on="node_id", how="anti").sort("node_id")
        frame = self.frame
        if known.height:
            frame = frame.update(known, on="node_id", how="left", include_nulls=True)
        return pl.concat([frame, new])

    def merged(self, nodes: pl.DataFrame, rtt: pl.DataFrame) -> Inventory:
        """This inventory with nodes and measured pairs added or replaced.

        Numbers and leases are kept, and so is the state of nodes that are not named.
        """
        merged = Inventory(self.merged_frame(nodes), merge_pairs(self.rtt, rtt))
        merged.unused[: self.unused.size] -= self.leased + self.held
        merged.held[: self.held.size] = self.held
        merged.held_milli[: self.held.size] = self.held_milli
        cpu_taken, memory_taken, _, shared_cards = self.beside()
        merged.spare.cpu_milli[: cpu_taken.size] -= cpu_taken
        merged.spare.memory_mib[: memory_taken.size] -= memory_taken
        merged.spare.cards.restore(shared_cards)
        unnamed = np.setdiff1d(
            np.arange(self.state.size), [self.number[name] for name in nodes["node_id"] if name in self.number]
        )
        merged.state[unnamed] = self.state[unnamed]
        return merged

    @property
    def free(self) -> Int:
        """GPUs of each node that can be placed on now."""
        return np.where(self.state == READY, self.unused, 0)

    def glance(self, nodes: Int) -> Glance:
        """What every placement needs to know of some nodes, read at once."""
        return Glance(*node_rows.columns_of(self._side_by_side, nodes, self.posted_of_market))

    @property
    def leased(self) -> Int:
        """GPUs of each node that are leased here."""
        leased: Int = self.nodes.gpu_count - self.outside - self.unused - self.held
        return leased

    def market_names(self, key: int) -> tuple[str, str, str]:
        """(GPU model, region, security tier) of a market key."""
        names = self._names_of_market.get(key)
        if names is None:
            rest, tier = divmod(int(key), len(_TIERS))
            model, region = divmod(rest, max(len(self.regions), 1))
            names = self.models.names[model], self.regions.names[region], _TIERS[tier]
            self._names_of_market[key] = names
        return names

    @cached_property
    def names_by_place(self) -> list[tuple[str, str, str]]:
        """`market_names` of all `markets`."""
        return [self.market_names(key) for key in self.markets.tolist()]

    @cached_property
    def market_index(self) -> dict[tuple[str, str, str], int]:
        """Place among `markets` of (GPU model, region, security tier)."""
        return {self.market_names(key): place for place, key in enumerate(self.markets.tolist())}

    def places_of(self, markets: list[tuple[str, str, str]]) -> Int:
        """The place of each name among `markets`, -1 if it is none. A list that comes again is looked up once."""
        if self._listed[0] is not markets:
            known = self.market_index
            self._listed = markets, np.array([known.get(market, -1) for market in markets], dtype=np.int64)
        return self._listed[1]

    @cached_property
    def by_price(self) -> Int:
        """All nodes, cheapest at the prices of now first, (nodes,)."""
        return np.argsort(self.node_prices, kind="stable")

    def rtt_from(self, site: str) -> NDArray[np.float64]:
        """RTT in ms from a named site to all sites of the fleet, shape (sites,).

        A site outside the fleet has no coordinates, so NaN where nothing was measured.
        """
        code = self.sites.names.code.get(site)
        if code is not None:
            return self.distances.from_site(code)
        row = np.full(len(self.sites.names), np.nan)
        for one, other in (("site_a", "site_b"), ("site_b", "site_a")):
            measured = self.rtt.filter(pl.col(one) == site)
            for name, rtt_ms in zip(measured[other].to_list(), measured["rtt_ms"].to_list(), strict=True):
                if name in self.sites.names.code:
                    row[self.sites.names.code[name]] = rtt_ms
        return row

    @property
    def node_prices(self) -> Int:
        """What an hour of one GPU costs on each node now, (nodes,)."""
        return np.maximum(self.nodes.ask_micro_usd, self.posted)

    @property
    def is_open(self) -> NDArray[np.bool_]:
        """Which nodes take new work, (nodes,)."""
        is_open: NDArray[np.bool_] = self.state == READY
        return is_open

    def take(self, use: Use, *, held: bool = False) -> None:
        """Lease or hold what a placement takes, in place."""
        self._take(use, 1, held=held)

    def give(self, use: Use, *, held: bool = False) -> None:
        """Give back what a placement took, in place."""
        self._take(use, -1, held=held)

    def beside(self) -> tuple[Int, Int, Int, Int]:
        """(CPU taken, memory taken, thousandths held, each (nodes,); `Cards.table` of shared cards)."""
        spare = self.spare
        taken = self.cpu_milli - spare.cpu_milli, self.memory_mib - spare.memory_mib
        return *taken, self.held_milli, spare.cards.table()

    def has_room(self, use: Use) -> NDArray[np.bool_]:
        """Which of its nodes have unused what a placement takes there, (nodes,)."""
        room: NDArray[np.bool_] = self.unused[use.nodes] >= use.gpus
        if use.gpu_milli:
            left = self.spare.cards.of(int(use.nodes[0])).get(use.card)
            if left is not None:
                room = np.array([left >= use.gpu_milli])
        if use.cpu_milli:
            room = room & (self.spare.cpu_milli[use.nodes] >= use.cpu_milli * use.replicas)
        if use.memory_mib:
            room = room & (self.spare.memory_mib[use.nodes] >= use.memory_mib * use.replicas)
        return room

    def _take(self, use: Use, sign: int, *, held: bool) -> None:
        gpus = sign * use.gpus
        if not use.is_plain:
            self.spare.cpu_milli[use.nodes] -= sign * use.cpu_milli * use.replicas
            self.spare.memory_mib[use.nodes] -= sign * use.memory_mib * use.replicas
        if use.gpu_milli:
            move = self.spare.cards.take if sign > 0 else self.spare.cards.give
            gpus = gpus * move(int(use.nodes[0]), use.card, use.gpu_milli)
            self.held_milli[use.nodes] += sign * use.gpu_milli * held
        elif held:
            self.held[use.nodes] += gpus
        self.lease(use.nodes, gpus)
        if sign < 0:
            self.freed.note(use.nodes)

    def lease(self, nodes: Int, gpus: Int) -> None:
        """Add leased whole GPUs (negative: give them back) to distinct nodes, in place."""
        free = node_rows.take_gpus(self._side_by_side, nodes, gpus)
        if gpus.size and gpus[0] < 0:
            self.freed.note(nodes)
        self._show_free(nodes, free)

    def set_state(self, node: int, state: NodeState) -> None:
        """Change a node's state in place."""
        self.set_states(np.array([node]), state)

    def set_states(self, nodes: Int, state: NodeState) -> None:
        """Change the state of distinct nodes in place."""
        self.state[nodes] = int(state)
        if state is NodeState.READY:
            self.freed.note(nodes)
        is_open = state is NodeState.READY
        self.spare.is_open[nodes] = is_open
        self._show_free(nodes, self.unused[nodes] if is_open else np.zeros_like(nodes))

    def _show_free(self, nodes: Int, free: Int) -> None:
        """Let placement see what is free on some nodes now."""
        self.freed.revision += 1
        self.pools.set_free(nodes, free)

    def _sites(self) -> Sites:
        first = self.frame.unique("site_id", keep="first").sort("site_id")
        return Sites(
            names=Vocabulary(first["site_id"].to_list()),
            region=self.regions.encode(first["region"]),
            country=self.countries.encode(first["country"]),
            latitude=first["latitude"].to_numpy().astype(np.float64),
            longitude=first["longitude"].to_numpy().astype(np.float64),
        )

    def _nodes(self) -> NodeColumns:
        frame = self.frame
        order = frame["node_id"].arg_sort().to_numpy().astype(np.int64)
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        return NodeColumns(
            model=self.models.encode(frame["gpu_model"]),
            site=self.sites.names.encode(frame["site_id"]),
            tier=grades(frame["security_tier"], SecurityTier),
            certifications=masks(frame["certifications"], self.certifications),
            connectivity=grades(frame["connectivity_tier"], ConnectivityTier),
            interconnect=grades(frame["interconnect"], Interconnect),
            fabric=vocabulary(frame["fabric_id"]).encode(frame["fabric_id"]),
            supplier=self.suppliers.encode(frame["supplier_id"]),
            gpu_count=frame["gpu_count"].to_numpy().astype(np.int64),
            ask_micro_usd=frame["ask_micro_usd_per_gpu_hour"].to_numpy().astype(np.int64),
            reliability=frame["reliability"].to_numpy().astype(np.float64),
            rank=rank,
        )

    def _lay_side_by_side(self) -> None:
        """Put what every placement reads of a node into one cache line: the columns become views of one table, in
        the order of `solvers.node_rows`."""
        nodes = self.nodes
        columns = (
            nodes.rank,
            nodes.model,
            nodes.site,
            nodes.ask_micro_usd,
            self.market,
            self.state,
            self.unused,
            np.zeros_like(self.unused),  # eight columns are a line
        )
        self._side_by_side = np.stack(columns, axis=1)
        rank, model, site, ask, self.market, self.state, self.unused, _ = self._side_by_side.T
        self.nodes = replace(nodes, rank=rank, model=model, site=site, ask_micro_usd=ask)

    def _distances(self) -> Distances:
        code = self.sites.names.code
        site_a = [code.get(name, -1) for name in self.rtt["site_a"].to_list()]
        site_b = [code.get(name, -1) for name in self.rtt["site_b"].to_list()]
        return Distances(
            self.sites.latitude,
            self.sites.longitude,
            np.array(site_a, dtype=np.int64),
            np.array(site_b, dtype=np.int64),
            self.rtt["rtt_ms"].to_numpy().astype(np.float64),
        )
