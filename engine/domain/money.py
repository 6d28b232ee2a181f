"""All rounding of money, and nothing else.

Money is integer micro-USD. A rate is micro-USD per hour; a total is rate × seconds / 3600, rounded half up
to the micro-dollar once, on the sum. Lines of an itemised total take the differences of the rounded running
sum, so that they add up to the total exactly.
"""

from __future__ import annotations

from collections.abc import Iterable

SECONDS_PER_HOUR = 3_600


def total_micro_usd(rate_micro_usd_per_hour: int, duration_s: int) -> int:
    """Price of running at a rate for a duration, half up. Arguments are non-negative integers."""
    return (rate_micro_usd_per_hour * duration_s * 2 + SECONDS_PER_HOUR) // (2 * SECONDS_PER_HOUR)


def itemise_micro_usd(rates_micro_usd_per_hour: Iterable[int], duration_s: int) -> list[int]:
    """Split the total of all rates into one line per rate; the lines sum to `total_micro_usd` of the sum."""
    lines, rate, charged = [], 0, 0
    for part in rates_micro_usd_per_hour:
        rate += part
        total = total_micro_usd(rate, duration_s)
        lines.append(total - charged)
        charged = total
    return lines


def rounded_micro_usd(cost: int) -> int:
    """A cost in micro-USD · seconds / hour, half up."""
    return total_micro_usd(cost, 1)


def rounded_down_micro_usd(cost: int) -> int:
    """The same, down: what is given back by choice never exceeds what was paid for it."""
    return cost // SECONDS_PER_HOUR


def micro_usd(usd: float) -> int:
    """A dollar figure of an outside source as micro-USD, nearest, ties to even."""
    return round(usd * 1_000_000)
