"""The oracle's own epochs on one market that somebody tampers with: what it sees, and what it then posts.

`engine.oracle.epoch.next_epoch` runs whole, with references, health, self-dealing and bounds. A posted price
depends on what arrives, not on who is served; so a path of prices is computed first and played through the market
afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from engine.backtest.demand_step import DemandStep
from engine.backtest.scenario import HOUR_S, MICROSECONDS, PARAMETERS, Int, Scenario
from engine.domain.tiers import SecurityTier
from engine.oracle.epoch import MarketView, next_epoch
from engine.oracle.markets import NOBODY, Bids, Market, MarketSets, Supply
from engine.oracle.references import ReferenceQuote
from engine.oracle.snapshot import MarketPrice, PriceSnapshot

OWNER, SECOND_NAME, FIRST_HONEST = 0, 1, 2
"""Tenant codes: the attacker, the attacker under a name that the oracle cannot link to it, everybody else."""
LIST_PRICES_MICRO_USD = (2_400_000, 2_640_000, 2_900_000, 2_640_000)
"""What honest sources say; the fourth is there in attacks on four."""
LISTED = Market("H100", "us-east", SecurityTier.VERIFIED)
EPOCHS_PER_HOUR = HOUR_S * MICROSECONDS // PARAMETERS.epoch_us
_ONE_SET = MarketSets(np.array([0, 1]), np.array([0]))


@dataclass(frozen=True, slots=True)
class Stage:
    """Which market is attacked and when: `demand-step` before its rise, 5,000 GPUs at load 1.6.

    The price opens at its reference `settle_h` before the attack, which starts at hour `start_h` of the market; it
    is followed for `follow_h` from there.
    """

    market: DemandStep = field(default_factory=lambda: DemandStep(days=4, first_high_day=3, last_high_day=3))
    own_share: float = 0.2
    """The attacker's part of the GPUs."""
    start_h: int = 24
    settle_h: int = 16
    attack_h: int = 4
    follow_h: int = 16

    @property
    def start(self) -> int:
        """The attack's first epoch."""
        return self.start_h * EPOCHS_PER_HOUR

    @property
    def end(self) -> int:
        """The first epoch after the attack."""
        return self.start + self.attack_h * EPOCHS_PER_HOUR

    @property
    def last(self) -> int:
        """The first epoch that is not followed."""
        return self.start + self.follow_h * EPOCHS_PER_HOUR

    def gpus(self, share: float) -> int:
        """So many of the market's GPUs."""
        return round(share * self.market.gpus)

    def window_gpu_s(self, share: float) -> int:
        """A share of what can be sold in a window of demand, GPU-seconds."""
        return round(share * PARAMETERS.availability * self.market.gpus * PARAMETERS.window_s)


class AttackBid(NamedTuple):
    """A bid of the attacker. `tenant`: OWNER or SECOND_NAME."""

    value_micro_usd_per_gpu_hour: int
    gpu_seconds: int
    tenant: int


class Tampered(NamedTuple):
    """What an attack makes the oracle see at one epoch."""

    bids: Sequence[AttackBid] = ()
    hidden_gpus: int = 0
    list_prices_micro_usd: Sequence[float] = LIST_PRICES_MICRO_USD[:3]


@dataclass(frozen=True, slots=True)
class Prelude:
    """A seed's market and its untampered epochs up to the attack, which all attacks share."""

    stage: Stage
    scenario: Scenario
    snapshots: tuple[PriceSnapshot, ...]


@dataclass(frozen=True, slots=True)
class PricePath:
    """What was published from the attack's start on, and `before` it."""

    before: tuple[MarketPrice, ...]
    rows: tuple[MarketPrice, ...]

    def column(self, name: str) -> Int:
        """`posted`, `cap`, …, of `rows`: micro-USD per GPU-hour."""
        return _column(self.rows, name)

    def posted_in(self, epochs: int, last: int) -> Int:
        """The posted price of every epoch of a scenario; beyond the path, which ends before `last`, its ends."""
        posted = _column(self.before + self.rows, "posted")
        return np.pad(posted, (last - posted.size, epochs - last), mode="edge")


def prelude(stage: Stage, seed: int) -> Prelude:
    """Draw a seed and let its price settle."""
    scenario = stage.market.draw(seed)
    snapshots: list[PriceSnapshot] = []
    for epoch in range(stage.start - stage.settle_h * EPOCHS_PER_HOUR, stage.start):
        snapshots.append(_step(stage, scenario, snapshots[-1] if snapshots else None, epoch, Tampered()))
    return Prelude(stage, scenario, tuple(snapshots))


def price_path(before: Prelude, tampered: Sequence[Tampered]) -> PricePath:
    """Post prices from the attack's start on, one epoch for each of `tampered`."""
    snapshots = list(before.snapshots)
    for epoch, seen in enumerate(tampered, start=before.stage.start):
        snapshots.append(_step(before.stage, before.scenario, snapshots[-1], epoch, seen))
    rows = tuple(snapshot.markets[0] for snapshot in snapshots)
    return PricePath(rows[: len(before.snapshots)], rows[len(before.snapshots) :])


def _step(
    stage: Stage, scenario: Scenario, last: PriceSnapshot | None, epoch: int, seen: Tampered
) -> PriceSnapshot:
    now_us = epoch * PARAMETERS.epoch_us
    own = stage.gpus(stage.own_share)
    gpus = np.array([own - seen.hidden_gpus, stage.market.gpus - own])
    supply = Supply(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64), gpus, np.array([OWNER, NOBODY]))
    opening = np.array([scenario.start_price_micro_usd_per_gpu_hour])
    quotes = [
        ReferenceQuote(f"source {index}", LISTED.gpu_model, price, now_us)
        for index, price in enumerate(seen.list_prices_micro_usd)
    ]
    attack = _bids(np.array(seen.bids, dtype=np.int64).reshape(-1, 3).T)
    view = MarketView((LISTED,), supply, opening, now_us)
    return next_epoch(last, view, attack, _arrivals(scenario, epoch), quotes, now_us, PARAMETERS)


def _arrivals(scenario: Scenario, epoch: int) -> Bids:
    """Honest arrivals of the window before an epoch; each is a tenant of its own."""
    first, last = int(scenario.window_first[epoch]), int(scenario.edge[epoch])
    value, demand = scenario.value_micro_usd_per_gpu_hour[first:last], scenario.gpu_seconds[first:last]
    return _bids((value, demand, np.arange(first, last) + FIRST_HONEST))


def _bids(columns: Sequence[Int] | Int) -> Bids:
    value, gpu_seconds, tenant = columns
    return Bids(value, gpu_seconds, tenant, np.zeros(value.size, dtype=np.int64), _ONE_SET)


def _column(rows: tuple[MarketPrice, ...], name: str) -> Int:
    return np.array([getattr(row, f"{name}_micro_usd_per_gpu_hour") for row in rows], dtype=np.int64)
