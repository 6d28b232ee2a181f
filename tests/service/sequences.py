"""Seeded random command sequences against an engine in this process, and a dumb twin that follows its events."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import IdempotencyConflict, InvalidInput, NotFound, Overloaded, QuoteUnusable, Refused
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import NodeState, SecurityTier
from engine.market import commands
from engine.market.apply import read_frame
from engine.market.events import (
    AnyEvent,
    FleetLoaded,
    Key,
    LeaseEnded,
    LeaseShrunk,
    LeaseStarted,
    NodeStateSet,
    PricesPublished,
    QuoteEnded,
    QuoteIssued,
    WantedRequest,
)
from engine.market.lease_terms import Terms
from engine.market.published import packed
from engine.market.settle_decision import interruptible_leases
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from tests.service.loopback import PLACES, Book, Clock, Row, node

EXPECTED = (Refused, QuoteUnusable, NotFound, IdempotencyConflict, InvalidInput, Overloaded)
HOLDS = commands.HoldLimits(tenant_gpus_max=7, tenant_quotes_max=2, pool_gpus_free_of_limit=8)
TENANTS = ("alice", "bob")
WAIT_S = 30.0


def load_command(nodes: list[Row], rtts: list[Row], key: Key | None = None) -> commands.LoadFleet:
    """A load of rows."""
    return commands.LoadFleet(pl.DataFrame(nodes, schema=FLEET_SCHEMA), pl.DataFrame(rtts, schema=RTT_SCHEMA), key)


class Sequence:
    """Commands drawn from a seed; what is drawn depends on the seed and on the engine's events only."""

    def __init__(self, seed: int, data_dir: Path) -> None:
        self.draw, self.beside = random.Random(seed), random.Random(f"beside {seed}")
        self.clock, self.data_dir = Clock(), data_dir
        self.engine = Engine(data_dir, Book(), self.clock)
        self.leases: list[tuple[str, str]] = []
        self.quotes: list[tuple[str, str]] = []
        self.past: list[commands.Command] = []
        self.outcomes: Counter[str] = Counter()
        self.epoch = 0

    def reopen(self) -> None:
        """Close the engine and open another on the same directory."""
        self.engine.close()
        self.engine = Engine(self.data_dir, Book(), self.clock)

    def run(self, steps: int) -> None:
        """So many commands, all of them durable in the end; the first is always a load."""
        for _ in range(steps):
            command = self._command() if self.engine.state.inventory.node_ids.size else self._load()
            try:
                events, _ = self.engine.submit(command, NO_STOPWATCH)
            except EXPECTED as refusal:
                self.outcomes[type(refusal).__name__] += 1
                continue
            self.outcomes[type(command).__name__] += 1
            self.past.append(command)
            for event in events:
                self._remember(event)
        self.engine.journal.append([], 0).result(WAIT_S)

    def _remember(self, event: AnyEvent) -> None:
        match event:
            case LeaseStarted():
                self.leases.append((event.tenant_id, event.lease_id))
            case QuoteIssued():
                self.quotes.append((event.tenant_id, event.quote_id))

    def _command(self) -> commands.Command:
        draw = self.draw
        if draw.random() < 0.25:
            self.clock.advance_s(draw.choice((0.000001, 1, 30, 59, 600, 3_600, 30_000, 90_000)))
        if self.past and draw.random() < 0.08:
            return draw.choice(self.past)  # with its key a repeat, without one a second call
        kinds = (
            self._deploy,
            self._quote,
            self._deploy_quote,
            self._release,
            self._extend,
            self._shrink,
            self._release_quote,
            self._set_state,
            self._load,
            self._publish,
            self._note,
            self._settle,
        )
        (kind,) = draw.choices(kinds, weights=(8, 7, 4, 5, 3, 2, 2, 2, 2, 2, 1, 1))
        return kind()

    def _key(self, tenant: str, method: str) -> Key | None:
        if self.draw.random() < 0.5:
            return None
        return Key(tenant, method, f"k{self.draw.randrange(40)}", self.draw.choice((b"one", b"two")))

    def _request(self) -> ClusterRequest:
        draw = self.draw
        wanted: dict[str, Any] = {"gpu_count": draw.choice((1, 1, 2, 3, 4, 8, 12, 20))}
        options: tuple[dict[str, Any], ...] = (
            {"gpu_models": ("H100",)},
            {"allow_mixed_models": True},
            {"max_cluster_rtt_ms": draw.choice((0.0, 30.0, 70.0))},
            {"client_site": "iad1", "max_client_rtt_ms": 80.0},
            {"min_security_tier": SecurityTier.SECURE},
            {"min_reliability": 0.96},
            {"max_supplier_share": 1.0},
            {"max_price_micro_usd_per_gpu_hour": 2_600_000},
            {"excluded_regions": ("us-west",)},
            {"same_fabric": True},
            {"duration_s": draw.choice((1, 59, 7_200, 200_000))},
            {"interruptible": True},
        )
        for option in draw.sample(options, draw.randrange(4)):
            wanted |= option
        beside = self.beside
        if beside.random() < 0.2:
            wanted |= {"cpu_milli": beside.choice((1_000, 3_500)), "memory_mib": beside.choice((None, 900))}
        if wanted["gpu_count"] == 1 and beside.random() < 0.6:
            wanted |= {"gpu_milli": beside.choice((1, 160, 333, 500, 810))}
        return ClusterRequest(**wanted)

    def _deploy(self) -> commands.Command:
        tenant = self.draw.choice(TENANTS)
        key, lock = self._key(tenant, "DeployCluster"), self.draw.random() < 0.2
        return commands.DeployCluster(tenant, self._request(), key, lock)

    def _quote(self) -> commands.Command:
        tenant = self.draw.choice(TENANTS)
        ttl_s = self.draw.choice((1, 60, 3_600))
        hold = self.draw.choice((None, HOLDS))
        return commands.IssueQuote(tenant, self._request(), ttl_s, self._key(tenant, "QuoteCluster"), hold)

    def _release_quote(self) -> commands.Command:
        tenant, quote = self.draw.choice(self.quotes[-6:] or [("alice", "q-none")])
        return commands.ReleaseQuote(tenant, quote, self._key(tenant, "ReleaseQuote"))

    def _publish(self) -> commands.Command:
        """An epoch with any prices: what the market does with them must not depend on their making sense."""
        names = [name for name in self.engine.state.inventory.market_index if self.draw.random() < 0.8]
        names.append(("gone", "gone", "SECURE"))
        rows = [[self.draw.randrange(1_000_000, 4_000_000) for _ in names] for _ in range(7)]
        self.epoch += 1
        event = PricesPublished(
            at_us=0,
            price_snapshot_id=f"prices-{self.epoch}",
            epoch=self.epoch,
            taken_at_us=self.clock.now_us,
            markets=names,
            columns=packed(np.array(rows, dtype=np.int64)),
            snapshot=b"",
            half_life_h=48.0,
            spread_factor=0.4,
            network_fee_ppm=50_000,
            demand_kept_us=4 * 3_600_000_000,
            history_kept_us=24 * 3_600_000_000,
            interruptible=zlib.compress(np.array(rows[0], dtype="<i8").tobytes()) if self.epoch % 3 else b"",
        )
        return commands.PublishPrices(event)

    def _settle(self) -> commands.Command:
        leases = interruptible_leases(self.engine.state)
        return commands.SettleInterruptible((*leases, "l-none"), self.draw.choice((0, 120_000_000)))

    def _note(self) -> commands.Command:
        return commands.NoteDemand((WantedRequest(self.draw.choice(TENANTS), self._request()),))

    def _deploy_quote(self) -> commands.Command:
        tenant, quote = self.draw.choice(self.quotes[-6:] or [("alice", "q-none")])
        return commands.DeployQuote(tenant, quote, self._key(tenant, "DeployCluster"))

    def _release(self) -> commands.Command:
        tenant, lease = self.draw.choice(self.leases[-12:] or [("alice", "l-none")])
        return commands.ReleaseLease(tenant, lease, self._key(tenant, "ReleaseLease"))

    def _extend(self) -> commands.Command:
        tenant, lease = self.draw.choice(self.leases[-12:] or [("alice", "l-none")])
        most = self.draw.choice((None, None, 1))
        key = self._key(tenant, "ExtendLease")
        return commands.ExtendLease(tenant, lease, self.draw.choice((1, 3_600, 90_001)), most, key)

    def _shrink(self) -> commands.Command:
        tenant, lease = self.draw.choice(self.leases[-12:] or [("alice", "l-none")])
        return commands.ShrinkLease(tenant, lease, self.draw.choice((1, 2)), self._key(tenant, "ShrinkLease"))

    def _set_state(self) -> commands.Command:
        name = self.draw.choice(self.engine.state.inventory.sorted_ids)
        return commands.SetNodeState(name, self.draw.choice(list(NodeState)), self._key("alice", "SetNodeState"))

    def _load(self) -> commands.Command:
        draw = self.draw
        names = draw.sample([f"n{i:02d}" for i in range(24)], draw.randrange(0, 9))
        if not self.engine.state.inventory.node_ids.size:
            names = names or ["n00"]
        nodes = [self._node(name) for name in names]
        rtts = [
            {"site_a": a, "site_b": b, "rtt_ms": draw.choice((5.0, 25.0, 60.0))}
            for a in PLACES
            for b in (*PLACES, "elsewhere")
            if a != b and draw.random() < 0.2
        ]
        return load_command(nodes, rtts, self._key("alice", "LoadFleet"))

    def _node(self, name: str) -> Row:
        draw = self.draw
        gpu_count = draw.choice((1, 4, 8, 8, 8))
        return node(
            name,
            gpu_model=draw.choice(("H100", "H100", "A100", "L40S")),
            gpu_count=gpu_count,
            gpu_free=draw.choice((gpu_count, gpu_count, gpu_count // 2)),
            site_id=draw.choice(list(PLACES)),
            supplier_id=draw.choice(("acme", "bolt")),
            security_tier=draw.choice(("SECURE", "COMMUNITY")),
            certifications=draw.choice(([], ["SOC2"], ["TEE", "SOC2"])),
            reliability=draw.choice((0.95, 0.99)),
            fabric_id=draw.choice((None, "f1", "f2")),
            ask_micro_usd_per_gpu_hour=draw.choice((1_000_000, 2_000_000, 3_000_001)),
            state=draw.choice(("READY", "READY", "READY", "DRAINING", "DOWN")),
            cpu_milli=self.beside.choice((None, 4_000, 10_500, 32_000)),
            memory_mib=self.beside.choice((None, 3_000, 64_000)),
        )


class Twin:
    """What the events say, followed with dictionaries: no numpy, no pools, no state of the engine."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.rows: dict[str, Row] = {}
        self.leased: Counter[str] = Counter()
        self.running: dict[str, dict[str, int]] = {}
        self.held: Counter[str] = Counter()
        self.holding: dict[str, dict[str, int]] = {}
        self.parts: dict[str, tuple[str, int, int]] = {}

    def follow(self, event: AnyEvent) -> None:
        """Take in one event."""
        match event:
            case FleetLoaded():
                rows = {row["node_id"]: row for row in read_frame(event.nodes).iter_rows(named=True)}
                self.ids += sorted(rows.keys() - self.rows.keys())
                self.rows |= rows
            case NodeStateSet():
                name = self.ids[event.node]
                self.rows[name] = {**self.rows[name], "state": event.state}
            case LeaseStarted():
                self._give(event.quote_id, self.held, self.holding)
                self.running[event.lease_id] = self._take(event.terms, event.lease_id)
                self.leased.update(self.running[event.lease_id])
            case LeaseShrunk():
                self.leased.subtract(self.running[event.lease_id])
                self.running[event.lease_id] = self._kept(event)
                self.leased.update(self.running[event.lease_id])
            case LeaseEnded():
                self._give(event.lease_id, self.leased, self.running)
            case QuoteIssued() if event.hold:
                self.holding[event.quote_id] = self._take(event.terms, event.quote_id)
                self.held.update(self.holding[event.quote_id])
            case QuoteEnded():
                self._give(event.quote_id, self.held, self.holding)

    def _give(self, name: str, count: Counter[str], placed: dict[str, dict[str, int]]) -> None:
        """A lease or hold is over."""
        count.subtract(placed.pop(name, {}))
        self.parts.pop(name, None)

    def _take_part(self, name: str, terms: Terms) -> dict[str, int]:
        """A part of a card; the card itself is counted by `shared`."""
        node, card = self.ids[int(terms.node_numbers[0])], terms.card
        assert self.rows[node]["state"] == "READY", "law 1: only READY nodes take new work"
        milli = terms.request.gpu_milli or 0
        on_card = sum(part for other, number, part in self.parts.values() if (other, number) == (node, card))
        assert on_card + milli <= 1_000, "law 1: a card carries no more than a whole GPU"
        assert on_card or self.free(node) >= 1, "law 1: no part stands on a card that is taken"
        self.parts[name] = node, card, milli
        return {}

    def shared(self, name: str) -> int:
        """Cards of a node that parts stand on."""
        return len({card for node, card, _ in self.parts.values() if node == name})

    def _take(self, terms: Terms, name: str) -> dict[str, int]:
        """GPUs by node of a placement that is possible now."""
        if terms.request.gpu_milli is not None:
            return self._take_part(name, terms)
        names = [self.ids[number] for number in terms.node_numbers]
        taken = dict(zip(names, terms.gpus_per_node.tolist(), strict=True))
        assert sum(taken.values()) == terms.request.gpu_count, "law 2: a gang is whole"
        for name, gpus in taken.items():
            assert self.rows[name]["state"] == "READY", "law 1: only READY nodes take new work"
            assert 0 < gpus <= self.free(name), "law 1: a GPU is in at most one lease or hold"
        return taken

    def _kept(self, event: LeaseShrunk) -> dict[str, int]:
        """GPUs by node of what stays: a part of what there was."""
        nodes, gpus = (np.frombuffer(column, dtype="<i4").tolist() for column in (event.nodes, event.gpus))
        kept = {self.ids[number]: count for number, count in zip(nodes, gpus, strict=True)}
        before = self.running[event.lease_id]
        assert sum(kept.values()) == event.gpu_count < sum(before.values())
        assert all(0 < count <= before[name] for name, count in kept.items())
        return kept

    def free(self, name: str) -> int:
        """GPUs of a node that can be placed on."""
        row = self.rows[name]
        taken = self.leased[name] + self.held[name] + self.shared(name)
        return row["gpu_free"] - taken if row["state"] == "READY" else 0
