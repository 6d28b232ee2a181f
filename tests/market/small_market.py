"""A market in memory: commands in, events through their bytes, a clock that the test moves."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from engine.domain.cluster_request import ClusterRequest
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.market import commands
from engine.market.apply import apply
from engine.market.decide import decide, made_by
from engine.market.events import AnyEvent, PricesPublished, decode, encode
from engine.market.published import packed
from engine.market.settle_decision import interruptible_leases
from engine.market.state import Lease, MarketState
from tests.service.loopback import Book, Row

HOUR_S, SECOND_US = 3_600, 1_000_000
START_US = 1_700_000_000_000_000


class SmallMarket:
    """One tenant's market. `log`: the bytes of all events; `replayed` applies them anew."""

    def __init__(self, nodes: Iterable[Row]) -> None:
        self.state, self.now_us, self.log = MarketState(), START_US, list[bytes]()
        frame = pl.DataFrame(list(nodes), schema=FLEET_SCHEMA)
        self.do(commands.LoadFleet(frame, pl.DataFrame([], schema=RTT_SCHEMA)))
        self.epoch = 0

    def do(self, command: commands.Command) -> list[AnyEvent]:
        """Decide and apply a command, after what is due."""
        due = self.state.next_due()
        if due is not None and due[0] <= self.now_us and not isinstance(command, commands.EndDueLeases):
            self.do(commands.EndDueLeases())
        events = decide(self.state, command, self.now_us, Book())
        for event in events:
            self.take(event)
        return events

    def take(self, event: AnyEvent) -> None:
        """Apply an event."""
        self.log.append(encode(event))
        apply(self.state, decode(self.log[-1]))

    def replayed(self) -> MarketState:
        """The state that the log gives."""
        state = MarketState()
        for payload in self.log:
            apply(state, decode(payload))
        return state

    def wait_s(self, seconds: float) -> None:
        """Let time pass; what is due by then ends."""
        self.now_us += round(seconds * SECOND_US)
        self.do(commands.EndDueLeases())

    def publish(
        self,
        posted: int,
        long_run: int,
        half_life_h: float = 48.0,
        volatility: int = 0,
        interruptible: int | None = None,
    ) -> None:
        """An epoch that gives all markets the same prices."""
        names = list(self.state.inventory.market_index)
        column = [posted, 1, 10**9, long_run, posted, volatility, 0]
        self.epoch += 1
        self.do(
            commands.PublishPrices(
                PricesPublished(
                    at_us=0,
                    price_snapshot_id=f"prices-{self.epoch}",
                    epoch=self.epoch,
                    taken_at_us=self.now_us,
                    markets=names,
                    columns=packed(np.array([column] * len(names), dtype=np.int64).T),
                    snapshot=b"",
                    half_life_h=half_life_h,
                    spread_factor=0.4,
                    network_fee_ppm=50_000,
                    demand_kept_us=4 * HOUR_S * SECOND_US,
                    history_kept_us=24 * HOUR_S * SECOND_US,
                    interruptible=b"" if interruptible is None else _packed(interruptible, len(names)),
                )
            )
        )

    def settle(self, notice_s: int = 120) -> list[AnyEvent]:
        """Let interruptible leases pay the prices of now."""
        leases = tuple(interruptible_leases(self.state))
        return self.do(commands.SettleInterruptible(leases, notice_s * SECOND_US))

    def deploy(self, *, lock: bool = False, **wanted: Any) -> Lease:
        """A new lease."""
        request = ClusterRequest(**{"gpu_count": 8, "duration_s": HOUR_S, **wanted})
        events = self.do(commands.DeployCluster("alice", request, None, lock))
        return self.state.leases[made_by(self.state, events, None)]

    def release(self, lease: Lease) -> int:
        """End a lease; what it pays back."""
        before = lease.refunded_micro_usd
        self.do(commands.ReleaseLease("alice", lease.lease_id))
        return lease.refunded_micro_usd - before

    def extend(self, lease: Lease, duration_s: int, most: int | None = None) -> int:
        """Let a lease run longer; what that costs."""
        before = lease.paid_micro_usd
        self.do(commands.ExtendLease("alice", lease.lease_id, duration_s, most))
        return lease.paid_micro_usd - before

    def shrink(self, lease: Lease, replicas: int) -> int:
        """Give a part of a lease back; what that pays back."""
        before = lease.refunded_micro_usd
        self.do(commands.ShrinkLease("alice", lease.lease_id, replicas))
        return lease.refunded_micro_usd - before


def _packed(price: int, markets: int) -> bytes:
    return zlib.compress(np.full(markets, price, dtype="<i8").tobytes())
