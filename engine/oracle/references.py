"""Reference prices: what a GPU model costs elsewhere, from sources that may be wrong (DESIGN, section 3.6).

A source's newest price counts. It is rejected, with a reason, if it is no positive finite number, stale, from the
future, or contradicts itself. The reference is the median of what is left: with three sources one liar moves it
no further than to an honest price. It is unhealthy below the quorum, or if no majority agrees with the median.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.domain.limits import MAX_PRICE_MICRO_USD_PER_GPU_HOUR
from engine.oracle.parameters import OracleParameters


class Fault(StrEnum):
    """Why a price of a source, or the whole reference, cannot be used."""

    NOT_A_NUMBER = "NOT_A_NUMBER"
    INFINITE = "INFINITE"
    NOT_POSITIVE = "NOT_POSITIVE"
    TOO_HIGH = "TOO_HIGH"
    STALE = "STALE"
    FROM_THE_FUTURE = "FROM_THE_FUTURE"
    SELF_CONTRADICTORY = "SELF_CONTRADICTORY"
    """One source, one time, two prices."""
    BELOW_QUORUM = "BELOW_QUORUM"
    """Fewer usable sources than the quorum; stands beside the faults of those that were rejected."""
    CONTRADICTORY = "CONTRADICTORY"
    """No majority of the sources is near the median."""
    SUPPLY_STALE = "SUPPLY_STALE"
    """The view of supply and demand is too old, or from the future."""


@dataclass(frozen=True, slots=True)
class ReferenceQuote:
    """What a source says a GPU-hour of a model costs on demand, tier VERIFIED, in micro-USD. Not yet trusted."""

    source: str
    gpu_model: str
    price_micro_usd_per_gpu_hour: float
    observed_at_us: int


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference of one model. `age_us`: of the oldest price used. `deviation`: the largest |price/median − 1|
    among those used; `deviating`: sources off by more than the limit. Value, age and deviation are None if
    nothing is usable; a value below the quorum is for information, and the faults say so.
    """

    value_micro_usd_per_gpu_hour: int | None
    sources: tuple[str, ...]
    age_us: int | None
    deviation: float | None
    deviating: tuple[str, ...]
    rejected: tuple[tuple[str, Fault], ...]
    faults: tuple[Fault, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether floors and caps may follow it."""
        return not self.faults


def reference_of(quotes: Iterable[ReferenceQuote], now_us: int, parameters: OracleParameters) -> Reference:
    """Judge the quotes of one GPU model. Never raises on a value; their order does not matter."""
    by_source: dict[str, list[ReferenceQuote]] = {}
    for quote in quotes:
        by_source.setdefault(quote.source, []).append(quote)
    judged = [(source, *_judge(by_source[source], now_us, parameters)) for source in sorted(by_source)]
    rejected = tuple((source, fault) for source, _, fault in judged if fault is not None)
    used = [quote for _, quote, fault in judged if fault is None]
    return _summary(used, rejected, now_us, parameters)


def _judge(
    quotes: Sequence[ReferenceQuote], now_us: int, parameters: OracleParameters
) -> tuple[ReferenceQuote, Fault | None]:
    """The newest quote of one source, and what is wrong with it."""
    newest = max(quotes, key=lambda quote: quote.observed_at_us)
    same_time = {repr(q.price_micro_usd_per_gpu_hour) for q in quotes if q.observed_at_us == newest.observed_at_us}
    age_us = now_us - newest.observed_at_us
    if len(same_time) > 1:
        return newest, Fault.SELF_CONTRADICTORY
    if age_us < 0:
        return newest, Fault.FROM_THE_FUTURE
    if age_us > parameters.max_age_us(newest.source):
        return newest, Fault.STALE
    return newest, _number_fault(newest.price_micro_usd_per_gpu_hour)


def _number_fault(price: float) -> Fault | None:
    if math.isnan(price):
        return Fault.NOT_A_NUMBER
    if math.isinf(price):
        return Fault.INFINITE
    if price < 1:
        return Fault.NOT_POSITIVE
    return Fault.TOO_HIGH if price > MAX_PRICE_MICRO_USD_PER_GPU_HOUR else None


def _summary(
    used: Sequence[ReferenceQuote],
    rejected: tuple[tuple[str, Fault], ...],
    now_us: int,
    parameters: OracleParameters,
) -> Reference:
    faults = []
    if len(used) < parameters.quorum:
        faults = [Fault.BELOW_QUORUM, *sorted({fault for _, fault in rejected})]
    if not used:
        return Reference(None, (), None, None, (), rejected, tuple(faults))
    prices = sorted(quote.price_micro_usd_per_gpu_hour for quote in used)
    median = (prices[(len(prices) - 1) // 2] + prices[len(prices) // 2]) / 2
    factor = 1 + parameters.deviation_limit
    deviating = [
        quote.source
        for quote in used
        if not median / factor <= quote.price_micro_usd_per_gpu_hour <= median * factor
    ]
    if 2 * len(deviating) >= len(used):
        faults.append(Fault.CONTRADICTORY)
    return Reference(
        value_micro_usd_per_gpu_hour=round(median),
        sources=tuple(quote.source for quote in used),
        age_us=now_us - min(quote.observed_at_us for quote in used),
        deviation=max(abs(price / median - 1) for price in prices),
        deviating=tuple(deviating),
        rejected=rejected,
        faults=tuple(faults),
    )
