"""What moving the price costs, attack by attack: wash leases, withheld supply, a lying source, a burst.

The attacker owns a fifth of the market's GPUs. The same seed is played with and without each attack.
docs/manipulation.md has the table and what follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from engine.backtest.manipulation_attacks import ATTACKS, BID_MICRO_USD, BURST_KEPT_S, Attack, what_is_seen
from engine.backtest.manipulation_market import (
    EPOCHS_PER_HOUR,
    Prelude,
    PricePath,
    Stage,
    prelude,
    price_path,
)
from engine.backtest.policies import Seen
from engine.backtest.scenario import HOUR_S, MICROSECONDS, PARAMETERS
from engine.backtest.simulation import play

SEEDS = 4
MOVED = 0.01
"""A price counts as moved while it is off by this share."""
FEE = PARAMETERS.network_fee_ppm / 1_000_000

Table = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack bought and cost. Shares of the price without it; money in micro-USD, of the attacker."""

    peak: float
    """The posted price's largest move, with its sign."""
    mean: float
    """Mean move while the attack lasts."""
    hours_moved: float
    """How long the posted price was off by 1 % or more."""
    cap: float
    """The cap's largest move, with its sign."""
    cost_micro_usd: int
    """Paid to others or to the network, and what idle GPUs would have earned."""
    gain_micro_usd: int
    """What its GPUs still on sale earned more, over all hours followed."""
    locked_micro_usd: int
    """What leases and funded orders must be covered with; quotes need nothing."""


def run_attacks(
    seeds: Sequence[int],
    workers: int | None = None,
    on_seed: Callable[[int], None] | None = None,
    stage: Stage | None = None,
) -> Table:
    """{attack: {figure: mean over seeds}}, the JSON of the command; one worker stays in this process."""
    runs = []
    for seed, run in zip(seeds, _each(stage or Stage(), seeds, workers or 2), strict=True):
        runs.append(run)
        if on_seed is not None:
            on_seed(seed)
    return {name: _mean([run[name] for run in runs]) for name in ATTACKS}


def attack_seed(stage: Stage, seed: int) -> dict[str, Outcome]:
    """Every attack on one seed."""
    before = prelude(stage, seed)
    honest = {n: price_path(before, what_is_seen(Attack(lie=1.0, sources=n), stage)) for n in (3, 4)}
    base = _paid_by_tenants(before, honest[3], 0)
    return {name: _outcome(before, attack, honest[attack.sources], base) for name, attack in ATTACKS.items()}


def _outcome(before: Prelude, attack: Attack, honest: PricePath, base: tuple[float, float]) -> Outcome:
    stage = before.stage
    path = price_path(before, what_is_seen(attack, stage))
    move, cap = (path.column(name) / honest.column(name) - 1.0 for name in ("posted", "cap"))
    price = int(path.column("posted")[0])
    idle = attack.own_leases + attack.hidden
    # Its part of what all tenants pay is its part of the GPUs on sale, after the fee.
    paid = _paid_by_tenants(before, path, stage.gpus(idle))
    forgone = (1 - FEE) * base[0] * idle
    own = (1 - FEE) * (paid[0] * (stage.own_share - idle) / (1 - idle) + paid[1] * stage.own_share)
    without = (1 - FEE) * sum(base) * stage.own_share
    return Outcome(
        peak=_largest(move),
        mean=float(move[: stage.end - stage.start].mean()),
        hours_moved=float(np.count_nonzero(np.abs(move) >= MOVED) / EPOCHS_PER_HOUR),
        cap=_largest(cap),
        cost_micro_usd=round(forgone + _paid_micro_usd(attack, stage, price)),
        gain_micro_usd=round(own - without + forgone),
        locked_micro_usd=round(_locked_micro_usd(attack, stage, price)),
    )


def _paid_micro_usd(attack: Attack, stage: Stage, price: int) -> float:
    """The fee on leases to oneself, and the minute that other people's GPUs ran."""
    own = stage.gpus(attack.own_leases) * stage.attack_h * price * FEE
    return own + stage.gpus(attack.burst_gpus) * BURST_KEPT_S * price / HOUR_S


def _locked_micro_usd(attack: Attack, stage: Stage, price: int) -> float:
    """Leases lock what they cost, orders their limit."""
    leased_gpu_s = stage.gpus(attack.own_leases) * stage.attack_h * HOUR_S + stage.window_gpu_s(attack.burst)
    return (leased_gpu_s * price + stage.window_gpu_s(attack.orders) * BID_MICRO_USD) / HOUR_S


def _paid_by_tenants(before: Prelude, path: PricePath, idle_gpus: int) -> tuple[float, float]:
    """What honest leases accrue (during the attack, after it), each at the price of its start; micro-USD."""
    stage, scenario = before.stage, before.scenario
    supply = scenario.supply_gpus.copy()
    supply[stage.start : stage.end] -= idle_gpus
    posted = path.posted_in(scenario.epochs, stage.last)
    played = play(replace(scenario, supply_gpus=supply), _Replayed(iter(posted.tolist())), posted)
    until_us = scenario.arrival_us + played.run_s * MICROSECONDS
    rate = posted[scenario.arrival_us // PARAMETERS.epoch_us] * scenario.gpus

    def accrued(first: int, last: int) -> float:
        begin_us, end_us = np.maximum(scenario.arrival_us, first * PARAMETERS.epoch_us), last * PARAMETERS.epoch_us
        ran_us = np.clip(np.minimum(until_us, end_us) - begin_us, 0, None)
        return float(np.dot(rate, ran_us) / (HOUR_S * MICROSECONDS))

    return accrued(stage.start, stage.end), accrued(stage.end, stage.last)


@dataclass(frozen=True, slots=True)
class _Replayed:
    """A policy whose prices are known."""

    prices: Iterator[int]

    def next_price(self, seen: Seen) -> int:
        return next(self.prices)


def _largest(move: NDArray[np.float64]) -> float:
    return float(move[np.argmax(np.abs(move))])


def _mean(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Means over seeds; money rounded to the micro-dollar."""
    rows = [asdict(outcome) for outcome in outcomes]
    means = {name: fmean(row[name] for row in rows) for name in rows[0]}
    return {name: round(mean) if name.endswith("_micro_usd") else mean for name, mean in means.items()}


def _each(stage: Stage, seeds: Sequence[int], workers: int) -> Iterator[dict[str, Outcome]]:
    if min(workers, len(seeds)) == 1:
        yield from map(partial(attack_seed, stage), seeds)
        return
    # Spawned, not forked: a forked child of a process with threads can hang.
    with ProcessPoolExecutor(min(workers, len(seeds)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(partial(attack_seed, stage), seeds)
