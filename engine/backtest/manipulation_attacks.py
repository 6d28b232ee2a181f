"""Attacks on a price, and what each makes the oracle see. All act one second before an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from engine.backtest.manipulation_market import (
    LIST_PRICES_MICRO_USD,
    OWNER,
    SECOND_NAME,
    AttackBid,
    Stage,
    Tampered,
)
from engine.backtest.scenario import HOUR_S, MICROSECONDS, PARAMETERS

BID_MICRO_USD = 3_000_000
"""Price limit of every bid of an attacker: above every cap, beyond which no price can be pushed."""
BURST_KEPT_S = 60
"""How long the leases of a burst run."""


@dataclass(frozen=True, slots=True)
class Attack:
    """What is done; in shares of the market's GPUs, or of what they can sell in a window. 0 does nothing."""

    own_leases: float = 0.0
    """GPUs of its own that the attacker leases to itself until the end."""
    in_own_name: bool = False
    """It does so as the identity that owns the GPUs."""
    hidden: float = 0.0
    """GPUs of its own that it takes off the market."""
    burst: float = 0.0
    """Window's supply in leases on free GPUs (`burst_gpus`), released after a minute."""
    burst_gpus: float = 0.0
    released_count_as_used: bool = False
    """A released lease counts as demand for the time it ran, else for the time it was made for."""
    wishes: float = 0.0
    """Window's supply in quotes that are never taken; they stand in the window as unserved demand."""
    orders: float = 0.0
    """Window's supply in an order that no free capacity can serve, cancelled right after the epoch."""
    order_every_epoch: bool = False
    lie: float | None = None
    """What the lying source says, over its honest price."""
    sources: int = 3


ATTACKS = {
    "wash leases, own name": Attack(own_leases=0.1, in_own_name=True),
    "wash leases, second name": Attack(own_leases=0.1),
    "withheld supply": Attack(hidden=0.1),
    "one of 3 sources says x10": Attack(lie=10.0),
    "one of 3 sources says /10": Attack(lie=0.1),
    "one of 3 sources says NaN": Attack(lie=math.nan),
    "one of 4 sources says x10": Attack(lie=10.0, sources=4),
    "one of 4 sources says NaN": Attack(lie=math.nan, sources=4),
    "burst: leases, released": Attack(burst=1.1, burst_gpus=0.08),
    "burst: leases, released, counted as used": Attack(burst=1.1, burst_gpus=0.08, released_count_as_used=True),
    "burst: quotes never taken": Attack(wishes=1.1),
    "burst: quotes never taken, 1 % of supply": Attack(wishes=0.01),
    "burst: an order, one epoch": Attack(orders=1.1),
    "burst: an order, every epoch": Attack(orders=1.1, order_every_epoch=True),
    "wash, burst and lie, of 3 sources": Attack(own_leases=0.1, burst=1.1, burst_gpus=0.08, lie=10.0),
    "the same, as the engine counts": Attack(
        own_leases=0.1, burst=1.1, burst_gpus=0.08, released_count_as_used=True, wishes=0.01, lie=10.0
    ),
    "the same, one of 4 sources": Attack(
        own_leases=0.1, burst=1.1, burst_gpus=0.08, released_count_as_used=True, wishes=0.01, lie=10.0, sources=4
    ),
}
"""By the name in the table."""


def what_is_seen(attack: Attack, stage: Stage) -> list[Tampered]:
    """What the oracle sees at each epoch from the start of an attack on."""
    return [
        Tampered(
            bids=[*_standing_bids(attack, stage, epoch), *_orders(attack, stage, epoch)],
            hidden_gpus=stage.gpus(attack.hidden) if epoch < stage.end else 0,
            list_prices_micro_usd=_list_prices(attack, epoch < stage.end),
        )
        for epoch in range(stage.start, stage.last)
    ]


def _standing_bids(attack: Attack, stage: Stage, epoch: int) -> Iterator[AttackBid]:
    """Leases and wishes of the second before the start stand in the window of demand for as long as it is."""
    if (epoch - stage.start) * PARAMETERS.epoch_us >= PARAMETERS.window_s * MICROSECONDS:
        return
    own_s = stage.gpus(attack.own_leases) * stage.attack_h * HOUR_S
    yield AttackBid(BID_MICRO_USD, own_s, OWNER if attack.in_own_name else SECOND_NAME)
    is_used = attack.released_count_as_used and epoch > stage.start
    burst_s = stage.gpus(attack.burst_gpus) * BURST_KEPT_S if is_used else stage.window_gpu_s(attack.burst)
    yield AttackBid(BID_MICRO_USD, burst_s + stage.window_gpu_s(attack.wishes), SECOND_NAME)


def _orders(attack: Attack, stage: Stage, epoch: int) -> Iterator[AttackBid]:
    if epoch == stage.start or (attack.order_every_epoch and epoch < stage.end):
        yield AttackBid(BID_MICRO_USD, stage.window_gpu_s(attack.orders), SECOND_NAME)


def _list_prices(attack: Attack, lasts: bool) -> tuple[float, ...]:
    """The liar is the fourth source, or the middle one of three: the one whose lie moves the median most."""
    said: list[float] = list(LIST_PRICES_MICRO_USD[: attack.sources])
    if attack.lie is not None and lasts:
        said[3 if attack.sources == 4 else 1] *= attack.lie
    return tuple(said)
