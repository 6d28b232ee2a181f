"""Between the oracle's price snapshot and the event that carries it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.market.events import PricesPublished
from engine.market.published import HIDDEN, POSTED, MarketName, PricePoint, columns_of, packed
from engine.oracle.interruptible import interruptible_price
from engine.oracle.parameters import OracleParameters
from engine.oracle.snapshot import Limit, MarketPrice, PriceSnapshot

Int = NDArray[np.int64]
HOUR_US = 3_600_000_000
BILLION = 1_000_000_000
_decoder = msgspec.msgpack.Decoder(PriceSnapshot)


def event_of(snapshot: PriceSnapshot, past: Sequence[PricePoint], parameters: OracleParameters) -> PricesPublished:
    """The event of a snapshot; `past`: the epochs before it, for the volatility."""
    names = [name_of(price) for price in snapshot.markets]
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
    columns[5] = _volatility_ppb(names, columns[POSTED], past, parameters)
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


def snapshot_in(packed_snapshot: bytes) -> PriceSnapshot | None:
    """The snapshot that an event carried; None before the first."""
    return _decoder.decode(zlib.decompress(packed_snapshot)) if packed_snapshot else None


def name_of(price: MarketPrice) -> MarketName:
    """(GPU model, region, security tier) as the market names it."""
    return price.market.gpu_model, price.market.region, price.market.tier.name


def by_name_of(snapshot: PriceSnapshot) -> dict[MarketName, MarketPrice]:
    """The markets of a snapshot as the market names them."""
    return {name_of(price): price for price in snapshot.markets}


def _shown_clearing(price: MarketPrice, parameters: OracleParameters) -> int:
    bracket = price.shown_bracket(parameters)
    return HIDDEN if bracket is None else bracket[0]


def _volatility_ppb(
    names: list[MarketName], posted: Int, past: Sequence[PricePoint], parameters: OracleParameters
) -> Int:
    """σ of each market over this epoch and those of `past` that have the same markets."""
    same = [point for point in past if point.markets == names]
    if not same:
        return np.zeros(len(names), dtype=np.int64)
    rows = [columns_of(point.columns, len(names))[POSTED] for point in same]
    changes = np.diff(np.log(np.array([*rows, posted], dtype=float)), axis=0)
    sigma = np.sqrt(np.mean(changes**2, axis=0)) * np.sqrt(HOUR_US / parameters.epoch_us)
    ppb: Int = np.rint(sigma * BILLION).astype(np.int64)
    return ppb
