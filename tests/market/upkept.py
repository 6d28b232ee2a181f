"""A market with the work that an engine does by itself, without service, journal or time."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import polars as pl

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import InvalidInput, NotFound, Overloaded, QuoteUnusable, Refused
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import NodeState, SecurityTier
from engine.market import commands
from engine.market.apply import apply
from engine.market.decide import decide
from engine.market.events import AnyEvent, PricesPublished, decode, encode
from engine.market.lease_terms import Terms
from engine.market.published import packed
from engine.market.state import MarketState
from engine.service.failure_runner import Repairs
from engine.service.order_runner import OrderRunner
from tests.market.books import NoBook
from tests.service.loopback import PLACES, Row, node

EXPECTED = (InvalidInput, Refused, NotFound, Overloaded, QuoteUnusable)
HOLDS = commands.HoldLimits()
RTT = [{"site_a": "iad1", "site_b": "sfo1", "rtt_ms": 60.0}]


class Upkept:
    """Stands in for an engine: decides, notes the bytes of the events, applies. `settle`: repairs, then orders."""

    def __init__(self) -> None:
        self.state, self.book, self.clock_us = MarketState(), NoBook(), 1_700_000_000_000_000
        self.bytes: list[bytes] = []
        self.events: list[AnyEvent] = []
        self.repairs, self.orders = Repairs(self), OrderRunner(self)  # type: ignore[arg-type]
        self.after_event: Callable[[AnyEvent], None] = lambda event: None

    def now_us(self) -> int:
        return self.clock_us

    def submit(self, command: commands.Command, stopwatch: Any = None) -> tuple[list[AnyEvent], None]:
        events = decide(self.state, commands.EndDueLeases(), self.clock_us, self.book)
        self._take(events)
        events = decide(self.state, command, self.clock_us, self.book)
        self._take(events)
        return events, None

    def _take(self, events: list[AnyEvent]) -> None:
        for event in events:
            self.bytes.append(encode(event))
            self.events.append(event)
            apply(self.state, event)
            self.after_event(event)

    def settle(self) -> None:
        self._take(decide(self.state, commands.EndDueLeases(), self.clock_us, self.book))
        while self.repairs.step() or self.orders.step():
            pass

    def load(self, *rows: Row) -> None:
        nodes, rtt = pl.DataFrame(rows, schema=FLEET_SCHEMA), pl.DataFrame(RTT, schema=RTT_SCHEMA)
        self.submit(commands.LoadFleet(nodes, rtt))

    def place(self, request: ClusterRequest, ttl_s: int = 3_600, **fields: Any) -> str:
        events, _ = self.submit(commands.PlaceOrder("alice", request, ttl_s, **fields))
        return str(events[0].order_id)  # type: ignore[union-attr]

    def deploy(self, request: ClusterRequest, **fields: Any) -> str:
        events, _ = self.submit(commands.DeployCluster("bob", request, **fields))
        return str(events[0].lease_id)  # type: ignore[union-attr]

    def release(self, lease_id: str) -> None:
        self.submit(commands.ReleaseLease(self.state.leases[lease_id].tenant_id, lease_id))

    def lose(self, *node_ids: str) -> list[AnyEvent]:
        """Let heartbeats tell that nodes are lost."""
        return self.submit(commands.NoteHeartbeats(NONE, self.numbers(*node_ids), NONE))[0]

    def numbers(self, *node_ids: str) -> Any:
        return np.array(sorted(self.state.inventory.number[each] for each in node_ids), dtype=np.int64)

    def publish(self, prices: dict[tuple[str, str, str], tuple[int, int]]) -> None:
        """An epoch with these posted and long-run prices."""
        epoch, names = self.state.oracle.epoch + 1, sorted(prices)
        columns = np.ones((7, len(names)), dtype=np.int64)
        columns[0], columns[3] = np.array([prices[name] for name in names], dtype=np.int64).reshape(-1, 2).T
        event = PricesPublished(
            at_us=0,
            price_snapshot_id=f"prices-{epoch}",
            epoch=epoch,
            taken_at_us=self.clock_us,
            markets=names,
            columns=packed(columns),
            snapshot=b"",
            half_life_h=48.0,
            spread_factor=0.4,
            network_fee_ppm=50_000,
            demand_kept_us=4 * 3_600_000_000,
            history_kept_us=24 * 3_600_000_000,
        )
        self.submit(commands.PublishPrices(event))

    def replayed(self) -> MarketState:
        state = MarketState()
        for payload in self.bytes:
            apply(state, decode(payload))
        return state

    def standing(self, lease_id: str) -> Terms:
        return self.state.leases[lease_id].standing

    def where(self, lease_id: str) -> dict[str, int]:
        """GPUs by node id."""
        terms = self.standing(lease_id)
        names = self.state.inventory.node_ids[terms.node_numbers].tolist()
        return dict(zip(names, terms.gpus_per_node.tolist(), strict=True))


NONE = np.empty(0, dtype=np.int64)


class Life:
    """A random life of a market: what is drawn depends on the draw and on the market only."""

    def __init__(self, draw: random.Random) -> None:
        self.draw, self.market = draw, Upkept()
        self.market.load(*(self.row(f"n{i:02d}") for i in range(draw.randrange(4, 14))))

    def act(self) -> None:
        """One command, whatever becomes of it."""
        draw = self.draw
        acts = (self.place, self.deploy, self.release, self.fail, self.price, self.hold, self.load, self.wait)
        (act,) = draw.choices(acts, weights=(8, 6, 3, 7, 3, 1, 1, 2))
        with suppress(*EXPECTED):
            act()

    def request(self) -> ClusterRequest:
        draw = self.draw
        g = draw.choice((1, 1, 2, 4))
        wanted: dict[str, Any] = {"gpu_count": g * draw.choice((1, 2, 3, 4, 6)), "gpus_per_node": g}
        options: tuple[dict[str, Any], ...] = (
            {"gpu_models": ("H100",)},
            {"allow_mixed_models": True},
            {"max_cluster_rtt_ms": draw.choice((0.0, 30.0, 70.0))},
            {"client_site": "iad1", "max_client_rtt_ms": 80.0},
            {"min_security_tier": SecurityTier.SECURE},
            {"certifications": ("SOC2",)},
            {"min_reliability": 0.96},
            {"max_supplier_share": 0.5} if wanted["gpu_count"] >= 2 * g else {},
            {"excluded_suppliers": ("bolt",)},
            {"excluded_regions": ("us-west",)},
            {"same_fabric": True},
            {"duration_s": draw.choice((59, 7_200, 20_000))},
        )
        for option in draw.sample(options, draw.randrange(4)):
            wanted |= option
        if draw.random() < 0.2:
            wanted = {"gpu_count": 12, "gpus_per_node": 2, "max_cluster_rtt_ms": 30.0}
        return ClusterRequest(**wanted | self.needs(wanted))

    def needs(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """What some requests want beside GPUs, or instead of a whole one."""
        draw, needs = self.draw, dict[str, Any]()
        if draw.random() < 0.3:
            needs |= {"cpu_milli": draw.choice((1_000, 3_500)), "memory_mib": draw.choice((None, 900))}
        if "max_supplier_share" not in wanted and draw.random() < 0.4:
            needs |= {"gpu_count": 1, "gpus_per_node": 1, "gpu_milli": draw.choice((1, 160, 333, 500, 810))}
        return needs

    def limited(self) -> ClusterRequest:
        request = self.request()
        limit = self.draw.choice((1_000_000, 1_999_999, 2_500_000, 9_000_000))
        return ClusterRequest(
            **{name: getattr(request, name) for name in request.__slots__ if name != LIMIT}, **{LIMIT: limit}
        )

    def place(self) -> None:
        draw, market = self.draw, self.market
        if draw.random() < 0.15 and market.state.open_orders:
            order = market.state.orders[draw.choice(list(market.state.open_orders))]
            market.submit(commands.CancelOrder(order.tenant_id, order.order_id))
            return
        retry = {"once": draw.random() < 0.1, "retry_on_loss_s": draw.choice((0, 900))}
        priority = draw.choice((0, 0, 50))
        market.place(self.limited(), draw.choice((60, 3_600, 90_000)), priority=priority, **retry)

    def deploy(self) -> None:
        self.market.deploy(self.request(), retry_on_loss_s=self.draw.choice((0, 900)))

    def release(self) -> None:
        active = [lease for lease in self.market.state.leases.values() if lease.runs]
        if active:
            self.market.release(self.draw.choice(active).lease_id)

    def fail(self) -> None:
        """Nodes are lost, come back, drain, or are set by hand."""
        draw, market = self.draw, self.market
        some = draw.sample(market.state.inventory.sorted_ids, draw.choice((1, 1, 2, 4)))
        kind = draw.randrange(6)
        if kind < 2:
            market.lose(*some)
        elif kind == 2:
            back = np.array(sorted(market.state.liveness.lost), dtype=np.int64)
            market.submit(commands.NoteHeartbeats(market.numbers(*some), NONE, back))
        elif kind < 5:
            market.submit(commands.DrainNode(some[0], draw.choice((0, 300))))
        else:
            market.submit(commands.SetNodeState(some[0], draw.choice(list(NodeState))))

    def price(self) -> None:
        draw = self.draw
        names = [name for name in self.market.state.inventory.market_index if draw.random() < 0.7]
        levels = (500_000, 1_000_000, 2_000_000, 2_400_000, 3_000_000)
        self.market.publish({name: (draw.choice(levels), draw.choice(levels)) for name in names})

    def hold(self) -> None:
        self.market.submit(commands.IssueQuote("alice", self.request(), 60, None, HOLDS))

    def load(self) -> None:
        self.market.load(*(self.row(f"n{self.draw.randrange(16):02d}") for _ in range(1)))

    def wait(self) -> None:
        self.market.clock_us += self.draw.choice((1, 60, 600, 10_000)) * 1_000_000

    def row(self, name: str) -> Row:
        draw = self.draw
        gpu_count = draw.choice((4, 8, 8))
        return node(
            name,
            gpu_model=draw.choice(("H100", "H100", "A100")),
            gpu_count=gpu_count,
            site_id=draw.choice(list(PLACES)),
            supplier_id=draw.choice(("acme", "bolt", "core")),
            security_tier=draw.choice(("SECURE", "COMMUNITY")),
            certifications=draw.choice(([], ["SOC2"])),
            reliability=draw.choice((0.95, 0.99)),
            fabric_id=draw.choice((None, "f1")),
            ask_micro_usd_per_gpu_hour=draw.choice((900_000, 2_000_000, 3_000_001)),
            cpu_milli=draw.choice((None, 4_000, 10_500, 32_000)),
            memory_mib=draw.choice((None, 3_000, 64_000)),
        )


LIMIT = "max_price_micro_usd_per_gpu_hour"
