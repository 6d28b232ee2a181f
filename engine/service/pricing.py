"""The part of an epoch that needs no engine: from what was seen to the event that publishes it.

Pure, so it may run in another process; what goes there is arrays, not requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from engine.market.events import PricesPublished
from engine.oracle.epoch import MarketView, next_epoch
from engine.oracle.markets import Bids
from engine.oracle.parameters import OracleParameters
from engine.oracle.references import ReferenceQuote
from engine.oracle.snapshot import PriceSnapshot
from engine.service.past_prices import Moves
from engine.service.published_code import event_of, snapshot_in


@dataclass(frozen=True, slots=True)
class Seen:
    """What an epoch is priced from. `previous`: the snapshot before as its event carried it, empty before the
    first; `moves`: of the epochs before.
    """

    previous: bytes
    view: MarketView
    orders: Bids
    arrivals: Bids
    references: Sequence[ReferenceQuote]
    moves: Moves
    now_us: int
    parameters: OracleParameters


Pricing = Callable[[Seen], PricesPublished | None]


def priced(seen: Seen) -> PricesPublished | None:
    """The event of the next epoch; None if the last one is not over."""
    previous = _snapshot_in(seen.previous)
    demand = seen.orders, seen.arrivals
    snapshot = next_epoch(previous, seen.view, *demand, seen.references, seen.now_us, seen.parameters)
    return None if snapshot is previous else event_of(snapshot, seen.moves, seen.parameters)


@lru_cache(maxsize=1)
def _snapshot_in(packed: bytes) -> PriceSnapshot | None:
    return snapshot_in(packed)
