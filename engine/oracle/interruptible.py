"""What a market's interruptible GPUs cost (DESIGN, section 3.5): max(p−, floor), where their asks are lower.

Who gets them is decided as each gang comes, by the exact placement at these prices; what runs pays each epoch's
(`engine.market.settle_decision`), and makes room for what waits (`engine.market.room_decision`).
"""

from __future__ import annotations

from engine.oracle.parameters import OracleParameters
from engine.oracle.snapshot import MarketPrice


def interruptible_price(price: MarketPrice, parameters: OracleParameters) -> int:
    """What a market's interruptible GPUs cost until the next epoch, where their asks are lower: max(p−, floor).

    p− as it may be shown, rounded down to the grid; where too few tenants set it, the posted price stands in for
    one above the floor: a price must not reveal a rival's bid.
    """
    floor, bracket = price.floor_micro_usd_per_gpu_hour, price.shown_bracket(parameters)
    if bracket is not None:
        return max(bracket[0], floor)
    scarce = price.clearing_micro_usd_per_gpu_hour > floor
    return max(price.posted_micro_usd_per_gpu_hour, floor) if scarce else floor
