"""What a play is judged by. docs/backtest.md defines every metric in words; here they are in symbols.

All are the same for all policies: p* and D come from the demand of the last window, whoever was served.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.backtest.scenario import PARAMETERS, Int, Level, Scenario
from engine.backtest.simulation import Play, welfare_micro_usd
from solvers.backtest.dual_path import dual_path
from solvers.backtest.event_loop import SERVED, STOCK_OUT

Float = NDArray[np.float64]
EPOCHS_PER_HOUR = round(1 / PARAMETERS.epoch_h)
BAND = 0.10
ENTERED_EPOCHS = EPOCHS_PER_HOUR
"""In the band for an hour counts as arrived: a price that only crosses the band does not."""
SETTLED_EPOCHS = round(PARAMETERS.window_s / 3_600 / PARAMETERS.epoch_h)
"""In the band for a whole window of demand counts as settled."""
STEADY_AFTER_H = 24
STEP_METRICS = ("hours_up", "hours_down", "overshoot", "undershoot", "hours_up_settled", "hours_down_settled")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Shares are fractions of 1. None: the scenario has no steps, or the price never got there."""

    dual_excess: float
    """Mean over epochs with a full window of (D(posted) − D(p*))/D(p*)."""
    make_whole_share: float
    """Σ over served of max(0, p* − value)·GPU-hours / Σ over served of posted·GPU-hours."""
    hours_up: float | None
    """From the rise until the price is within ±10 % of the new level, and stays there for an hour."""
    hours_down: float | None
    """The same from the fall."""
    overshoot: float | None
    """Highest price after the rise, until the fall, over the new level, less 1."""
    steady_cv: float | None
    """Standard deviation over mean of the price from 24 h after a start or step on; root mean square of levels."""
    stockout_share: float
    """Stock-outs / (served + stock-outs), by gangs: of all who would have paid."""
    welfare_share: float
    """Value less ask of what ran / the scenario's best."""
    hours_up_settled: float | None
    """As `hours_up`, but it stays for a whole window (4 h)."""
    hours_down_settled: float | None
    """As `hours_down`, but it stays for a whole window (4 h)."""
    undershoot: float | None
    """1 less the lowest price after the fall, until the end, over the new level."""
    stockout_gpu_hours_share: float
    """As `stockout_share`, by GPU-hours: it is the large gangs that find no room."""
    utilisation: float
    """GPUs in use over GPUs there are, mean over epochs."""
    stopped_gpu_hours_share: float
    """GPU-hours lost because supply went away / GPU-hours begun."""


class Target(NamedTuple):
    """The limit of one metric, from DESIGN section 3; `at_least` or at most."""

    limit: float
    at_least: bool = False

    def met(self, value: float | None) -> bool:
        """Whether a mean keeps the limit; an unknown one does not."""
        return value is not None and (value >= self.limit if self.at_least else value <= self.limit)


TARGETS = {
    "dual_excess": Target(0.005),
    "make_whole_share": Target(0.001),
    "hours_up": Target(3.5),
    "hours_down": Target(5.0),
    "overshoot": Target(0.12),
    "steady_cv": Target(0.055),
    "stockout_share": Target(0.005),
    "welfare_share": Target(0.985, at_least=True),
}


def measure(scenario: Scenario, played: Play, clearing: Int) -> Metrics:
    """All metrics of one play; `clearing` (epochs,) is p*."""
    would_pay = np.isin(played.outcome, (SERVED, STOCK_OUT))
    stock_out = played.outcome == STOCK_OUT
    begun_s = np.where(played.outcome == SERVED, scenario.gpu_seconds, 0)
    return Metrics(
        dual_excess=dual_excess(scenario, played.posted, clearing),
        make_whole_share=_make_whole_share(scenario, played, clearing),
        steady_cv=steady_cv(scenario.levels, played.posted),
        stockout_share=_share(stock_out.sum(), would_pay.sum()),
        welfare_share=welfare_micro_usd(scenario, played) / scenario.best_welfare_micro_usd,
        stockout_gpu_hours_share=_share(
            scenario.gpu_seconds[stock_out].sum(), scenario.gpu_seconds[would_pay].sum()
        ),
        utilisation=_share(played.used_gpus.sum(), scenario.supply_gpus.sum()),
        stopped_gpu_hours_share=1.0 - _share(np.dot(scenario.gpus, played.run_s), begun_s.sum(), if_none=1.0),
        **_steps(scenario.levels, played.posted),
    )


