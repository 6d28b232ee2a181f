"""All rounding of money, and nothing else.

Money is integer micro-USD. A rate is micro-USD per hour; a total is rate × seconds / 3600, rounded half up
to the micro-dollar once, on the sum. Lines of an itemised total take the differences of the rounded running
sum, so that they add up to the total exactly. Parts of an amount are rounded down, and where they must
exhaust it, the largest remainders get what is left. A part of a GPU pays its share of the GPU's price, rounded up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from engine.domain.limits import MILLI_OF_GPU

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


def itemise_costs(running_costs: Iterable[int]) -> list[int]:
    """Lines of running sums in micro-USD · seconds / hour; they sum to the last of them, rounded."""
    charged = [0, *map(rounded_micro_usd, running_costs)]
    return [total - before for before, total in pairwise(charged)]


def rounded_micro_usd(cost: int) -> int:
    """A cost in micro-USD · seconds / hour, half up."""
    return total_micro_usd(cost, 1)


def rounded_down_micro_usd(cost: int) -> int:
    """The same, down: what is given back by choice never exceeds what was paid for it."""
    return cost // SECONDS_PER_HOUR


def micro_usd(usd: float) -> int:
    """A dollar figure of an outside source as micro-USD, nearest, ties to even."""
    return round(usd * 1_000_000)


def part_micro_usd(amount_micro_usd: int, part: int, whole: int) -> int:
    """part / whole of an amount, rounded down: what is cut off stays with whoever pays. 0 of nothing."""
    return amount_micro_usd * part // whole if part else 0


def share_of_gpu(cost: int, gpu_milli: int) -> int:
    """What a part of a GPU pays of a price or cost, in its unit, rounded up.

    The parts of one card together never pay less than the card, and one part never pays more than the whole.
    """
    return -(-cost * gpu_milli // MILLI_OF_GPU)


def least_price_with_share(share: int, gpu_milli: int) -> int:
    """The least price of a whole GPU of which the share is so much; `share` at least 1."""
    return (share - 1) * MILLI_OF_GPU // gpu_milli + 1


def split_micro_usd(amount_micro_usd: int, weights: Sequence[int]) -> list[int]:
    """An amount divided by weights: rounded down, then a micro-dollar more for the largest remainders, ties to the
    first. The parts sum to the amount exactly. Weights are not negative, and not all 0 if the amount is not."""
    if not amount_micro_usd:
        return [0] * len(weights)
    whole = sum(weights)
    parts = [divmod(amount_micro_usd * weight, whole) for weight in weights]
    left = amount_micro_usd - sum(part for part, _ in parts)
    first = sorted(range(len(parts)), key=lambda place: -parts[place][1])[:left]
    gets_more = set(first)
    return [part + (place in gets_more) for place, (part, _) in enumerate(parts)]
