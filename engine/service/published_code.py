"""Between the oracle's price snapshot and the event that carries it."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.market.events import PricesPublished
from engine.market.published import HIDDEN, POSTED, VOLATILITY, MarketName, packed
from engine.oracle.interruptible import interruptible_price
from engine.oracle.markets import Market
from engine.oracle.parameters import OracleParameters
from engine.oracle.snapshot import Limit, MarketPrice, PriceSnapshot
from engine.service.past_prices import Moves
from engine.service.thread_rest import no_rest, rested

Int = NDArray[np.int64]
HOUR_US = 3_600_000_000
BILLION = 1_000_000_000


class _Packed(msgspec.Struct):
    """A snapshot whose markets are still bytes."""

    price_snapshot_id: str
    epoch: int
    taken_at_us: int
    markets: list[msgspec.Raw]


_decoder, _price_decoder = msgspec.msgpack.Decoder(_Packed), msgspec.msgpack.Decoder(MarketPrice)


def event_of(snapshot: PriceSnapshot, moves: Moves, parameters: OracleParameters) -> PricesPublished:
    """The event of a snapshot; `moves`: of the epochs before it, for the volatility."""
    names = [name_of(price.market) for price in snapshot.markets]
    columns = np.array(
        [
            [price.posted_micro_usd_per_gpu_hour for price in snapshot.markets],
            [price.floor_micro_usd_per_gpu_hour for price in snapshot.markets],
            [price.cap_micro_usd_per_gpu_hour for price in snapshot.markets],
            [price.long_run_micro_usd_per_gpu_hour for price in snapshot.markets],
            [_shown_clearing(price, parameters) for price in snapshot.markets],
            [0] * len(names),
            [price.limit is Limit.FROZEN for price in snapshot.markets],
        ],
        dtype=np.int64,
    )
    interruptible = [interruptible_price(price, parameters) for price in snapshot.markets]
    columns[VOLATILITY] = _volatility_ppb(columns[POSTED], moves, parameters)
    return PricesPublished(
        at_us=snapshot.taken_at_us,
        price_snapshot_id=snapshot.price_snapshot_id,
        epoch=snapshot.epoch,
        taken_at_us=snapshot.taken_at_us,
        markets=names,
        columns=packed(columns),
        snapshot=zlib.compress(msgspec.msgpack.encode(snapshot), 1),
        half_life_h=parameters.forward_half_life_h,
        spread_factor=parameters.spread_factor,
        network_fee_ppm=parameters.network_fee_ppm,
        demand_kept_us=parameters.window_s * 1_000_000,
        history_kept_us=parameters.history_retention_us,
        interruptible=zlib.compress(np.array(interruptible, dtype="<i8").tobytes(), 1),
    )


def snapshot_in(packed_snapshot: bytes, rest: Callable[[], None] = no_rest) -> PriceSnapshot | None:
    """The snapshot that an event carried; None before the first. Market by market, so that threads take turns."""
    if not packed_snapshot:
        return None
    seen = _decoder.decode(zlib.decompress(packed_snapshot))
    markets = tuple(_price_decoder.decode(raw) for raw in rested(seen.markets, rest))
    return PriceSnapshot(seen.price_snapshot_id, seen.epoch, seen.taken_at_us, markets)


def name_of(market: Market) -> MarketName:
    """(GPU model, region, security tier) as the market names it."""
    return market.gpu_model, market.region, market.tier.name


def by_name_of(snapshot: PriceSnapshot) -> dict[MarketName, MarketPrice]:
    """The markets of a snapshot as the market names them."""
    return {name_of(price.market): price for price in snapshot.markets}


def _shown_clearing(price: MarketPrice, parameters: OracleParameters) -> int:
    bracket = price.shown_bracket(parameters)
    return HIDDEN if bracket is None else bracket[0]


def _volatility_ppb(posted: Int, moves: Moves, parameters: OracleParameters) -> Int:
    """σ of each market over this epoch and those before it."""
    if not moves.epochs:
        return np.zeros(posted.size, dtype=np.int64)
    squares = moves.squares + (np.log(posted.astype(float)) - moves.last) ** 2
    sigma = np.sqrt(squares / moves.epochs) * np.sqrt(HOUR_US / parameters.epoch_us)
    ppb: Int = np.rint(sigma * BILLION).astype(np.int64)
    return ppb