def mean_metrics(runs: list[Metrics]) -> dict[str, float | None]:
    """The mean of every metric over seeds; None where any seed has none."""
    rows = [asdict(each) for each in runs]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {name: None if None in column else float(np.mean(column)) for name, column in columns.items()}


def missed_targets(means: dict[str, float | None]) -> tuple[str, ...]:
    """Names of the metrics that do not keep DESIGN's limit."""
    return tuple(name for name, target in TARGETS.items() if not target.met(means[name]))


def dual_excess(scenario: Scenario, posted: Int, clearing: Int) -> float:
    """What the posted price gives away: mean of D(posted)/D(p*) − 1, on the window before each epoch."""
    at_posted, at_clearing = (_dual(scenario, price)[scenario.full_window :] for price in (posted, clearing))
    known = at_clearing > 0
    return float(np.mean(at_posted[known] / at_clearing[known] - 1.0)) if known.any() else 0.0


def hours_to_reach(posted: Int, level: Level, held_epochs: int) -> float | None:
    """Hours from the start of a level until `held_epochs` epochs in a row lie within the band around its price."""
    price = _of(posted, level)
    inside = np.abs(price / level.price_micro_usd_per_gpu_hour - 1.0) <= BAND
    running = np.concatenate(([0], np.cumsum(inside)))
    held = np.flatnonzero(running[held_epochs:] - running[:-held_epochs] == held_epochs)
    return float(held[0] / EPOCHS_PER_HOUR) if held.size else None


def beyond(posted: Int, before: Level, after: Level) -> float:
    """How far the price goes past a new level, in the direction of its step; 0 if it does not."""
    ratio = _of(posted, after) / after.price_micro_usd_per_gpu_hour - 1.0
    return max(0.0, float(np.max(ratio if _is_rise(before, after) else -ratio)))


def steady_cv(levels: tuple[Level, ...], posted: Int) -> float | None:
    """Root mean square over epochs of (price / mean of its level − 1), the first 24 h of each level left out."""
    steady = [_of(posted, level)[STEADY_AFTER_H * EPOCHS_PER_HOUR :] for level in levels]
    deviations = [price / price.mean() - 1.0 for price in steady if price.size]
    return float(np.sqrt(np.mean(np.concatenate(deviations) ** 2))) if deviations else None


def _steps(levels: tuple[Level, ...], posted: Int) -> dict[str, float | None]:
    """The metrics of the first rise and of the first fall that there are."""
    found: dict[str, float | None] = {}
    for before, after in pairwise(levels):
        way, past = ("up", "overshoot") if _is_rise(before, after) else ("down", "undershoot")
        found.setdefault(f"hours_{way}", hours_to_reach(posted, after, ENTERED_EPOCHS))
        found.setdefault(f"hours_{way}_settled", hours_to_reach(posted, after, SETTLED_EPOCHS))
        found.setdefault(past, beyond(posted, before, after))
    return {**dict.fromkeys(STEP_METRICS), **found}


def _make_whole_share(scenario: Scenario, played: Play, clearing: Int) -> float:
    """What buyers served with a value below p* would lose at p*, over what all who were served paid."""
    arrivals = np.diff(scenario.edge)
    begin, end = scenario.edge[0], scenario.edge[-1]
    gpu_s = (scenario.gpus * played.run_s)[begin:end]
    loss = np.maximum(np.repeat(clearing, arrivals) - scenario.value_micro_usd_per_gpu_hour[begin:end], 0)
    return _share(np.dot(loss, gpu_s), np.dot(np.repeat(played.posted, arrivals), gpu_s))


def _dual(scenario: Scenario, price: Int) -> Float:
    return dual_path(
        (scenario.value_micro_usd_per_gpu_hour, scenario.gpu_seconds),
        scenario.window_first,
        scenario.edge[:-1],
        scenario.window_supply_gpu_seconds.astype(np.float64),
        scenario.ask_micro_usd_per_gpu_hour,
        price,
    )


def _of(posted: Int, level: Level) -> Int:
    return posted[level.first_h * EPOCHS_PER_HOUR : level.last_h * EPOCHS_PER_HOUR]


def _is_rise(before: Level, after: Level) -> bool:
    return after.price_micro_usd_per_gpu_hour > before.price_micro_usd_per_gpu_hour


def _share(part: float, whole: float, if_none: float = 0.0) -> float:
    return float(part / whole) if whole else if_none
