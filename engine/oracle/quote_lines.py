"""The lines of a quote: GPU-hours by market and hour band, locality premium, spread; what of it is the fee.

All amounts are integer micro-USD and the lines sum to the total exactly. GPU-hours are charged by
`ForwardCurve.amounts_micro_usd` per GPU, so totals add up over splits and chains of time and over GPUs; only the
spread (of a held quote) and the premium are computed on whole parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from engine.domain.money import SECONDS_PER_HOUR
from engine.oracle.forward import ForwardCurve, Int
from engine.oracle.parameters import OracleParameters

BILLION = 1_000_000_000
BAND_EDGES_H = (1, 6, 24, 168)
"""Hours after the snapshot where one band ends and the next begins; the last band is open."""


class LineKind(StrEnum):
    """What a line charges for."""

    GPU_HOURS = "GPU_HOURS"
    LOCALITY = "LOCALITY"
    SPREAD = "SPREAD"


class SetBy(StrEnum):
    """What decides the price in a band: the forward curve, the ask above it, or now one and now the other."""

    FORWARD = "FORWARD"
    ASK = "ASK"
    BOTH = "BOTH"


@dataclass(frozen=True, slots=True)
class Part:
    """GPUs of one market at one ask. `elsewhere`: the cheapest curve of the same model and tier anywhere; the
    premium over it is itemised as LOCALITY. None: not itemised.
    """

    market: int
    gpus: int
    ask_micro_usd_per_gpu_hour: int
    curve: ForwardCurve
    elsewhere: ForwardCurve | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A held quote: σ (of the log price, per √hour) and time to live in hours."""

    volatility_per_sqrt_hour: float
    ttl_h: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line: an amount for GPUs over [from, to) seconds after the snapshot. On the spread `market` is -1."""

    kind: LineKind
    market: int
    gpus: int
    from_s: int
    to_s: int
    amount_micro_usd: int
    set_by: SetBy


@dataclass(frozen=True, slots=True)
class QuotePrice:
    """Lines that sum to `total_micro_usd`; the fee is inside: total = supplier + fee."""

    lines: tuple[Line, ...]
    total_micro_usd: int
    network_fee_micro_usd: int
    supplier_micro_usd: int


def quote_price(
    parts: Sequence[Part], start_s: int, end_s: int, parameters: OracleParameters, hold: Hold | None = None
) -> QuotePrice:
    """Price the seconds [start, end) after the snapshot, 0 <= start < end.

    Monotone in the GPUs of any part and in `end_s`; a hold adds ⌈total · 0.4·σ·√TTL⌉.
    """
    lines = [line for part in parts for line in _part_lines(part, start_s, end_s)]
    total = sum(line.amount_micro_usd for line in lines)
    if hold is not None:
        spread = spread_micro_usd(total, hold, parameters)
        lines.append(
            Line(LineKind.SPREAD, -1, sum(part.gpus for part in parts), start_s, end_s, spread, SetBy.FORWARD)
        )
        total += spread
    fee = fee_micro_usd(total, parameters)
    return QuotePrice(tuple(lines), total, fee, total - fee)


def spread_micro_usd(total_micro_usd: int, hold: Hold, parameters: OracleParameters) -> int:
    """Price of holding: the total times spread_factor·σ·√TTL to the billionth, rounded up to the micro-dollar."""
    share = parameters.spread_factor * hold.volatility_per_sqrt_hour * math.sqrt(hold.ttl_h)
    return -(-total_micro_usd * round(share * BILLION) // BILLION)


def fee_micro_usd(charged_micro_usd: int, parameters: OracleParameters) -> int:
    """The network's part of what is charged, rounded down; the supplier receives the rest."""
    return charged_micro_usd * parameters.network_fee_ppm // 1_000_000


def refund_micro_usd(quoted: Part, current: ForwardCurve, from_s: int, end_s: int, elapsed_s: int) -> int:
    """What early release of a part pays back for [from, end): min(quoted, current forward), spread not included.

    Seconds count from the quoted snapshot, which is `elapsed_s` older than that of `current`.
    """
    ask = quoted.ask_micro_usd_per_gpu_hour
    then = quoted.curve.amount_micro_usd(from_s, end_s, ask)
    now = current.amount_micro_usd(from_s - elapsed_s, end_s - elapsed_s, ask)
    return quoted.gpus * min(then, now)


def _part_lines(part: Part, start_s: int, end_s: int) -> Iterator[Line]:
    edges = [start_s, *(s for h in BAND_EDGES_H if start_s < (s := h * SECONDS_PER_HOUR) < end_s), end_s]
    ask, seconds = part.ask_micro_usd_per_gpu_hour, np.array(edges)
    charged = np.diff(part.curve.amounts_micro_usd(seconds, ask))
    base = charged
    if part.elsewhere is not None:
        base = np.minimum(charged, np.diff(part.elsewhere.amounts_micro_usd(seconds, ask)))
    set_by = _set_by(part, seconds, charged)
    for kind, amounts in ((LineKind.GPU_HOURS, base), (LineKind.LOCALITY, charged - base)):
        for (first, last), amount, by in zip(pairwise(edges), amounts.tolist(), set_by, strict=True):
            if amount or kind is LineKind.GPU_HOURS:
                yield Line(kind, part.market, part.gpus, first, last, part.gpus * amount, by)


def _set_by(part: Part, seconds: Int, charged: Int) -> list[SetBy]:
    ask = part.ask_micro_usd_per_gpu_hour
    forward = charged == np.diff(part.curve.amounts_micro_usd(seconds))
    flat = charged == np.diff(ForwardCurve(ask, ask, 1.0).amounts_micro_usd(seconds))
    return [tuple(SetBy)[code] for code in np.select([forward, flat], [0, 1], 2).tolist()]
