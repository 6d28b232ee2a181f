"""Supply and demand of one market as steps, as a chart shows them, and how far its price wanders.

Demand is shown so that no bid can be read from it: each step rests on at least `min_tenants_shown` tenants and is
rounded down to the grid; what is left over at the low end is not shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.oracle.markets import Bids, Int, Supply
from engine.oracle.parameters import HOUR_US, OracleParameters


@dataclass(frozen=True, slots=True)
class Step:
    """So many GPU-seconds at a price, micro-USD per GPU-hour."""

    price_micro_usd_per_gpu_hour: int
    gpu_seconds: int


def supply_steps(market: int, supply: Supply, gpu_seconds: Int) -> list[Step]:
    """What can be sold in the window at each ask, rising; `gpu_seconds` of each row of supply."""
    here = (supply.market == market) & (gpu_seconds > 0)
    asks, of_row = np.unique(supply.ask_micro_usd_per_gpu_hour[here], return_inverse=True)
    amounts = np.zeros(asks.size, dtype=np.int64)
    np.add.at(amounts, of_row, gpu_seconds[here])
    return [Step(*row) for row in zip(asks.tolist(), amounts.tolist(), strict=True)]


def demand_steps(market: int, bids: Bids, parameters: OracleParameters) -> list[Step]:
    """What is bid for by requests that may use the market, at falling prices."""
    may_use = np.zeros(bids.sets.sizes.size, dtype=bool)
    may_use[bids.sets.of_pair[bids.sets.markets == market]] = True
    here = np.flatnonzero(may_use[bids.market_set] & (bids.gpu_seconds > 0))
    falling = here[np.argsort(-bids.value_micro_usd_per_gpu_hour[here], kind="stable")]
    steps, amount, tenants, grid = [], 0, set(), parameters.shown_step_micro_usd
    for value, seconds, tenant in zip(
        bids.value_micro_usd_per_gpu_hour[falling].tolist(),
        bids.gpu_seconds[falling].tolist(),
        bids.tenant[falling].tolist(),
        strict=True,
    ):
        amount += seconds
        tenants.add(tenant)
        if len(tenants) >= parameters.min_tenants_shown:
            steps.append(Step(value // grid * grid, amount))
            amount, tenants = 0, set()
    return steps


def volatility_per_sqrt_hour(posted: Sequence[int], parameters: OracleParameters) -> float:
    """σ of a market: root mean square change of the log posted price per epoch, scaled to an hour. 0 below two."""
    if len(posted) < 2:
        return 0.0
    changes = np.diff(np.log(np.array(posted, dtype=float)))
    return float(np.sqrt(np.mean(changes**2))) * math.sqrt(HOUR_US / parameters.epoch_us)
